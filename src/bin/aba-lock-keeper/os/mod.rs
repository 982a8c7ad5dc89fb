//! System calls that the library does not make. Nothing here knows about locks or leases.

pub(crate) mod alarm;
pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod signal;
