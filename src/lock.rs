//! Locks: acquire, wait, hold, inherit, release.

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
