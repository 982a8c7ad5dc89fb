//! Forgetting: an outcome that is too old, a task, all of them.

use super::guard::{self, Guard};
use super::{State, Task, files};
use crate::error::Error;
use crate::record::{self, Content, Record};
use crate::store::TaskRoot;
use crate::{holders, kernel, process, sys};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a task has to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long its supervisor has to notice that, before it is killed itself.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(2);

/// How long the lock may be held by somebody who does not run the task.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Task<'_> {
    /// Forgets an outcome that is older than the TTL, for everyone. Nothing happens while it runs: then there will be
    /// another.
    pub fn expire(&self) -> Result<(), Error> {
        let has_expired =
            || self.outcome_of_any_age().is_ok_and(|outcome| outcome.is_some_and(|outcome| self.is_too_old(&outcome)));
        if !has_expired() {
            return Ok(());
        }
        let Some(guard) = self.take_unless_running()? else { return Ok(()) };
        // Not what was seen before, but what is there under the lock.
        if has_expired() { guard.expire() } else { guard.leave() }
    }

    /// Takes the lock, if need be after one who has it for an instant. `None`: the task runs.
    fn take_unless_running(&self) -> Result<Option<Guard<'_>>, Error> {
        let begin = Instant::now();
        Guard::take(self, None, &mut || {
            let wait = self.look().running.is_none() && begin.elapsed() < PATIENCE;
            if wait { ControlFlow::Continue(Some(LOOK_AGAIN)) } else { ControlFlow::Break(()) }
        })
    }

    /// Ends the task if it runs, and forgets it. The logs are set aside, and the history stays.
    pub fn reset(&self) -> Result<(), Error> {
        if self.is_nowhere() {
            return Ok(());
        }
        self.end(Ending::new(self))?.reset()
    }

    /// Forgets the task if it failed or was interrupted; and what is left of one that was forgotten before.
    fn reset_failed(&self) -> Result<(), Error> {
        let is_wanted = || match self.look().state() {
            State::Failed | State::Interrupted => true,
            State::New => !self.is_known(),
            State::Running | State::Succeeded => false,
        };
        if self.is_nowhere() || !is_wanted() {
            return Ok(());
        }
        match self.take_unless_running()? {
            Some(guard) if is_wanted() => guard.reset(),
            None if self.look().running.is_none() => {
                Err(Error::TaskBusy { id: self.id.to_string(), path: self.file(files::LOCK) })
            }
            _ => Ok(()),
        }
    }

    fn is_nowhere(&self) -> bool {
        std::fs::symlink_metadata(self.directory()).is_err()
    }

    /// Ends the run, if there is one, and takes the lock.
    fn end(&self, mut ending: Ending) -> Result<Guard<'_>, Error> {
        let taken = Guard::take(self, None, &mut || ending.go_on())?;
        let Some(guard) = taken else {
            let path = self.file(files::LOCK);
            return Err(ending.failed.unwrap_or(Error::TaskBusy { id: self.id.to_string(), path }));
        };
        // The command has ended; others of its group may have ignored the signal.
        for record in &ending.ended {
            guard::end_rest(self, record)?;
        }
        Ok(guard)
    }
}

/// Ends all tasks and removes them, with their logs. Returns the directories in which there is something else, which
/// stays; and why the others could not be removed.
pub fn reset_all(root: &TaskRoot) -> Result<(Vec<PathBuf>, Vec<Error>), Error> {
    let tasks = Task::all(root)?;
    let mut endings: Vec<Ending> = tasks.iter().map(Ending::new).collect();
    // All at once, so that the time that they take to end is not added up.
    for ending in endings.iter_mut().filter(|ending| ending.task.look().running.is_some()) {
        let _ = ending.go_on();
    }
    let (mut left, mut failed) = (Vec::new(), Vec::new());
    for (task, ending) in tasks.iter().zip(endings) {
        match task.end(ending).and_then(Guard::purge) {
            Ok(true) => {}
            Ok(false) => left.push(task.directory().to_owned()),
            Err(error) => failed.push(error),
        }
    }
    Ok((left, failed))
}

/// Forgets those tasks that failed or were interrupted. Returns why some could not be.
pub fn reset_failed(root: &TaskRoot) -> Result<Vec<Error>, Error> {
    Ok(Task::all(root)?.iter().filter_map(|task| task.reset_failed().err()).collect())
}

/// What was asked of a supervisor.
struct Asked {
    token: u64,
    at: Instant,
    step: u8,
}

/// Ends the run of a task, while one waits for its lock.
struct Ending<'a> {
    task: &'a Task<'a>,
    asked: Option<Asked>,
    /// The runs that were ended.
    ended: Vec<Record>,
    /// Since when there was nobody to ask.
    since: Instant,
    failed: Option<Error>,
}

impl<'a> Ending<'a> {
    fn new(task: &'a Task<'a>) -> Self {
        Self { task, asked: None, ended: Vec::new(), since: Instant::now(), failed: None }
    }

    /// Asks the supervisor to end its command; not the command itself, whose number may be another's by now. Who waits
    /// for the task may start it again as soon as it has ended: then that is ended, too.
    fn go_on(&mut self) -> ControlFlow<(), Option<Duration>> {
        let path = self.task.file(files::LOCK);
        let running = self.task.look().running.is_some();
        let content = if running { record::read_path(&path) } else { Content::Empty };
        let supervisor = match &content {
            Content::Record(record) => supervisor(record, &path),
            _ => None,
        };
        let (Content::Record(record), Some(supervisor)) = (content, supervisor) else {
            let patience = if running { SUPERVISOR_GRACE } else { PATIENCE };
            if self.since.elapsed() < patience {
                return ControlFlow::Continue(Some(LOOK_AGAIN));
            }
            let id = self.task.id.to_string();
            self.failed =
                Some(if running { Error::TaskNotEnded { id, pid: None } } else { Error::TaskBusy { id, path } });
            return ControlFlow::Break(());
        };
        self.since = Instant::now();
        match &mut self.asked {
            Some(asked) if asked.token == record.token => {
                if asked.step == 0 && asked.at.elapsed() >= GRACE {
                    asked.step = 1;
                    supervisor.send(libc::SIGUSR1);
                } else if asked.step == 1 && asked.at.elapsed() >= GRACE + SUPERVISOR_GRACE {
                    asked.step = 2;
                    supervisor.send(libc::SIGKILL);
                }
            }
            asked => {
                *asked = Some(Asked { token: record.token, at: Instant::now(), step: 0 });
                supervisor.send(libc::SIGTERM);
                self.ended.push(*record);
            }
        }
        ControlFlow::Continue(Some(LOOK_AGAIN))
    }
}

/// The process that the record names as the one that took the lock, if it is proved that this has it.
fn supervisor(record: &Record, path: &std::path::Path) -> Option<sys::Process> {
    if record.boot != process::boot_id() || record.ns != process::pid_namespace() {
        return None;
    }
    let number = process::number_of(record.locker)?;
    let process = sys::Process::open(number, process::start_time(number)?)?;
    // Looked at after it was opened: it is this one that has the lock.
    kernel::holds(number, &holders::wanted(path)).then_some(process)
}
