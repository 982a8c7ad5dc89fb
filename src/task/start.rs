//! Starting a task in the background, and finding the command to run.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::foreign::ForeignWatch;
use super::guard::{Pause, TaskGuard};
use super::saved::SavedCommand;
use super::state::{RunResult, TaskLook, TaskState};
use super::supervisor::RunPurpose;
use crate::base::error::ContextError;
use crate::lock::max_time::TimeLimit;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Time limit for a start to wait for a process that holds the lock and does not run the task yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for which another program may hold the lock before this counts as a run. The bash function also takes the lock for an
/// instant to see whether the task is running.
const FOREIGN_PATIENCE: Duration = Duration::from_millis(50);

/// The result of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartResult {
    /// This process started the task.
    Started,
    /// The task was already running.
    Running,
    /// The task had already succeeded or failed.
    Finished,
}

impl Task<'_> {
    /// Starts the task in the background, unless it is running or has finished. With `combined`, stderr also goes to the log of
    /// stdout. With `limit`, the run has a maximum time.
    ///
    /// If this returns a [`CommandError`](crate::base::command_error::CommandError), the task has failed: a command
    /// that cannot be run is an outcome, too.
    pub fn start(
        &self,
        command: &[OsString],
        combined: bool,
        limit: Option<TimeLimit>,
    ) -> Result<StartResult, TaskError> {
        if let Some(already) = find_earlier_start(&self.look()) {
            return Ok(already);
        }
        // This is checked before any file is created.
        if self.find_command(command)?.is_none() {
            return Err(self.nothing_to_run_error());
        }
        let (begin, mut already) = (Instant::now(), None);
        let mut watch = ForeignWatch::new(self);
        let attempt = TaskGuard::acquire(self, None, &mut || {
            already = find_earlier_start(&self.look());
            if already.is_some() {
                return ControlFlow::Break(());
            }
            let is_foreign = watch.find_foreign_run().is_some();
            let limit = if is_foreign { FOREIGN_PATIENCE } else { PATIENCE };
            let left = limit.saturating_sub(begin.elapsed());
            if left == Duration::ZERO {
                already = is_foreign.then_some(StartResult::Running);
                return ControlFlow::Break(());
            }
            Pause::for_change(watch.limit_pause(Some(left)))
        })?;
        let Some(guard) = attempt.into_guard() else {
            return already.ok_or(TaskError::Busy { id: self.id.to_string(), path: self.file(files::LOCK) });
        };
        // The task may have run between the look and the lock, so its outcome is read again.
        if guard.read_result()?.is_some_and(|result| result.state().has_finished()) {
            guard.release()?;
            return Ok(StartResult::Finished);
        }
        let Some((saved, save)) = self.find_command(command)? else {
            guard.release()?;
            return Err(self.nothing_to_run_error());
        };
        guard.start_run(&saved, save, if combined { RunPurpose::RunCombined } else { RunPurpose::Run }, limit)?;
        Ok(StartResult::Started)
    }

    /// Returns the command to run, and true if it must be saved. This is `command`, or the saved command if `command`
    /// is empty.
    pub(super) fn find_command(&self, command: &[OsString]) -> Result<Option<(SavedCommand, bool)>, TaskError> {
        if command.is_empty() {
            return Ok(self.load_command()?.map(|saved| (saved, false)));
        }
        let directory = std::env::current_dir().map_err(|source| ContextError::NoDirectory { source })?;
        Ok(Some((SavedCommand { words: command.to_owned(), directory }, true)))
    }

    /// Creates the error for a task without a command. If a file of the task cannot be read, that error is returned
    /// instead.
    pub(super) fn nothing_to_run_error(&self) -> TaskError {
        let unreadable = self.try_look().err();
        unreadable.unwrap_or_else(|| TaskError::NothingToRun { id: self.id.to_string() })
    }
}

impl TaskGuard<'_> {
    /// Returns the result of the last run. An outcome that cannot be read is an error, because otherwise the task would
    /// run twice.
    pub(super) fn read_result(&self) -> Result<Option<RunResult>, TaskError> {
        let outcome = self.task.try_look()?.outcome.map(|outcome| outcome.result);
        Ok(outcome.or(self.missed.map(|end| end.result)))
    }
}

/// Returns the result of a start that has nothing to do, or `None` if the task must be started.
fn find_earlier_start(look: &TaskLook) -> Option<StartResult> {
    match look.state() {
        TaskState::Running => Some(StartResult::Running),
        TaskState::Succeeded | TaskState::Failed if !look.has_leftover_pid => Some(StartResult::Finished),
        _ => None,
    }
}
