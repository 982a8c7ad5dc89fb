//! The error of a command that was not run, or that ended together with this process.

use super::error::ErrorClass;
use super::programs;
use super::text::{format_io_error, shorten};
use std::fmt;
use std::io;

/// A command of the caller that did not run, or that ended together with this process.
#[derive(Debug)]
pub enum CommandError {
    /// The command was not found.
    NotFound { command: String },
    /// The command cannot be run.
    Failed { command: String, source: io::Error },
    /// A signal came while the command ran. This process must die of it, too.
    Signalled { signal: i32 },
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
            Self::Failed { command, source } => write!(f, "cannot run {command}: {}", format_io_error(source)),
            Self::Signalled { signal } => write!(f, "ended by signal {signal}"),
        }
    }
}

impl std::error::Error for CommandError {}
