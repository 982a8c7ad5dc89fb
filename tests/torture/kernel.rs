//! The system calls that the standard library does not have. No other module here calls libc.

mod clock;
mod error;
mod files;
mod filter;
mod namespace;
mod process;

pub(crate) use clock::monotonic;
pub(crate) use files::{
    create_memory_file, find_byte_lock, is_range_locked, try_flock, try_lock_range, unflock, unlock_range,
};
pub(crate) use filter::{Answer, Event, Filtered, Launch, SystemCall, Watched, forbid_threads, start_filtered};
pub(crate) use namespace::{mount, unmount, unshare, user_and_group};
pub(crate) use process::{
    end_with_parent, ends_within_time, ignore_termination, kill, leave_terminal, reap_until, try_wait, wait,
};
