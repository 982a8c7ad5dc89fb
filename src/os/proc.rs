//! The proc(5) file system: processes, the lock table of the kernel, and the processes that use ports.
//!
//! The layers, the lowest first: `socket_table`, `portable` (other systems), [`process`] and [`port_owners`], [`lock_table`], [`openers`],
//! [`sharers`], `leaseholders`.

pub(crate) mod leaseholders;
pub mod lock_table;
pub mod openers;
pub mod port_owners;
#[cfg(any(test, not(linux)))]
pub(in crate::os) mod portable;
pub mod process;
pub mod sharers;
pub mod socket_table;
