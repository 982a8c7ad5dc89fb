//! The exit statuses, and which error has which.

pub(crate) mod flock;

use aba_lock::error::Error;
use aba_lock::number::problem::Kind;

/// Acquired, done, yes.
pub(crate) const DONE: i32 = 0;
/// No: `status` says that it is free.
pub(crate) const NO: i32 = 1;
/// Wrong usage.
pub(crate) const USAGE: i32 = 2;
/// Held by another; `-E` changes it.
pub(crate) const BUSY: i32 = 75;
/// The lock file was replaced while it was opened: open it again.
pub(crate) const REPLACED: i32 = 76;
/// With `--try-first`: the lock is held, and the caller wanted to know before this process waits.
pub(crate) const WOULD_WAIT: i32 = 77;
/// The same, and this process ignores SIGINT or SIGQUIT.
pub(crate) const WOULD_WAIT_IGNORING: i32 = 78;
/// The wait timed out; `-E` changes it.
pub(crate) const TIMED_OUT: i32 = 124;
/// aba-lock itself failed.
pub(crate) const FAILED: i32 = 125;
/// The command cannot be run.
pub(crate) const CANNOT_RUN: i32 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: i32 = 127;
/// Ended by Ctrl-C.
pub(crate) const INTERRUPTED: i32 = 130;

/// The status for `error`.
pub(crate) fn of(error: &Error) -> i32 {
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
