//! Commands for administrators: checks of the machine, and metrics.

pub mod doctor;
pub mod metrics;
