//! Observes locks: finds the processes that hold a lock or wait for it, from the kernel and from the holder record.
//!
//! `status`, `list`, `doctor`, `unlock --kill` and the messages about contention call the functions in `observe`. They take no
//! lock, so they never make another process fail to acquire one.
//!
//! The files, each of which only imports from those above it:
//!
//! - `lock_file`: the identity of a lock file
//! - `stall`: the reason why a process does not go on
//! - `holder`, `waiter`: the facts about a process
//! - `lease`: file leases on a lock file
//! - `state`: the result, as plain data
//! - `tree`: the processes below a holder
//! - `belief`: how far a record can be believed
//! - `portable`: the holders on systems other than Linux
//! - `shortcut`: answers without an examination of all processes
//! - `observe`: the functions that observe flock(2) locks
//! - [`ranges`]: the functions that observe fcntl(2) locks

mod belief;
mod holder;
mod lease;
mod lock_file;
mod observe;
#[cfg(not(linux))]
mod portable;
pub mod ranges;
mod shortcut;
mod stall;
mod state;
mod tree;
mod waiter;

pub use holder::{Holder, format_pids};
pub use lease::{FileLease, LeasedFile, find_lasting_lease, find_lease, find_lease_patience, find_listed_lease};
pub use lock_file::derive_label;
pub(crate) use lock_file::{identify_file, identify_file_in};
pub use observe::{find_availability, observe_all, observe_briefly, observe_lock, observe_store};
pub(crate) use observe::{find_conflict, observe_briefly_until, observe_taker};
#[cfg(not(linux))]
pub(crate) use portable::find_lock_holders;
pub use stall::Stall;
pub use state::{Availability, Belief, BlindSpot, Holding, Kin, LockState, RangeHolding, find_kin};
pub use tree::{ProcessTree, find_process_trees};
pub use waiter::Waiter;
