//! The exit statuses, which are those of `aba-lock`, and the status for each fault.

use crate::fault::Fault;

/// The command succeeded.
pub(crate) const DONE: i32 = 0;
/// The answer is no: the name is free, or the lease is not ours.
pub(crate) const NO: i32 = 1;
/// The arguments or the environment are wrong.
pub(crate) const USAGE: i32 = 2;
/// Another process holds the lease.
pub(crate) const BUSY: i32 = 75;
/// The descriptor is not open on the lock file.
pub(crate) const REPLACED: i32 = 76;
/// The wait timed out.
pub(crate) const TIMED_OUT: i32 = 124;
/// No server answers, or an operation on this machine failed.
pub(crate) const FAILED: i32 = 125;
/// The command cannot be run.
pub(crate) const CANNOT_RUN: i32 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: i32 = 127;

/// Returns the exit status for a fault.
pub(crate) fn status_for_fault(fault: &Fault) -> i32 {
    match fault {
        Fault::Busy { .. } | Fault::Gone { .. } => BUSY,
        Fault::TimedOut { .. } => TIMED_OUT,
        Fault::Misused { .. } => USAGE,
        Fault::NotRun { found: true, .. } => CANNOT_RUN,
        Fault::NotRun { found: false, .. } => NOT_FOUND,
        Fault::Unreachable { .. } | Fault::Failed { .. } => FAILED,
    }
}
