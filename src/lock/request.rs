//! The request for locks and its result, as plain data.

use crate::base::target::{Target, Wait};
use crate::os::{self, Mode};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How locks are to be taken.
#[derive(Debug)]
pub struct Request<'a> {
    /// Exclusive or shared.
    pub mode: Mode,
    /// What to do when another has it.
    pub wait: Wait,
    /// The process that will have it, for the record.
    pub holder: u32,
    /// The command line of that process, if it is not what it is now: of the command that we become.
    pub command: Option<String>,
    /// What the user says of it, for the record.
    pub who: Option<&'a str>,
    /// The absolute path of the file that gets the pid of the holder, for the record.
    pub pid_file: Option<&'a Path>,
    /// Whether this process ends as soon as the script has its locks, and becomes no other: who waits for that end waits for
    /// nothing that it leaves undone.
    pub ends: bool,
    /// How long an earlier process has waited for the same locks on behalf of the caller. A limit counts from there.
    pub waited: Duration,
    /// True if contention goes to the event log; otherwise another process of the same call writes it there.
    pub logs_contention: bool,
}

impl Request<'_> {
    /// Returns a request of this process for exclusive locks. Its record names the command line of the process.
    #[must_use]
    pub fn exclusive(wait: Wait) -> Self {
        Self {
            mode: Mode::Exclusive,
            wait,
            holder: std::process::id(),
            command: None,
            who: None,
            pid_file: None,
            ends: false,
            waited: Duration::ZERO,
            logs_contention: true,
        }
    }
}

/// A lock that is held. Dropping it closes our descriptor, which releases the lock unless another has a copy.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard {
    pub(super) file: File,
    /// The lock.
    pub target: Target,
    /// The descriptor of the script's, when it came through one.
    pub inherited: Option<RawFd>,
    /// Whether we took it now; else the script had it already.
    pub fresh: bool,
}

impl Guard {
    /// The open lock file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// The locks that were asked for.
#[derive(Debug)]
#[must_use = "the locks are released when it is dropped"]
pub struct Acquired {
    /// One guard a lock, in the order of their names.
    pub guards: Vec<Guard>,
    /// The fencing token: greater than that of every earlier exclusive acquisition of each of the locks.
    pub token: u64,
    /// Why a record could not be written. The lock is held all the same.
    pub unrecorded: Option<(PathBuf, io::Error)>,
}

impl Acquired {
    /// Returns true if one of the locked files is at `path`.
    #[must_use]
    pub fn has_file_at(&self, path: &Path) -> bool {
        self.guards.iter().any(|guard| os::leads_to_through_link(path, &guard.file))
    }
}
