//! Locks in the way of flock(1): the parser of its arguments, and locks on any file, directory or descriptor.
//!
//! The command `aba-lock flock` uses both. `peer` uses the parser for the arguments of other processes, and the lock
//! service locks its store with a [`Lockable`](lockable::Lockable). Each file imports only files above it in this list:
//! [`byte_range`], [`numbers`], [`arguments`], [`lockable`].

pub mod arguments;
pub mod byte_range;
pub mod lockable;
pub mod numbers;
