//! Errors from running, waiting for and resetting tasks, with their messages, hints and exit classes.

use crate::base::command_error::CommandError;
use crate::base::error::{ContextError, ErrorClass};
use crate::base::text::{format_io_error, quote_path};
use crate::lock::error::LockError;
use crate::lock::holders::LeasedFile;
use crate::store::error::StoreError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The second part of the message of [`TaskError::NotSeen`].
const NOT_SEEN: &str = "it was interrupted, and /proc does not show whether processes of that run still exist";

/// Errors from running, waiting for and resetting tasks.
#[derive(Debug)]
pub enum TaskError {
    /// The environment or the working directory cannot be used.
    Context(ContextError),
    /// An error from finding or creating the task root.
    Store(StoreError),
    /// An error from acquiring the lock.
    Lock(LockError),
    /// An error from running the command.
    Command(CommandError),
    /// A file or directory of a task cannot be read, created or changed.
    Unusable { path: PathBuf, source: io::Error },
    /// The task was never started or was reset, and there is no command to run.
    NothingToRun { id: String },
    /// The saved command of a task cannot be read or parsed.
    NotUnderstood {
        /// The file with the command.
        path: PathBuf,
    },
    /// The saved command of a task was saved by another user.
    NotOurCommand {
        id: String,
        /// The user who saved the command.
        owner: String,
    },
    /// The task had not ended at the end of the time limit.
    TimedOut { id: String, after: Duration },
    /// Another process holds the lock of a task, and does not run it.
    Busy { id: String, path: PathBuf },
    /// A process of a task could not be ended.
    NotEnded {
        id: String,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// `/proc` does not show the processes of an interrupted run, so the task cannot be run again.
    NotSeen {
        id: String,
        /// The file `pid` of the interrupted run.
        path: PathBuf,
    },
    /// Ctrl-C ended a wait. The task continues.
    Interrupted {
        id: String,
        /// The process of the command, if it is known.
        pid: Option<u32>,
    },
    /// This process is part of the task for which it would wait.
    WaitsForItself { id: String },
    /// The supervisor could not be started, or ended before it reported the start.
    Supervisor { id: String, source: Option<io::Error> },
    /// The output of a task was requested that was never started or was reset.
    NoSuchTask { id: String },
}

impl TaskError {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Context(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Lock(error) => error.class(),
            Self::Command(error) => error.class(),
            Self::Interrupted { .. } => ErrorClass::Interrupted,
            Self::NothingToRun { .. } | Self::NoSuchTask { .. } => ErrorClass::Refused,
            Self::Busy { .. } | Self::WaitsForItself { .. } => ErrorClass::Busy,
            Self::TimedOut { .. } => ErrorClass::TimedOut,
            Self::Unusable { .. }
            | Self::NotUnderstood { .. }
            | Self::NotOurCommand { .. }
            | Self::NotEnded { .. }
            | Self::NotSeen { .. }
            | Self::Supervisor { .. } => ErrorClass::Failed,
        }
    }

    /// The path that could not be used, if it may be in the directory of locks or of tasks.
    #[must_use]
    pub fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::Store(error) => error.path_in_root(),
            Self::Lock(error) => error.path_in_root(),
            Self::Unusable { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The next step for the user, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
            Self::Lock(error) => return error.hint(),
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run this command as the user who started the task, or set RUN_ONCE_DIR to a writable directory"
                    .to_owned()
            }
            Self::Unusable { source, .. } if LeasedFile::find_in(source).is_some() => {
                return LeasedFile::find_in(source).map(LeasedFile::hint);
            }
            Self::NothingToRun { id } => format!("give its command: `aba-lock run-once -i {id} -- CMD`"),
            Self::NotOurCommand { .. } | Self::NotUnderstood { .. } => "give the command again, after `--`".to_owned(),
            Self::TimedOut { id, .. } | Self::Interrupted { id, .. } => {
                format!("stop it with `aba-lock run-once -r -i {id}`")
            }
            Self::NotEnded { pid: Some(pid), .. } => {
                format!("show its user and state with `ps -o user,stat,args -p {pid}`; end it, then try again")
            }
            Self::NotEnded { pid: None, .. } => {
                "try again as the user who started it, or as root, outside of any container".to_owned()
            }
            Self::Supervisor { source: None, .. } => "try again".to_owned(),
            Self::NotSeen { path, .. } => format!(
                "mount the /proc of this pid namespace: `mount -t proc proc /proc`; or, if no process of that run exists, run `rm {}`",
                quote_path(path)
            ),
            Self::Busy { path, .. } => {
                format!("show that process with `aba-lock status --file {}`", quote_path(path))
            }
            Self::NoSuchTask { .. } => "show all tasks with `aba-lock run-once --list`".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Lock(error) => write!(f, "{error}"),
            Self::Command(error) => write!(f, "{error}"),
            Self::Unusable { path, source } => {
                write!(f, "cannot use {}: {}", path.display(), format_io_error(source))
            }
            Self::NothingToRun { id } | Self::NoSuchTask { id } => {
                write!(f, "no such task: {id} (never started, or reset)")
            }
            Self::NotUnderstood { path } => {
                write!(f, "cannot read the saved command in {}: unknown format", path.display())
            }
            Self::NotOurCommand { id, owner } => {
                write!(f, "cannot run the saved command of task {id}: another user saved it ({owner})")
            }
            Self::TimedOut { id, after } => {
                write!(f, "timed out after {} s waiting for task {id}; the task continues", after.as_secs_f64())
            }
            Self::Busy { id, path } => {
                write!(f, "task {id} is locked by a process that does not run it: lock file {}", path.display())
            }
            Self::NotEnded { id, pid: Some(pid) } => {
                write!(f, "cannot end pid {pid} of task {id}")
            }
            Self::NotEnded { id, pid: None } => {
                write!(f, "cannot end task {id}: its process cannot be signalled from here")
            }
            Self::NotSeen { id, .. } => write!(f, "cannot run task {id} again: {NOT_SEEN}"),
            Self::Interrupted { id, pid: Some(pid) } => write!(f, "task {id} continues in the background (pid {pid})"),
            Self::Interrupted { id, pid: None } => write!(f, "task {id} continues in the background"),
            Self::WaitsForItself { id } => write!(f, "task {id} would wait for itself: this process is part of it"),
            Self::Supervisor { id, source: Some(source) } => {
                write!(f, "cannot start task {id}: {}", format_io_error(source))
            }
            Self::Supervisor { id, source: None } => {
                write!(f, "cannot start task {id}: its supervisor was killed")
            }
        }
    }
}

impl std::error::Error for TaskError {}

impl From<ContextError> for TaskError {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<LockError> for TaskError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<CommandError> for TaskError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}
