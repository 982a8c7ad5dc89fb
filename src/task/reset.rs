//! Forgetting: an outcome that is too old, a task, all of them.

use super::files;
use super::foreign::{self, Lookout};
use super::guard::{self, Guard, Pause, Taken};
use super::state::{State, Task};
use crate::lock::holders;
use crate::lock::record::{self, Content, Record};
use crate::os;
use crate::os::proc::openers;
use crate::os::proc::process;
use crate::store::TaskRoot;
use crate::task::error::TaskError;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a task has to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long its supervisor has to notice that, before it is killed itself.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(2);

/// How long the lock may be held by somebody who does not run the task.
const PATIENCE: Duration = Duration::from_secs(10);

impl Task<'_> {
    /// Forgets an outcome that is older than the TTL, for everyone. Nothing happens while it runs: then there will be
    /// another.
    pub fn expire(&self) -> Result<(), TaskError> {
        let has_expired =
            || self.outcome_of_any_age().is_ok_and(|outcome| outcome.is_some_and(|outcome| self.is_too_old(&outcome)));
        if !has_expired() {
            return Ok(());
        }
        let Unless::Granted(guard) = self.take_unless_running()? else { return Ok(()) };
        // Not what was seen before, but what is there under the lock.
        if has_expired() { guard.expire() } else { guard.leave() }
    }

    /// Takes the lock, after a process that holds it for an instant if need be.
    fn take_unless_running(&self) -> Result<Unless<'_>, TaskError> {
        let (begin, mut runs) = (Instant::now(), false);
        let mut lookout = Lookout::new(self);
        let taken = Guard::take(self, None, &mut || {
            runs = lookout.run().is_some();
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if runs || left.is_zero() { ControlFlow::Break(()) } else { Pause::for_change(lookout.limit(Some(left))) }
        })?;
        // The state that was seen then counts: by now the run may have ended.
        Ok(match taken {
            Taken::Granted(guard) => Unless::Granted(guard),
            Taken::GivenUp(_) if runs => Unless::Runs,
            Taken::GivenUp(_) => Unless::Busy,
        })
    }

    /// Ends the task if it runs, and forgets it. The logs are set aside, and the history stays.
    pub fn reset(&self) -> Result<(), TaskError> {
        if !self.has_directory()? {
            return Ok(());
        }
        self.end(Ending::new(self))?.reset()
    }

    /// Forgets the task if it failed or was interrupted; and what is left of one that was forgotten before.
    fn reset_failed(&self) -> Result<(), TaskError> {
        let is_wanted = || match self.look().state() {
            State::Failed | State::Interrupted => true,
            State::New => !self.is_known(),
            State::Running | State::Succeeded => false,
        };
        if !self.has_directory()? || !is_wanted() {
            return Ok(());
        }
        match self.take_unless_running()? {
            Unless::Granted(guard) if is_wanted() => guard.reset(),
            Unless::Busy => Err(TaskError::Busy { id: self.id.to_string(), path: self.file(files::LOCK) }),
            _ => Ok(()),
        }
    }

    fn has_directory(&self) -> Result<bool, TaskError> {
        match fs::symlink_metadata(self.directory()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(TaskError::Unusable { path: self.directory().to_owned(), source }),
        }
    }

    /// Ends the run, if there is one, and takes the lock.
    fn end(&self, mut ending: Ending) -> Result<Guard<'_>, TaskError> {
        let taken = Guard::take(self, None, &mut || ending.go_on())?;
        let Some(guard) = taken.guard() else {
            let path = self.file(files::LOCK);
            return Err(ending.failed.unwrap_or(TaskError::Busy { id: self.id.to_string(), path }));
        };
        // The command has ended; others of its group may have ignored the signal.
        for record in &ending.ended {
            guard::end_rest(self, record)?;
        }
        if ending.asked_foreign.is_some() {
            guard::end_foreign_rest(self)?;
        }
        Ok(guard)
    }
}

