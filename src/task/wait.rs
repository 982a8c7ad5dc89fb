//! Waiting for a task. A waiter also runs the task if it was never run or was interrupted, and can validate an earlier success.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::follow::{FollowEnd, TaskWaitObserver};
use super::foreign::ForeignWatch;
use super::guard::{LockAttempt, Pause, TaskGuard};
use super::leftovers::build_run_label;
use super::logs::read_last_lines;
use super::run::StartedRun;
use super::run_end::RunEnd;
use super::saved::SavedCommand;
use super::state::{Outcome, RunResult, Running, TaskState};
use super::stream::Stream;
use super::supervisor::RunPurpose;
use crate::base::environment::task_of_this_process;
use crate::lock::max_time::TimeLimit;
use crate::lock::record::{self, Content};
use crate::os;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

/// Time before a wait for a validation, or for a process that does not run the task, is reported to the user.
const SILENT_TIME: Duration = Duration::from_secs(1);

/// Number of lines of a log that are shown after a failure.
const LAST_LINES: usize = 10;

/// The options of a wait.
#[derive(Debug)]
pub struct WaitRequest<'q> {
    /// The command to run if the task was never run. Empty for the saved command.
    pub command: &'q [OsString],
    /// Time limit of the wait.
    pub timeout: Option<Duration>,
    /// The maximum time of a run that this wait starts.
    pub limit: Option<TimeLimit>,
    /// True if the saved command is run again when the wait finds a success that is older than the wait. The result of a run that
    /// began during the wait, or of a validation by another process, is not validated again.
    pub validate: bool,
    /// True if the output of a run that another process started is shown.
    pub follow: bool,
    /// True if the task is removed after the wait.
    pub purge: bool,
}

/// The result of a wait.
#[derive(Debug)]
pub struct WaitResult {
    pub run: RunResult,
    /// True if the output of the run was shown.
    pub was_shown: bool,
    /// After a failure, the last lines of stderr, or of stdout if stderr is empty.
    pub last_lines: String,
    /// The stream of the last lines.
    pub last_stream: Stream,
}

