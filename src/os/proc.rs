//! The proc(5) file system: processes, the kernel's lock table, and the owners of ports.

pub mod lock_table;
pub mod port_owners;
pub mod process;
