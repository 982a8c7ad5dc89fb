//! Locks as flock(1) takes them.

pub mod arguments;
pub mod lockable;