/// Ends all tasks and removes them, with their logs. Returns the directories in which there is something else, which
/// stays; and why the others could not be removed.
pub fn reset_all(root: &TaskRoot) -> Result<(Vec<PathBuf>, Vec<TaskError>), TaskError> {
    let tasks = Task::all(root)?;
    let mut endings: Vec<Ending> = tasks.iter().map(Ending::new).collect();
    // All at once, so that the time that they take to end is not added up.
    let foreign = foreign::runs(&tasks.iter().collect::<Vec<_>>());
    for (ending, foreign) in endings.iter_mut().zip(foreign) {
        if foreign.is_some() || ending.task.look().running.is_some() {
            let _ = ending.go_on();
        }
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
pub fn reset_failed(root: &TaskRoot) -> Result<Vec<TaskError>, TaskError> {
    let tasks = Task::all(root)?;
    let foreign = foreign::runs(&tasks.iter().collect::<Vec<_>>());
    let not_running = tasks.iter().zip(foreign).filter(|(_, run)| run.is_none());
    Ok(not_running.filter_map(|(task, _)| task.reset_failed().err()).collect())
}

/// The outcome of an attempt to acquire the lock of a task that must not be disturbed.
enum Unless<'a> {
    Granted(Guard<'a>),
    /// The task runs.
    Runs,
    /// Another process holds the lock, and does not run the task.
    Busy,
}

/// What was asked of a supervisor.
struct Asked {
    token: u64,
    at: Instant,
    step: usize,
}

/// Ends the run of a task, while we wait for its lock.
struct Ending<'a> {
    task: &'a Task<'a>,
    asked: Option<Asked>,
    /// The runs that were ended.
    ended: Vec<Record>,
    lookout: Lookout<'a>,
    /// When the processes of a run that is not ours were asked to end.
    asked_foreign: Option<Instant>,
    /// Since when there was no process that could be asked.
    since: Option<Instant>,
    failed: Option<TaskError>,
}

impl<'a> Ending<'a> {
    fn new(task: &'a Task<'a>) -> Self {
        let (asked, asked_foreign, since, failed) = (None, None, None, None);
        Self { task, asked, ended: Vec::new(), lookout: Lookout::new(task), asked_foreign, since, failed }
    }

    /// Takes the next step. A waiter may start the task again as soon as it has ended: that run is ended, too.
    fn go_on(&mut self) -> ControlFlow<(), Pause> {
        if self.task.look().running.is_some() {
            self.end_ours()
        } else if self.lookout.foreign_run().is_some() {
            self.end_foreign()
        } else {
            let error = TaskError::Busy { id: self.task.id.to_string(), path: self.task.file(files::LOCK) };
            self.give_up_after(PATIENCE, error)
        }
    }

    /// Asks the supervisor to end its command. The command gets no signal from here: its pid may belong to another process by now.
    fn end_ours(&mut self) -> ControlFlow<(), Pause> {
        let path = self.task.file(files::LOCK);
        let content = record::read_path(&path);
        let supervisor = match &content {
            Content::Record(record) => supervisor(record, &path),
            _ => None,
        };
        let (Content::Record(record), Some(supervisor)) = (content, supervisor) else {
            return self.give_up_after(SUPERVISOR_GRACE, self.not_ended());
        };
        self.since = None;
        let due = match &mut self.asked {
            Some(asked) if asked.token == record.token => {
                if asked.step == 0 && asked.at.elapsed() >= GRACE {
                    asked.step = 1;
                    supervisor.send(libc::SIGUSR1);
                } else if asked.step == 1 && asked.at.elapsed() >= GRACE + SUPERVISOR_GRACE {
                    asked.step = 2;
                    supervisor.send(libc::SIGKILL);
                }
                [Some(GRACE), Some(GRACE + SUPERVISOR_GRACE), None][asked.step]
                    .map(|due| due.saturating_sub(asked.at.elapsed()))
            }
            asked => {
                *asked = Some(Asked { token: record.token, at: Instant::now(), step: 0 });
                supervisor.send(libc::SIGTERM);
                self.ended.push(*record);
                Some(GRACE)
            }
        };
        Pause::for_change(due)
    }

    /// Asks the processes of a run that is not ours. The shell that runs it then writes its outcome, and releases the lock.
    fn end_foreign(&mut self) -> ControlFlow<(), Pause> {
        let processes = self.task.foreign_processes();
        let asked = match self.asked_foreign {
            None if processes.is_empty() => {
                // It may have begun just now. But another program may hold the lock for reasons of its own.
                let error = TaskError::Busy { id: self.task.id.to_string(), path: self.task.file(files::LOCK) };
                return self.give_up_after(SUPERVISOR_GRACE, error);
            }
            None => {
                self.since = None;
                guard::send_all(&processes, libc::SIGTERM);
                *self.asked_foreign.insert(Instant::now())
            }
            Some(asked) => asked,
        };
        let left = GRACE.saturating_sub(asked.elapsed());
        if !left.is_zero() {
            return Pause::for_change(Some(left));
        }
        guard::send_all(&processes, libc::SIGKILL);
        self.give_up_after(SUPERVISOR_GRACE, self.not_ended())
    }

    fn not_ended(&self) -> TaskError {
        TaskError::NotEnded { id: self.task.id.to_string(), pid: None }
    }

    /// Waits for a change, for at most this time.
    fn give_up_after(&mut self, patience: Duration, error: TaskError) -> ControlFlow<(), Pause> {
        let left = patience.saturating_sub(self.since.get_or_insert_with(Instant::now).elapsed());
        if left.is_zero() {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        Pause::for_change(self.lookout.limit(Some(left)))
    }
}

/// The process that the record names as the one that took the lock, if it is proved that this has it.
fn supervisor(record: &Record, path: &std::path::Path) -> Option<os::Process> {
    let number = process::number_of(record.locker)?;
    let process = os::Process::open(number, process::start_time(number)?)?;
    // Examined after it was opened, so the process that holds the lock is the one that is signalled. That is proof enough: a record
    // that was written without `/proc` names neither the boot nor the PID namespace.
    openers::holds(number, &holders::identify_file(path)).then_some(process)
}
