//! Locks: acquire, wait for, inherit, observe and release them.
//!
//! A lock is an flock(2) lock on a file. The kernel decides who holds it. Everything else here finds out about that, reports
//! it, or waits for it.
//!
//! Start with [`acquire`], [`wait`] and [`holders`]. The modules in layers, each of which only imports from those above it:
//!
//! 1. [`request`], [`error`]: plain data. An error contains [`deadlock::circle`], which imports nothing of this folder.
//! 2. [`log_flag`], [`open`], [`record`], [`flock`]: the lock file, its content, and locks as flock(1) takes them
//! 3. `peer`: recognizes other programs that lock; [`promise`]: the numbers of runs in the attributes of the lock file
//! 4. [`holders`]: the processes that hold a lock or wait for it
//! 5. [`deadlock`], [`events`], [`clean`], [`kill`], [`pid_file`]: the users of this knowledge
//!    [`history`]: past holdings, from the event log
//! 6. `unlock`, `slots`, `replace`, `ownership`, [`inherit`], [`keeper`], [`binding`], [`release`]: locks with slots, and locks on descriptors that several
//!    processes share, or that only the holder has
//! 7. `fcntl`, `priority`, `turnstile`, `lock_wait`: locks of fcntl(2) on whole files, the order of waiters, and the wait for a lock or for a slot
//! 8. [`wait`], [`coalesce`], `grant`, [`acquire`]: blocking until a lock is granted, calls that end without it, and the steps of an
//!    acquisition; [`direct`]: these steps in the process of a script, if the lock is free; [`free_wait`]: waiting until a lock is
//!    free, without acquiring it; [`max_time`]: the watcher that ends the holders after some time

pub mod acquire;
pub mod binding;
pub mod clean;
pub mod coalesce;
pub mod deadlock;
pub mod direct;
pub mod error;
pub mod events;
mod fcntl;
pub mod flock;
pub mod free_wait;
mod grant;
pub mod history;
pub mod holders;
pub mod inherit;
pub mod keeper;
pub mod kill;
pub mod linked_file;
mod lock_wait;
pub mod log_flag;
pub mod max_time;
pub mod offer;
pub mod open;
mod ownership;
pub(crate) mod peer;
pub mod pid_file;
mod priority;
pub mod promise;
pub mod record;
pub mod release;
mod replace;
pub mod request;
mod slots;
mod turnstile;
mod unlock;
pub mod wait;
