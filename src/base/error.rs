//! Errors in what the caller gives: names, ids, variables, and the command that it wants run.

use super::names;
use super::programs;
use super::text::{format_io_error, shorten};
use std::fmt;
use std::io;

/// The class of an error: the programs map each class to an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Wrong usage.
    Usage,
    /// The request was refused, and nothing was changed.
    Refused,
    /// Another process holds the lock or the number.
    Busy,
    /// The time limit of a wait passed.
    TimedOut,
    /// The lock file was replaced: open it again.
    Replaced,
    /// A command was not found.
    NotFound,
    /// A command cannot be run.
    CannotRun,
    /// The user pressed Ctrl-C during a wait.
    Interrupted,
    /// A signal ended the command, and must end this process, too.
    Signal(i32),
    /// The exit status of a command is passed on.
    Status(i32),
    /// The operation failed for another reason.
    Failed,
}

/// A name, a variable or a directory of the caller that cannot be used.
#[derive(Debug)]
pub enum ContextError {
    /// Not a name for a lock.
    LockName {
        /// The text.
        name: String,
    },
    /// Not an id for a task.
    TaskId {
        /// The text.
        id: String,
    },
    /// A variable of the environment has a value that cannot be used.
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        wanted: &'static str,
    },
    /// The current directory was removed, or cannot be found.
    NoDirectory {
        /// The system's reason.
        source: io::Error,
    },
}

impl ContextError {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::LockName { .. } | Self::TaskId { .. } | Self::Variable { .. } => ErrorClass::Usage,
            Self::NoDirectory { .. } => ErrorClass::Failed,
        }
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockName { name } => write!(f, "{name:?} is not a name for a lock: a name is {}", names::RULE),
            Self::TaskId { id } => write!(f, "{id:?} is not an id for a task: an id is {}", names::RULE),
            Self::Variable { name, value, wanted } => write!(f, "{name} is {value:?}, which is not {wanted}"),
            Self::NoDirectory { source } => {
                write!(f, "could not find the current directory: {}", format_io_error(source))
            }
        }
    }
}

impl std::error::Error for ContextError {}

/// A command of the caller that did not run, or that ended together with this process.
#[derive(Debug)]
pub enum CommandError {
    /// The command was not found.
    NotFound {
        /// The command.
        command: String,
    },
    /// The command cannot be run.
    Failed {
        /// The command.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A signal came while the command ran. This process must die of it, too.
    Signalled {
        /// The signal.
        signal: i32,
    },
}

/// Maximum number of characters of a command in a message.
const MAX_COMMAND: usize = 120;

impl CommandError {
    /// The error for a command that the system did not run.
    #[must_use]
    pub fn new(command: &str, source: io::Error) -> Self {
        let command = shorten(command, MAX_COMMAND);
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { command },
            // execvp(3) reports this error also when a directory of PATH may not be searched, wherever the command is.
            io::ErrorKind::PermissionDenied if !command.contains('/') && !programs::is_on_path(&command) => {
                Self::NotFound { command }
            }
            _ => Self::Failed { command, source },
        }
    }

    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::Failed { .. } => ErrorClass::CannotRun,
            Self::Signalled { signal } => ErrorClass::Signal(*signal),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { command } => write!(f, "command not found: {command}"),
            Self::Failed { command, source } => write!(f, "could not run {command}: {}", format_io_error(source)),
            Self::Signalled { signal } => write!(f, "given up after signal {signal}"),
        }
    }
}

impl std::error::Error for CommandError {}
