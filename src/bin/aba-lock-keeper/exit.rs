//! The exit statuses, and which fault has which. They are those of `aba-lock`.

use crate::server::Fault;

/// Acquired, done, yes.
pub(crate) const DONE: i32 = 0;
/// No: it is free.
pub(crate) const NO: i32 = 1;
/// Wrong usage.
pub(crate) const USAGE: i32 = 2;
/// Held by another, or lost to one.
pub(crate) const BUSY: i32 = 75;
/// The descriptor is not open on the lock file.
pub(crate) const REPLACED: i32 = 76;
/// The wait timed out.
pub(crate) const TIMED_OUT: i32 = 124;
/// No server, or something here failed.
pub(crate) const FAILED: i32 = 125;
/// The command cannot be run.
pub(crate) const CANNOT_RUN: i32 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: i32 = 127;

/// The status for `fault`.
pub(crate) fn of(fault: &Fault) -> i32 {
    match fault {
        Fault::Busy { .. } | Fault::Gone { .. } => BUSY,
        Fault::TimedOut { .. } => TIMED_OUT,
        Fault::Misused { .. } => USAGE,
        Fault::NotRun { found: true, .. } => CANNOT_RUN,
        Fault::NotRun { found: false, .. } => NOT_FOUND,
        Fault::Unreachable { .. } | Fault::Failed { .. } => FAILED,
    }
}