impl Task<'_> {
    /// Waits until the task has finished. Runs it if it was never run or was interrupted.
    pub fn wait(&self, request: &WaitRequest, observer: &mut dyn TaskWaitObserver) -> Result<WaitResult, TaskError> {
        let deadline = request.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // A run that begins from now on has another token.
        let before = request.validate.then(|| record::read_path(&self.file(files::LOCK)).token());
        let first = self.look();
        if let Some(outcome) = first.finished()
            && first.running.is_none()
            && !first.has_leftover_pid
            && !(request.validate && outcome.state() == TaskState::Succeeded)
        {
            let result = self.build_result(outcome.result, false);
            self.purge_if_requested(outcome, request, deadline)?;
            return Ok(result);
        }
        // If another process is validating the outcome, which stays in force during that run, then the result of that
        // validation also counts for this wait.
        let is_validating = first.outcome.is_some() && first.running.is_some();
        let is_foreign_validating =
            request.validate && first.outcome.is_some() && !is_validating && self.find_foreign_run().is_some();
        if first.running.is_some() {
            self.check_not_own_task()?;
        } else if first.outcome.is_none()
            && self.find_command(request.command)?.is_none()
            && self.find_foreign_run().is_none()
            // A run of another program may have written its outcome, and ended, since the first look.
            && self.look().outcome.is_none()
        {
            return Err(self.nothing_to_run_error());
        }
        let (guard, was_shown) = self.wait_for_lock(request, deadline, observer)?;
        // A run that has begun during the wait has noted its end, unless it was killed. Without such a run, a validation that was seen
        // counts if it has replaced the outcome: otherwise it was killed, or was the end of the run that wrote this outcome.
        let is_replaced = || self.look().outcome.map(|now| now.inode) != first.outcome.map(|earlier| earlier.inode);
        let is_new = || {
            let has_begun = before != Some(record::read(&guard.lock).token());
            if has_begun { RunEnd::read_from(&guard.lock).is_some() } else { is_validating && is_replaced() }
        };
        let result = match guard.read_result()? {
            Some(run)
                if run.state() == TaskState::Succeeded && request.validate && !is_foreign_validating && !is_new() =>
            {
                match self.load_command()? {
                    Some(saved) => return self.validate(guard, &saved, request, deadline, observer),
                    None => self.build_result(run, was_shown),
                }
            }
            Some(run) if run.state().has_finished() => self.build_result(run, was_shown),
            interrupted => match (self.find_command(request.command)?, interrupted) {
                (Some((saved, save)), _) => {
                    let run = guard.start_run(&saved, save, RunPurpose::Run, request.limit);
                    if let (Err(_), Ok(Some(outcome))) = (&run, self.read_outcome_of_any_age()) {
                        self.purge_if_requested(outcome, request, deadline)?;
                    }
                    return self.show_own_run(run?, request, deadline, observer);
                }
                (None, Some(run)) => self.build_result(run, was_shown),
                (None, None) => {
                    guard.release()?;
                    return Err(self.nothing_to_run_error());
                }
            },
        };
        if request.purge {
            guard.purge()?;
        } else {
            guard.release()?;
        }
        Ok(result)
    }

    /// Waits until no other process holds the lock, and acquires it. Also returns true if the output of the last run
    /// was shown during the wait.
    fn wait_for_lock(
        &self,
        request: &WaitRequest,
        deadline: Option<Instant>,
        observer: &mut dyn TaskWaitObserver,
    ) -> Result<(TaskGuard<'_>, bool), TaskError> {
        let interrupts = os::Interrupts::notice();
        let (mut shown, mut begun, mut last) = (None, false, None::<Running>);
        // The end of the run that was followed last.
        let mut missed = None;
        let mut watch = ForeignWatch::new(self);
        loop {
            let started = Instant::now();
            let attempt = TaskGuard::acquire(self, deadline, &mut || {
                if interrupts.came() {
                    return ControlFlow::Break(());
                }
                let Some(running) = watch.find_run() else {
                    let left = SILENT_TIME.saturating_sub(started.elapsed());
                    if left == Duration::ZERO && !begun {
                        begun = true;
                        observer.on_blocked(self);
                    }
                    return Pause::for_change(watch.limit_pause(Some(left).filter(|left| !left.is_zero())));
                };
                last = Some(running);
                // Each run is followed, including one that another waiter starts after this run was killed.
                if request.follow && shown != Some(running.pid) {
                    return ControlFlow::Break(());
                }
                if begun {
                    observer.on_tick(self, running);
                } else {
                    observer.on_begin(self, running);
                }
                begun = true;
                if request.follow {
                    // Another waiter may start the task again when this run is killed.
                    Pause::for_change(observer.tick_interval())
                } else {
                    Pause::for_lock(observer.tick_interval())
                }
            });
            if begun {
                observer.on_end();
            }
            let lock = match attempt? {
                LockAttempt::Granted(guard) => {
                    let missed = guard.missed.or(missed);
                    let was_shown = shown.is_some() && shown == last.map(|running| running.pid);
                    return Ok((TaskGuard { missed, ..guard }, was_shown));
                }
                LockAttempt::GivenUp(lock) => lock,
            };
            let end = match last {
                _ if interrupts.came() => FollowEnd::Interrupted,
                Some(running) if request.follow && shown != Some(running.pid) => {
                    // The supervisor notes the end of the run in this open file, even if the task is removed then.
                    let is_of_run = matches!(record::read(&lock), Content::Record(record) if record.pid == running.pid);
                    if !is_of_run && running.holder.is_none() {
                        // The task was removed and started again, so its lock is another file.
                        continue;
                    }
                    let logs = Stream::BOTH.map(|stream| self.log(stream));
                    let end = self.follow(running, logs, deadline, observer, &interrupts);
                    missed = RunEnd::read_from(&lock).filter(|_| is_of_run);
                    end
                }
                _ => FollowEnd::TimedOut,
            };
            match end {
                FollowEnd::RunEnded => {
                    shown = last.map(|running| running.pid);
                    // The supervisor may hold the lock for another moment.
                    watch = ForeignWatch::new(self);
                }
                FollowEnd::TimedOut => return Err(self.timed_out_error(request)),
                FollowEnd::Interrupted => return Err(self.interrupted_error(last.map(|running| running.pid))),
            }
        }
    }

    /// Waits for a run that this process started, and shows its output.
    fn show_own_run(
        &self,
        mut run: StartedRun,
        request: &WaitRequest,
        deadline: Option<Instant>,
        observer: &mut dyn TaskWaitObserver,
    ) -> Result<WaitResult, TaskError> {
        let interrupts = os::Interrupts::notice();
        let logs = std::mem::take(&mut run.logs);
        let running = Running { pid: run.pid, since: SystemTime::now(), holder: None };
        match self.follow(running, logs, deadline, observer, &interrupts) {
            FollowEnd::RunEnded => {}
            FollowEnd::TimedOut => return Err(self.timed_out_error(request)),
            FollowEnd::Interrupted => return Err(self.interrupted_error(Some(run.pid))),
        }
        drop(interrupts);
        let result = run.wait_for_result(deadline, None).map_err(|()| self.timed_out_error(request))?;
        self.finish_own_run(result, request, deadline, true)
    }

    /// Runs the saved command again to check an earlier success.
    fn validate(
        &self,
        guard: TaskGuard,
        saved: &SavedCommand,
        request: &WaitRequest,
        deadline: Option<Instant>,
        observer: &mut dyn TaskWaitObserver,
    ) -> Result<WaitResult, TaskError> {
        let mut run = guard.start_run(saved, false, RunPurpose::Validate, request.limit)?;
        let running = Running { pid: run.pid, since: SystemTime::now(), holder: None };
        let mut silent = Some(SILENT_TIME);
        let interrupts = os::Interrupts::notice();
        let result = loop {
            let interval =
                silent.or(observer.tick_interval()).and_then(|interval| Instant::now().checked_add(interval));
            match run.wait_for_result([deadline, interval].into_iter().flatten().min(), Some(&interrupts)) {
                Ok(result) => break Ok(result),
                Err(()) if interrupts.came() => break Err(self.interrupted_error(Some(run.pid))),
                Err(()) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    break Err(self.timed_out_error(request));
                }
                Err(()) if silent.take().is_some() => observer.on_begin(self, running),
                Err(()) => observer.on_tick(self, running),
            }
        };
        if silent.is_none() {
            observer.on_end();
        }
        drop(interrupts);
        self.finish_own_run(result?, request, deadline, false)
    }

    /// Builds the result of a run that this process started. The result is `None` if its supervisor was killed.
    fn finish_own_run(
        &self,
        run: Option<RunResult>,
        request: &WaitRequest,
        deadline: Option<Instant>,
        was_shown: bool,
    ) -> Result<WaitResult, TaskError> {
        let run = match run {
            Some(run) => run,
            // Acquiring the lock finishes the run. The outcome is not read, because it may already be that of another
            // run.
            None => match TaskGuard::acquire(self, deadline, &mut || Pause::for_lock(None))? {
                LockAttempt::Granted(_) => RunResult { status: 137, time_over: None },
                LockAttempt::GivenUp(_) => return Err(self.timed_out_error(request)),
            },
        };
        let result = self.build_result(run, was_shown);
        if let Ok(Some(outcome)) = self.read_outcome_of_any_age() {
            self.purge_if_requested(outcome, request, deadline)?;
        }
        Ok(result)
    }

    fn build_result(&self, run: RunResult, was_shown: bool) -> WaitResult {
        let read_last = |stream: Stream| {
            let lines = read_last_lines(&self.log(stream)?, LAST_LINES);
            (!lines.is_empty()).then_some((stream, lines))
        };
        let last = if run.state() == TaskState::Succeeded {
            None
        } else {
            read_last(Stream::Err).or_else(|| read_last(Stream::Out))
        };
        let (last_stream, last_lines) = last.unwrap_or((Stream::Err, String::new()));
        WaitResult { run, was_shown, last_lines, last_stream }
    }

    /// Removes the task if the request says so. The task stays if it was run again, or if its lock is not free before
    /// the deadline.
    fn purge_if_requested(
        &self,
        outcome: Outcome,
        request: &WaitRequest,
        deadline: Option<Instant>,
    ) -> Result<(), TaskError> {
        if !request.purge {
            return Ok(());
        }
        let mut watch = ForeignWatch::new(self);
        let attempt = TaskGuard::acquire(self, deadline, &mut || match watch.find_run() {
            Some(_) => ControlFlow::Break(()),
            None => Pause::for_change(watch.limit_pause(None)),
        })?;
        match attempt.into_guard() {
            Some(guard) if self.read_outcome_of_any_age().is_ok_and(|now| now == Some(outcome)) => {
                guard.purge().map(drop)
            }
            Some(guard) => guard.release(),
            None => Ok(()),
        }
    }

    fn timed_out_error(&self, request: &WaitRequest) -> TaskError {
        TaskError::TimedOut { id: self.id.to_string(), after: request.timeout.unwrap_or_default() }
    }

    fn interrupted_error(&self, pid: Option<u32>) -> TaskError {
        TaskError::Interrupted { id: self.id.to_string(), pid }
    }

    /// Returns an error if this process is part of the run of this task, because then it would wait forever.
    fn check_not_own_task(&self) -> Result<(), TaskError> {
        let Some(ours) = task_of_this_process() else { return Ok(()) };
        let token = record::read_path(&self.file(files::LOCK)).token();
        if ours == build_run_label(self, token) {
            return Err(TaskError::WaitsForItself { id: self.id.to_string() });
        }
        Ok(())
    }
}
