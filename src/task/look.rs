//! Looking at a task: its run, its outcome and its duration. A look takes no lock that another process could need, and changes
//! nothing.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::run_end::RunEnd;
use super::state::{Outcome, RunResult, Running, TaskLook, TaskState, is_signal};
use crate::base::key;
use crate::lock::clean::CLOCK_TOLERANCE;
use crate::lock::record::{self, Content};
use crate::os::proc::process;
use crate::os::{self, Mode};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// Maximum time for which a failure is kept if there is a TTL.
const FAILURE_TTL: Duration = Duration::from_secs(30);

impl Task<'_> {
    /// Looks at the task. A file that cannot be read counts as missing.
    #[must_use]
    pub fn look(&self) -> TaskLook {
        // The run is read first. If the outcome were read first, a run that ends in between would show neither.
        let (running, has_leftover_pid) = self.read_pid().unwrap_or_default();
        TaskLook { running, has_leftover_pid, outcome: self.read_outcome().unwrap_or_default() }
    }

    /// Looks at the task. Returns an error if a file exists but cannot be read.
    pub fn try_look(&self) -> Result<TaskLook, TaskError> {
        let (running, has_leftover_pid) = self.read_pid().map_err(self.failed(files::PID))?;
        Ok(TaskLook { running, has_leftover_pid, outcome: self.read_outcome().map_err(self.failed(files::EXIT))? })
    }

    /// Returns the run that has not ended, if there is one, and true if a killed supervisor left its `pid`.
    fn read_pid(&self) -> io::Result<(Option<Running>, bool)> {
        let Some(file) = files::open_if_exists(&self.file(files::PID))? else { return Ok((None, false)) };
        let pid = files::read_number(&file)?.unwrap_or(0);
        let is_locked = !os::try_lock(&file, Mode::Shared)?;
        if is_locked && self.may_exist(pid) {
            let since = file.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            return Ok((Some(Running { pid, since, holder: None }), false));
        }
        // A file without links was removed after it was opened, by a supervisor whose run ended. It is no leftover.
        Ok((None, file.metadata()?.nlink() > 0))
    }

    /// Returns true if the process exists, or runs in a PID namespace in which this process cannot see it. The lock of `pid` alone
    /// proves nothing, because every user may read `pid` and therefore lock it.
    fn may_exist(&self, pid: u32) -> bool {
        let is_elsewhere = || match record::read_path(&self.file(files::LOCK)) {
            Content::Record(record) => record.ns != process::pid_namespace(),
            _ => false,
        };
        os::exists(pid) || is_elsewhere()
    }

    /// Reads the outcome, if it has not expired.
    pub(super) fn read_outcome(&self) -> io::Result<Option<Outcome>> {
        Ok(self.read_outcome_of_any_age()?.filter(|outcome| !self.has_expired(outcome)))
    }

    pub(super) fn read_outcome_of_any_age(&self) -> io::Result<Option<Outcome>> {
        let Some(file) = files::open_if_exists(&self.file(files::EXIT))? else { return Ok(None) };
        let Some(status) = files::read_number(&file)? else { return Ok(None) };
        let data = file.metadata()?;
        if self.is_of_stranger(data.uid()) {
            return Ok(None);
        }
        // A signal ends a run that is interrupted and one whose time is over. The note of the end says which one it was.
        let time_over = if is_signal(status) { self.read_time_over(status) } else { None };
        Ok(Some(Outcome { result: RunResult { status, time_over }, at: data.modified()?, inode: data.ino() }))
    }

    pub(super) fn has_expired(&self, outcome: &Outcome) -> bool {
        self.ttl.is_some_and(|(ttl, began)| {
            let ttl = if outcome.state() == TaskState::Succeeded { ttl } else { ttl.min(FAILURE_TTL) };
            match began.duration_since(outcome.at) {
                Ok(age) => age > ttl,
                // The outcome was written after the TTL was set, or the clock was set back since. In the second case,
                // the outcome would otherwise not expire before the clock reaches that time again.
                Err(_) => outcome.at.duration_since(SystemTime::now()).is_ok_and(|ahead| ahead > CLOCK_TOLERANCE),
            }
        })
    }

    /// Returns the duration of the last run, if it was noted.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.read_end().map(|end| end.took)
    }

    /// Returns the maximum time of the last run, if that time was over before the run ended with this status.
    #[must_use]
    pub fn read_time_over(&self, status: u8) -> Option<Duration> {
        // The note of an earlier run may have another status.
        self.read_end().filter(|end| end.result.status == status)?.result.time_over
    }

    /// Returns the text from which the id was derived, if it is known.
    #[must_use]
    pub fn find_key(&self) -> Option<String> {
        if !key::is_derived(self.id.as_str()) {
            return None;
        }
        match record::read_path(&self.file(files::LOCK)) {
            Content::Record(record) => record.key,
            _ => None,
        }
    }

    fn read_end(&self) -> Option<RunEnd> {
        RunEnd::read_from(&files::open(&self.file(files::LOCK))?)
    }

    /// Returns the pid in the file `pid`.
    pub(super) fn read_pid_number(&self) -> Option<u32> {
        process::read_small(self.file(files::PID).to_str()?)?.trim().parse().ok()
    }
}
