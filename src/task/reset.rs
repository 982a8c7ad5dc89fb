//! Forgetting an outcome that has expired, one task, all failed tasks, or all tasks. [`Task::reset`] and [`reset_all`]
//! stop a task that is running. [`Task::expire`] and [`reset_failed`] leave it alone.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::foreign::{ForeignWatch, find_foreign_runs};
use super::guard::{LockAttempt, Pause, TaskGuard};
use super::leftovers::{kill_foreign_leftovers, kill_leftovers, signal_all};
use super::state::TaskState;
use crate::lock::holders;
use crate::lock::record::{self, Content, Record};
use crate::os;
use crate::os::proc::{openers, process};
use crate::store::TaskRoot;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between SIGTERM and SIGKILL for a command.
const GRACE: Duration = Duration::from_secs(5);

/// Time for the supervisor to notice the end of the command, before the supervisor is killed.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(2);

/// Time limit of a wait for a process that holds the lock and does not run the task.
const PATIENCE: Duration = Duration::from_secs(10);

impl Task<'_> {
    /// Forgets an outcome that is older than the TTL, for all callers. Nothing happens while the task is running, because that
    /// run replaces the outcome.
    pub fn expire(&self) -> Result<(), TaskError> {
        let has_expired_outcome =
            || self.read_outcome_of_any_age().is_ok_and(|outcome| outcome.is_some_and(|it| self.has_expired(&it)));
        if !has_expired_outcome() {
            return Ok(());
        }
        let IdleAttempt::Granted(guard) = self.acquire_if_idle()? else { return Ok(()) };
        // The outcome is read again under the lock, because it may be another one by now.
        if has_expired_outcome() { guard.expire() } else { guard.release() }
    }

    /// Acquires the lock, unless the task is running. Waits for a process that holds the lock for an instant.
    fn acquire_if_idle(&self) -> Result<IdleAttempt<'_>, TaskError> {
        let (begin, mut is_running) = (Instant::now(), false);
        let mut watch = ForeignWatch::new(self);
        let attempt = TaskGuard::acquire(self, None, &mut || {
            is_running = watch.find_run().is_some();
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if is_running || left.is_zero() {
                ControlFlow::Break(())
            } else {
                Pause::for_change(watch.limit_pause(Some(left)))
            }
        })?;
        // The last search during the wait decides, although the run may have ended since.
        Ok(match attempt {
            LockAttempt::Granted(guard) => IdleAttempt::Granted(guard),
            LockAttempt::GivenUp(_) if is_running => IdleAttempt::Running,
            LockAttempt::GivenUp(_) => IdleAttempt::Busy,
        })
    }

    /// Stops the task if it is running, and forgets it. The logs are set aside, and the history stays.
    pub fn reset(&self) -> Result<(), TaskError> {
        if !self.has_directory()? {
            return Ok(());
        }
        self.stop(TaskStop::new(self))?.reset()
    }

    /// Forgets the task if it failed or was interrupted. Removes the rest of a task that was forgotten before.
    fn reset_if_failed(&self) -> Result<(), TaskError> {
        let is_wanted = || match self.look().state() {
            TaskState::Failed | TaskState::Interrupted => true,
            TaskState::New => !self.is_known(),
            TaskState::Running | TaskState::Succeeded => false,
        };
        if !self.has_directory()? || !is_wanted() {
            return Ok(());
        }
        match self.acquire_if_idle()? {
            IdleAttempt::Granted(guard) if is_wanted() => guard.reset(),
            IdleAttempt::Busy => Err(self.busy_error()),
            _ => Ok(()),
        }
    }

    fn busy_error(&self) -> TaskError {
        TaskError::Busy { id: self.id.to_string(), path: self.file(files::LOCK) }
    }

    /// Stops the run, if there is one, and acquires the lock.
    fn stop(&self, mut stop: TaskStop) -> Result<TaskGuard<'_>, TaskError> {
        let attempt = TaskGuard::acquire(self, None, &mut || stop.take_step())?;
        let Some(guard) = attempt.into_guard() else {
            return Err(stop.failed.unwrap_or_else(|| self.busy_error()));
        };
        // The command has ended. Other processes of its group may have ignored the signal.
        for record in &stop.stopped {
            kill_leftovers(self, record, false)?;
        }
        if stop.foreign_request.is_some() {
            kill_foreign_leftovers(self)?;
        }
        Ok(guard)
    }
}

/// Stops all tasks and removes them, with their logs. Returns the directories that stay because they hold other files, and the
/// errors of tasks that could not be removed.
pub fn reset_all(root: &TaskRoot) -> Result<(Vec<PathBuf>, Vec<TaskError>), TaskError> {
    let tasks = Task::all(root)?;
    let mut stops: Vec<TaskStop> = tasks.iter().map(TaskStop::new).collect();
    // All tasks are asked to end before the first is waited for, so that the times until they end do not add up.
    let foreign = find_foreign_runs(&tasks.iter().collect::<Vec<_>>());
    for (stop, foreign) in stops.iter_mut().zip(foreign) {
        if foreign.is_some() || stop.task.look().running.is_some() {
            let _ = stop.take_step();
        }
    }
    let (mut left, mut failed) = (Vec::new(), Vec::new());
    for (task, stop) in tasks.iter().zip(stops) {
        match task.stop(stop).and_then(TaskGuard::purge) {
            Ok(true) => {}
            Ok(false) => left.push(task.directory().to_owned()),
            Err(error) => failed.push(error),
        }
    }
    Ok((left, failed))
}

