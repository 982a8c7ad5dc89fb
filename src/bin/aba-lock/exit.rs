//! The exit statuses, and the status of each error. `args::page` documents them for users.

pub(crate) mod flock;
mod status;

use aba_lock::base::error::ErrorClass;
use aba_lock::error::Error;

pub(crate) use status::{
    BUSY, CANNOT_RUN, COVERED, DONE, FAILED, INTERRUPTED, NO, NOT_FOUND, REPLACED, TIMED_OUT, USAGE, WOULD_WAIT,
    WOULD_WAIT_IGNORING,
};

/// Returns the status for an error.
pub(crate) fn status_for_error(error: &Error) -> i32 {
    match error.class() {
        ErrorClass::Usage => USAGE,
        ErrorClass::Refused => NO,
        ErrorClass::Busy => BUSY,
        ErrorClass::TimedOut => TIMED_OUT,
        ErrorClass::Replaced => REPLACED,
        ErrorClass::NotFound => NOT_FOUND,
        ErrorClass::CannotRun => CANNOT_RUN,
        ErrorClass::Interrupted => INTERRUPTED,
        ErrorClass::Signal(signal) => 128 + signal,
        ErrorClass::Status(status) => status,
        ErrorClass::Failed => FAILED,
    }
}
