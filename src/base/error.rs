//! The classes of errors, and the errors in input of the caller: names, ids, variables and the current directory.

use super::text::{format_io_error, quote_path};
use std::fmt;
use std::io;
use std::path::Path;

/// The rule for names of locks and ids of tasks, for messages.
pub const NAME_RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 . _ - : @ +, not starting with . or -";

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
    /// The text breaks the rule for names of locks.
    LockName { name: String },
    /// The text of a key is empty.
    EmptyKey,
    /// The text breaks the rule for ids of tasks.
    TaskId { id: String },
    /// A variable of the environment has a value that cannot be used.
    Variable {
        name: &'static str,
        value: String,
        /// The values that it may have.
        wanted: &'static str,
    },
    /// The current directory was removed, or cannot be found.
    NoDirectory { source: io::Error },
}

impl ContextError {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::LockName { .. } | Self::EmptyKey | Self::TaskId { .. } | Self::Variable { .. } => ErrorClass::Usage,
            Self::NoDirectory { .. } => ErrorClass::Failed,
        }
    }

    /// The next step for the user, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LockName { name } if name.contains("://") || name.contains(' ') && !name.contains('\n') => {
                Some(format!("to use any text as the name, use `--key {}`", shell_words::quote(name)))
            }
            Self::LockName { name } if name.contains('/') => {
                Some(format!("to lock a file, use `--file {}`", quote_path(Path::new(name))))
            }
            Self::TaskId { id } if id.contains('/') => {
                Some(format!("use another character for /, for example: {:?}", id.replace('/', "-")))
            }
            _ => None,
        }
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockName { name } => write!(f, "invalid lock name {name:?}: a name is {NAME_RULE}"),
            Self::EmptyKey => f.write_str("the text of --key is empty"),
            Self::TaskId { id } => write!(f, "invalid task id {id:?}: an id is {NAME_RULE}"),
            Self::Variable { name, value, wanted } => write!(f, "{name} is {value:?}, which is not {wanted}"),
            Self::NoDirectory { source } => {
                write!(f, "cannot find the current directory: {}", format_io_error(source))
            }
        }
    }
}

impl std::error::Error for ContextError {}
