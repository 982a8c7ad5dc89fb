//! Locks: acquire, wait for, inherit, observe and release them.
//!
//! A lock is an flock(2) lock on a file. The kernel decides who holds it. Everything else here finds out about that, reports
//! it, or waits for it.
//!
//! Start with [`acquire`], [`wait`] and [`holders`]. The modules in layers, each of which only imports from those above it:
//!
//! 1. [`error`], [`request`]: plain data
//! 2. [`open`], [`record`], [`flock`]: a lock file, its content, and the ways of flock(1)
//! 3. `peer`: recognizes other programs that lock
//! 4. [`holders`]: the processes that hold a lock or wait for it
//! 5. [`deadlock`], [`events`], [`clean`], [`kill`], [`pid_file`]: what follows from the holders
//! 6. [`inherit`], [`keeper`], `ownership`, [`release`]: locks on descriptors that other processes share
//! 7. [`wait`], [`acquire`]: blocking until a lock is granted, and the whole of an acquisition

pub mod acquire;
pub mod clean;
pub mod deadlock;
pub mod error;
pub mod events;
pub mod flock;
pub mod holders;
pub mod inherit;
pub mod keeper;
pub mod kill;
pub mod open;
mod ownership;
pub(crate) mod peer;
pub mod pid_file;
pub mod record;
pub mod release;
pub mod request;
pub mod wait;
