//! The exit statuses of the helper and the keeper. The keeper includes this file.

pub(crate) const DONE: i32 = 0;
/// The negative answer of `status` and other queries, or a refusal (`ErrorClass::Refused`).
pub(crate) const NO: i32 = 1;
pub(crate) const USAGE: i32 = 2;
/// Another process holds the lock. `-E` replaces this status.
pub(crate) const BUSY: i32 = 75;
/// The lock file was replaced while it was opened: the caller must open it again.
pub(crate) const REPLACED: i32 = 76;
/// With `--try-first`: the lock is held. With `path --open-for`: another process has a lease on the lock file. The shell library then
/// calls the helper again to wait.
pub(crate) const WOULD_WAIT: i32 = 77;
/// As [`WOULD_WAIT`], from a process that ignores SIGINT or SIGQUIT.
pub(crate) const WOULD_WAIT_IGNORING: i32 = 78;
/// `--coalesce`, `--skip-ok`: the script has no lock, and should end with success.
pub(crate) const COVERED: i32 = 80;
/// The wait timed out. `-E` replaces this status.
pub(crate) const TIMED_OUT: i32 = 124;
/// This program failed, such as with an error of the system.
pub(crate) const FAILED: i32 = 125;
/// The command exists but cannot be run.
pub(crate) const CANNOT_RUN: i32 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: i32 = 127;
pub(crate) const INTERRUPTED: i32 = 130;
