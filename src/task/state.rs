//! The state of a task, its run and its outcome, as plain data.

use std::time::{Duration, SystemTime};

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// The task was never started, or was forgotten.
    New,
    /// The command is running.
    Running,
    /// The command exited with status 0.
    Succeeded,
    /// The command exited with another status, or `--max-time` ended it.
    Failed,
    /// A signal killed the command or the supervisor. The next start or wait runs the task again.
    Interrupted,
}

impl TaskState {
    /// Returns the word for the state in lists and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns true if the outcome stays until it expires or is reset.
    #[must_use]
    pub fn has_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunResult {
    /// The exit status, or 128 + n for signal n.
    pub status: u8,
    /// The maximum time of the run, if it was over before the command ended.
    pub time_over: Option<Duration>,
}

impl RunResult {
    /// Returns the state that follows from the result.
    #[must_use]
    pub fn state(self) -> TaskState {
        match self.status {
            0 => TaskState::Succeeded,
            _ if self.time_over.is_some() => TaskState::Failed,
            status if is_signal(status) => TaskState::Interrupted,
            _ => TaskState::Failed,
        }
    }

    /// Returns true if the run was ended from outside, so that processes of it may be left.
    pub(super) fn may_leave_processes(self) -> bool {
        self.time_over.is_some() || is_signal(self.status)
    }
}

/// Returns true for the statuses with which a shell reports that a signal killed a command.
pub(super) fn is_signal(status: u8) -> bool {
    (128..=165).contains(&status)
}

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub result: RunResult,
    /// The time at which the run ended.
    pub at: SystemTime,
    /// The inode of the file `exit`, which is another one after each run.
    pub(super) inode: u64,
}

impl Outcome {
    /// Returns the state that follows from the outcome.
    #[must_use]
    pub fn state(&self) -> TaskState {
        self.result.state()
    }
}

/// A run that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The process of the command. For a run by another program that wrote no `pid`, a process that holds `lock`.
    pub pid: u32,
    /// The time at which the run began.
    pub since: SystemTime,
    /// For a run by another program: a process that holds `lock`.
    pub(super) holder: Option<u32>,
}

/// A task as it was seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLook {
    /// The run that has not ended. If there is also an outcome, that is the outcome of an earlier run, and this run validates
    /// it.
    pub running: Option<Running>,
    /// The outcome of the last run.
    pub outcome: Option<Outcome>,
    /// True if a killed supervisor left its `pid`.
    pub(super) has_leftover_pid: bool,
}

impl TaskLook {
    /// Returns the state of the task.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self {
            Self { running: Some(_), .. } => TaskState::Running,
            Self { outcome: Some(outcome), .. } => outcome.state(),
            Self { has_leftover_pid: true, .. } => TaskState::Interrupted,
            _ => TaskState::New,
        }
    }

    /// Returns the outcome if the task succeeded or failed, even while the outcome is being validated.
    #[must_use]
    pub fn finished(&self) -> Option<Outcome> {
        self.outcome.filter(|outcome| outcome.state().has_finished())
    }
}
