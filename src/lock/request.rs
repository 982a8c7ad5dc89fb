//! A request for locks and its result, as plain data.
//!
//! Callers of [`acquire`](super::acquire) build a [`Request`] and get [`Acquired`], which has one [`Guard`] for each lock.

use crate::base::target::{Target, Wait};
use crate::lock::error::LockError;
use crate::os::{self, Mode, Priority, Slot};
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The next step of this process when it has acquired the locks. It decides how much of a wait is undone: each step after
/// the grant makes the script or command, and the next waiter, wait longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterGrant {
    /// It goes on, so everything is restored and freed.
    GoesOn,
    /// It becomes a command. The command inherits the signal actions and the timer, so they are restored.
    BecomesCommand,
    /// It exits, because the locks are on the descriptors of a script. The timer is stopped ([`os::Alarm::leave`]).
    Exits,
}

/// The runs that cover a call (`--coalesce`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coalescing {
    /// A run that starts after the call.
    Started,
    /// A run that starts after the call, and has succeeded.
    Strict,
}

/// The parameters of an acquisition, and the facts for the records.
#[derive(Debug)]
pub struct Request<'a> {
    pub mode: Mode,
    /// True if the locks are those of fcntl(2) on whole files (`--fcntl`). Then no field of a policy is set.
    pub fcntl: bool,
    /// The number of slots of the lock, of which the caller wants one. The mode is then shared.
    pub slots: Option<u32>,
    /// The caller ends without the lock if another caller waits for the next run.
    pub coalescing: Option<Coalescing>,
    /// The caller ends the holder, which has this time between SIGTERM and SIGKILL (`--replace`). Then there is only one lock.
    pub replace: Option<Duration>,
    /// The level of the caller among those that wait. `None`: normal, without a look at others if the lock is free.
    pub priority: Option<Priority>,
    pub wait: Wait,
    /// The process that will hold the locks.
    pub holder: u32,
    /// The command line of the program that this process will become. `None`: the one that the holder has now.
    pub command: Option<String>,
    /// The user's description of the holder (`--who`).
    pub who: Option<&'a str>,
    /// The absolute path of the file that gets the pid of the holder.
    pub pid_file: Option<&'a Path>,
    pub after_grant: AfterGrant,
    /// The time for which an earlier process has waited for the same locks on behalf of the caller. It counts towards the limit.
    pub waited: Duration,
    /// The maximum time for which the locks are held, for the record. This process must be the watcher that enforces it.
    pub max_time: Option<Duration>,
    /// The parent of this process, if the wait ends with it. `None`: the script, if there is one, is the parent.
    pub caller: Option<u32>,
    /// True if the caller takes it for a success that another process holds the lock, for the event log (`--skip-ok`).
    pub skips: bool,
    /// True if contention goes to the event log; otherwise another process of the same call writes it there.
    pub logs_contention: bool,
}

impl Request<'_> {
    /// Returns a request of this process for exclusive locks. Its record names the command line of the process.
    #[must_use]
    pub fn exclusive(wait: Wait) -> Self {
        Self {
            mode: Mode::Exclusive,
            fcntl: false,
            slots: None,
            coalescing: None,
            replace: None,
            priority: None,
            wait,
            holder: std::process::id(),
            command: None,
            who: None,
            pid_file: None,
            after_grant: AfterGrant::GoesOn,
            waited: Duration::ZERO,
            max_time: None,
            caller: None,
            skips: false,
            logs_contention: true,
        }
    }

    /// Fails if an option needs Linux, on another system. Otherwise, such an option would fail only while the lock is held.
    pub(super) fn check_system(&self) -> Result<(), LockError> {
        let options = [
            (self.slots.is_some(), "--slots"),
            (self.coalescing.is_some(), "--coalesce"),
            (self.replace.is_some(), "--replace"),
            (self.priority.is_some(), "--priority"),
            (self.max_time.is_some(), "--max-time"),
            (self.fcntl, "--fcntl"),
        ];
        options.into_iter().try_for_each(|(is_given, option)| if is_given { require_linux(option) } else { Ok(()) })
    }
}

/// Fails for an option that needs Linux, on another system.
pub(in crate::lock) fn require_linux(option: &'static str) -> Result<(), LockError> {
    if cfg!(linux) { Ok(()) } else { Err(LockError::NeedsLinux { option }) }
}

/// A lock that is held. Dropping it closes its descriptors, which releases the lock unless another copy of the descriptor is open.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard {
    pub(super) file: File,
    pub target: Target,
    /// The descriptor of the script, or of an ancestor, through which the lock is held. `None`: one of our own.
    pub inherited: Option<RawFd>,
    /// True if this call acquired the lock; false if it was held already.
    pub fresh: bool,
    /// The copy of the descriptor that commands inherit, if there is one.
    pub(super) copy: OnceCell<OwnedFd>,
}

impl Guard {
    /// The open lock file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// The result of a request: all its locks are held.
#[derive(Debug)]
#[must_use = "the locks are released when it is dropped"]
pub struct Acquired {
    /// One guard for each lock, in the order in which they were acquired.
    pub guards: Vec<Guard>,
    /// The fencing token. If this call acquired a lock in exclusive mode, the token is greater than every earlier token
    /// of each of the locks. Otherwise it is the last token of the locks, if they have one.
    pub token: u64,
    /// The slot of the caller, if it wanted one.
    pub slot: Option<Slot>,
    /// True if one of the lock files has the log flag, so that its events go to the log of its state root.
    pub is_logged: bool,
    /// The file whose record could not be written, and the reason. The lock is held nevertheless.
    pub unrecorded: Option<(PathBuf, io::Error)>,
}

impl Acquired {
    /// Returns true if one of the locked files is at `path`.
    #[must_use]
    pub fn has_file_at(&self, path: &Path) -> bool {
        self.guards.iter().any(|guard| os::try_leads_to_through_link(path, &guard.file).unwrap_or(false))
    }
}
