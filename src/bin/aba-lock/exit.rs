//! The exit statuses, and the status of each error. `args::page` documents them for users.

pub(crate) mod flock;

use aba_lock::error::Error;
use aba_lock::number::problem::Kind;

pub(crate) const DONE: i32 = 0;
/// The negative answer of `status` and other queries.
pub(crate) const NO: i32 = 1;
pub(crate) const USAGE: i32 = 2;
/// Another process holds the lock. `-E` replaces this status.
pub(crate) const BUSY: i32 = 75;
/// The lock file was replaced while it was opened: the caller must open it again.
pub(crate) const REPLACED: i32 = 76;
/// With `--try-first`: the lock is held, and the caller must start the wait.
pub(crate) const WOULD_WAIT: i32 = 77;
/// The same status if this process ignores SIGINT or SIGQUIT.
pub(crate) const WOULD_WAIT_IGNORING: i32 = 78;
/// The wait timed out. `-E` replaces this status.
pub(crate) const TIMED_OUT: i32 = 124;
pub(crate) const FAILED: i32 = 125;
pub(crate) const CANNOT_RUN: i32 = 126;
pub(crate) const NOT_FOUND: i32 = 127;
pub(crate) const INTERRUPTED: i32 = 130;

/// Returns the status for an error.
pub(crate) fn status_for_error(error: &Error) -> i32 {
    match error {
        Error::Reserve(problem) => match problem.kind() {
            Kind::Misused => USAGE,
            Kind::Refused => NO,
            Kind::Taken => BUSY,
            Kind::Failed => FAILED,
        },
        Error::Name { .. } | Error::TaskId { .. } | Error::Variable { .. } => USAGE,
        Error::Interrupted { .. } => INTERRUPTED,
        Error::GivenUp { signal } => 128 + signal,
        Error::NotAccepted { status: status @ (CANNOT_RUN | NOT_FOUND), .. } => *status,
        Error::NothingToRun { .. }
        | Error::NothingNew { .. }
        | Error::NotAccepted { .. }
        | Error::CheckWrote { .. }
        | Error::ChangedMeanwhile { .. }
        | Error::LeadsElsewhere { .. }
        | Error::LockRemoved { .. } => NO,
        Error::Busy { .. }
        | Error::Upgrade { .. }
        | Error::TaskBusy { .. }
        | Error::Deadlock { .. }
        | Error::WaitsForItself { .. }
        | Error::UpdatesItself { .. } => BUSY,
        Error::TimedOut { .. } | Error::TaskTimedOut { .. } => TIMED_OUT,
        Error::Replaced { .. } => REPLACED,
        Error::CommandNotFound { .. } => NOT_FOUND,
        Error::CommandFailed { .. } => CANNOT_RUN,
        Error::NoStateRoot
        | Error::StateRoot { .. }
        | Error::Open { .. }
        | Error::Remove { .. }
        | Error::Look { .. }
        | Error::NotRegular { .. }
        | Error::Blind
        | Error::Unknown { .. }
        | Error::BadDescriptor { .. }
        | Error::KeepsChanging { .. }
        | Error::Unsupported { .. }
        | Error::Lock { .. }
        | Error::ScriptEnded { .. }
        | Error::Task { .. }
        | Error::TaskRoot { .. }
        | Error::NoFile { .. }
        | Error::NotAFile { .. }
        | Error::Update { .. }
        | Error::NotOnDisk { .. }
        | Error::NotUnderstood { .. }
        | Error::NoDirectory { .. }
        | Error::NotOurCommand { .. }
        | Error::TaskNotEnded { .. }
        | Error::TaskNotSeen { .. }
        | Error::Supervisor { .. }
        | Error::Terminal { .. }
        | Error::NoKeeper
        | Error::Write { .. } => FAILED,
    }
}