/// Forgets all tasks that failed or were interrupted. Returns the errors of tasks that could not be forgotten.
pub fn reset_failed(root: &TaskRoot) -> Result<Vec<TaskError>, TaskError> {
    let tasks = Task::all(root)?;
    let foreign = find_foreign_runs(&tasks.iter().collect::<Vec<_>>());
    let not_running = tasks.iter().zip(foreign).filter(|(_, run)| run.is_none());
    Ok(not_running.filter_map(|(task, _)| task.reset_if_failed().err()).collect())
}

/// The result of an attempt to acquire the lock of a task that must not be stopped.
enum IdleAttempt<'a> {
    Granted(TaskGuard<'a>),
    Running,
    /// Another process holds the lock, and does not run the task.
    Busy,
}

/// The last signal that a supervisor got.
struct StopRequest {
    /// The token of the run.
    token: u64,
    /// The time of the first signal.
    at: Instant,
    /// 0 after SIGTERM, 1 after SIGUSR1, with which the supervisor kills the command, 2 after SIGKILL.
    step: usize,
}

/// The steps that stop a run while this process waits for the lock of its task.
struct TaskStop<'a> {
    task: &'a Task<'a>,
    request: Option<StopRequest>,
    /// The records of the runs that were stopped.
    stopped: Vec<Record>,
    watch: ForeignWatch<'a>,
    /// The time at which the processes of a run by another program got SIGTERM.
    foreign_request: Option<Instant>,
    /// The time since which no process could be signalled.
    since: Option<Instant>,
    failed: Option<TaskError>,
}

impl<'a> TaskStop<'a> {
    fn new(task: &'a Task<'a>) -> Self {
        let (request, foreign_request, since, failed) = (None, None, None, None);
        Self { task, request, stopped: Vec::new(), watch: ForeignWatch::new(task), foreign_request, since, failed }
    }

    /// Takes the next step. A waiter may start the task again as soon as it has ended. That run is stopped, too.
    fn take_step(&mut self) -> ControlFlow<(), Pause> {
        if self.task.look().running.is_some() {
            self.stop_supervised_run()
        } else if self.watch.find_foreign_run().is_some() {
            self.stop_foreign_run()
        } else {
            self.give_up_after(PATIENCE, self.task.busy_error())
        }
    }

    /// Signals the supervisor, which ends its command. The command is not signalled from here, because its pid may have been
    /// reused.
    fn stop_supervised_run(&mut self) -> ControlFlow<(), Pause> {
        let path = self.task.file(files::LOCK);
        let content = record::read_path(&path);
        let supervisor = match &content {
            Content::Record(record) => find_supervisor(record, &path),
            _ => None,
        };
        let (Content::Record(record), Some(supervisor)) = (content, supervisor) else {
            return self.give_up_after(SUPERVISOR_GRACE, self.not_ended_error());
        };
        self.since = None;
        let due = match &mut self.request {
            Some(request) if request.token == record.token => {
                if request.step == 0 && request.at.elapsed() >= GRACE {
                    request.step = 1;
                    supervisor.send(libc::SIGUSR1);
                } else if request.step == 1 && request.at.elapsed() >= GRACE + SUPERVISOR_GRACE {
                    request.step = 2;
                    supervisor.send(libc::SIGKILL);
                }
                [Some(GRACE), Some(GRACE + SUPERVISOR_GRACE), None][request.step]
                    .map(|due| due.saturating_sub(request.at.elapsed()))
            }
            request => {
                *request = Some(StopRequest { token: record.token, at: Instant::now(), step: 0 });
                supervisor.send(libc::SIGTERM);
                self.stopped.push(*record);
                Some(GRACE)
            }
        };
        Pause::for_change(due)
    }

    /// Signals the processes of a run by another program. The shell that runs it then writes the outcome and releases the lock.
    fn stop_foreign_run(&mut self) -> ControlFlow<(), Pause> {
        let processes = self.task.find_foreign_processes();
        let requested = match self.foreign_request {
            None if processes.is_empty() => {
                // The run may have begun just now. Or another program holds the lock for another purpose.
                return self.give_up_after(SUPERVISOR_GRACE, self.task.busy_error());
            }
            None => {
                self.since = None;
                signal_all(&processes, libc::SIGTERM);
                *self.foreign_request.insert(Instant::now())
            }
            Some(requested) => requested,
        };
        let left = GRACE.saturating_sub(requested.elapsed());
        if !left.is_zero() {
            return Pause::for_change(Some(left));
        }
        signal_all(&processes, libc::SIGKILL);
        self.give_up_after(SUPERVISOR_GRACE, self.not_ended_error())
    }

    fn not_ended_error(&self) -> TaskError {
        TaskError::NotEnded { id: self.task.id.to_string(), pid: None }
    }

    /// Waits for a change. Gives up with this error if no process could be signalled for this time.
    fn give_up_after(&mut self, patience: Duration, error: TaskError) -> ControlFlow<(), Pause> {
        let left = patience.saturating_sub(self.since.get_or_insert_with(Instant::now).elapsed());
        if left.is_zero() {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        Pause::for_change(self.watch.limit_pause(Some(left)))
    }
}

/// Returns the process that the record names as the one that acquired the lock, if it is proved to hold the lock.
fn find_supervisor(record: &Record, path: &Path) -> Option<os::Process> {
    let number = process::number_of(record.locker)?;
    let process = os::Process::open(number, process::start_time(number)?)?;
    // The process is examined after it was opened, so the process that holds the lock is the one that is signalled. More proof is
    // not needed, and not available: a record that was written without `/proc` names neither the boot nor the PID namespace.
    openers::holds(number, &holders::identify_file(path)).then_some(process)
}
