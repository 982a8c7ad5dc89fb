//! One past holding of a lock, as plain data.

use super::logged_event::LoggedEvent;
use crate::store::scope::find_scope_of_file;
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// One acquisition of a lock, from the event log.
#[derive(Debug, Clone)]
pub struct PastHolding {
    /// The name of the lock, or the path of its file.
    pub lock: String,
    pub key: Option<String>,
    pub path: PathBuf,
    /// The script or command that held the lock.
    pub pid: u32,
    /// `None`: the log does not have it.
    pub user: Option<String>,
    pub command: String,
    pub is_shared: bool,
    /// The number of the slot, and the number of slots of the lock.
    pub slot: Option<(u64, u64)>,
    /// `None`: the log does not have it.
    pub token: Option<u64>,
    pub since: Timestamp,
    /// True if the acquisition is not in the log, and was before `since`, when a call found the lock held.
    pub is_late: bool,
    /// The time for which it had waited for the lock.
    pub waited: Duration,
    /// The last time at which an event proves that it held the lock.
    pub(super) proved: Timestamp,
    pub ending: Ending,
    /// The reason for the end. `None`: its process has ended or closed the file, or the reason is not known.
    pub cause: Option<EndCause>,
    /// The name of the signal that ended the command, if it is known.
    pub signal: Option<String>,
    /// The process that ended it with `unlock --kill` or `--replace`.
    pub killer: Option<Killer>,
    /// The process that held the lock after the command had exited.
    pub remaining_holder: Option<RemainingHolder>,
    /// The calls that found the lock held by it.
    pub waits: Vec<PastWait>,
}

/// A process that ended the holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killer {
    pub pid: u32,
    pub user: String,
    pub command: String,
}

impl Killer {
    /// Returns the process that an event names in its members with this prefix.
    pub(super) fn from_event(event: &LoggedEvent, prefix: &str) -> Option<Self> {
        let text = |member: &str| event.text(&format!("{prefix}{member}")).map(str::to_owned);
        let pid = event.pid(&format!("{prefix}pid"))?;
        Some(Self { pid, user: text("user")?, command: text("command").unwrap_or_default() })
    }
}

/// A process that holds a lock after the command that acquired it has exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemainingHolder {
    /// Its pid and its command line.
    Seen(u32, String),
    /// A process that cannot be seen, such as one of another user.
    Unseen,
}

/// The facts about the end of a holding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    At(Timestamp),
    /// Between these times.
    Between(Timestamp, Timestamp),
    /// It has not ended.
    StillHeld,
    /// After this time. It is not known whether it has ended.
    After(Timestamp),
}

/// The reason for the end of a holding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// Its holder has released the lock.
    Released,
    /// Its command has ended with this status.
    Exited(i64),
    /// `unlock --kill` has ended it.
    Killed,
    /// `--max-time` has ended it.
    Expired,
    /// A call with `--replace`, of this process, has ended it.
    Replaced(u32),
}

impl EndCause {
    /// Returns the reason in an event `released`, if it has one.
    #[must_use]
    pub fn from_release(event: &LoggedEvent) -> Option<Self> {
        match (event.text("cause")?, event.members()["status"].as_i64()) {
            ("exit", Some(status)) => Some(Self::Exited(status)),
            ("kill", _) => Some(Self::Killed),
            ("release", _) => Some(Self::Released),
            _ => None,
        }
    }
}

/// A call that found the lock held.
#[derive(Debug, Clone)]
pub struct PastWait {
    pub pid: u32,
    pub user: String,
    pub command: String,
    pub since: Timestamp,
    pub outcome: PastOutcome,
}

/// The outcome of such a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastOutcome {
    /// It did not wait.
    Refused,
    /// It skipped its run (`--skip-ok`), after this time if it waited.
    Skipped(Option<Duration>),
    /// It waited for this time, and acquired the lock.
    Acquired(Duration),
    /// It waited for this time, and gave up.
    TimedOut(Duration),
    /// It gave up for a newer call (`--replace`), or would have caused a deadlock.
    GaveUp,
    /// A run after it made one of its own unnecessary (`--coalesce`).
    Covered,
    /// It began to wait. The log does not say how that ended.
    Unknown,
}

impl PastHolding {
    /// Returns true if this process held the lock: the one that acquired it, or one that inherited it.
    pub(super) fn has_holder(&self, pid: u32) -> bool {
        self.pid == pid || matches!(&self.remaining_holder, Some(RemainingHolder::Seen(holder, _)) if *holder == pid)
    }

    /// Returns the time for which the lock was held, if it is known.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self.ending {
            Ending::At(end) if !self.is_late => Some(elapsed_between(self.since, end)),
            _ => None,
        }
    }

    /// Returns the scope of the lock. `None`: it is the lock of a file or of a task.
    #[must_use]
    pub fn scope(&self) -> Option<&'static str> {
        find_scope_of_file(&self.path)
    }

    /// Returns the last time at which it may have been held. `None`: now.
    #[must_use]
    pub fn latest_end(&self) -> Option<Timestamp> {
        match self.ending {
            Ending::At(end) | Ending::Between(_, end) => Some(end),
            Ending::StillHeld | Ending::After(_) => None,
        }
    }
}

/// Returns the time from `start` to `end`, and zero if the clock went back.
pub(super) fn elapsed_between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}
