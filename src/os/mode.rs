//! The bits of a mode for which `libc` has a type of its own on each system.

/// The program runs with the rights of the owner of its file.
pub const SET_USER: u32 = 0o4000;

/// The program runs with the rights of the group of its file; a directory passes its group on.
pub const SET_GROUP: u32 = 0o2000;

/// Only the owners of a directory and of a file can remove the file from the directory.
pub const STICKY: u32 = 0o1000;

/// All users may write.
pub const WRITE_BY_OTHERS: u32 = 0o002;
