//! Commands for administrators: [`doctor`] checks the machine and the installed files, and [`metrics`] counts locks and
//! events.

pub mod doctor;
pub mod metrics;
