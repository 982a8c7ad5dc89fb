//! The exit statuses, which are those of `aba-lock`, and the status for each fault.

#[allow(dead_code, reason = "the keeper needs some of them")]
#[path = "../aba-lock/exit/status.rs"]
mod status;

use crate::fault::Fault;

pub(crate) use status::{BUSY, CANNOT_RUN, DONE, FAILED, NO, NOT_FOUND, REPLACED, TIMED_OUT, USAGE};

/// Returns the exit status for a fault.
pub(crate) fn status_for_fault(fault: &Fault) -> i32 {
    match fault {
        Fault::Busy { .. } | Fault::OtherSlots { .. } | Fault::Gone { .. } => BUSY,
        Fault::TimedOut { .. } => TIMED_OUT,
        Fault::Misused { .. } => USAGE,
        Fault::NotRun { found: true, .. } => CANNOT_RUN,
        Fault::NotRun { found: false, .. } => NOT_FOUND,
        Fault::Unreachable { .. } | Fault::Failed { .. } => FAILED,
    }
}
