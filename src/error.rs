//! All errors of the library, for the programs: one variant for each layer.
//!
//! `Display` writes the message without a prefix and without a full stop. [`Error::hint`] returns the hint, if one is
//! known. No hint advises to remove a lock file, because then two processes could hold one lock.

use crate::base::command_error::CommandError;
use crate::base::error::{ContextError, ErrorClass};
use crate::base::text::format_io_error;
use crate::file::error::FileError;
use crate::lock::error::LockError;
use crate::number::error::NumberError;
use crate::store;
use crate::store::error::StoreError;
use crate::task::error::TaskError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the library. An error that a layer passes on from a layer below is in the variant of the layer that
/// raised it.
#[derive(Debug)]
pub enum Error {
    /// A name, a variable or a directory of the caller cannot be used.
    Context(ContextError),
    /// A command did not run, or a signal ended it.
    Command(CommandError),
    /// The directory of locks or tasks cannot be used.
    Store(StoreError),
    /// A lock was not acquired.
    Lock(LockError),
    /// A file was not updated.
    File(FileError),
    /// A task did not run.
    Task(TaskError),
    /// A number was not reserved.
    Number(NumberError),
    /// There is no terminal to draw on.
    Terminal { source: io::Error },
    /// A file could not be written.
    Write { path: PathBuf, source: io::Error },
}

impl Error {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Context(error) => error.class(),
            Self::Command(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Lock(error) => error.class(),
            Self::File(error) => error.class(),
            Self::Task(error) => error.class(),
            Self::Number(error) => error.class(),
            Self::Terminal { .. } | Self::Write { .. } => ErrorClass::Failed,
        }
    }

    fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::Store(error) => error.path_in_root(),
            Self::Lock(error) => error.path_in_root(),
            Self::File(error) => error.path_in_root(),
            Self::Task(error) => error.path_in_root(),
            Self::Number(error) => error.path_in_root(),
            Self::Context(_) | Self::Command(_) | Self::Terminal { .. } | Self::Write { .. } => None,
        }
    }

    /// The next step for the user, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = self.path_in_root().and_then(store::hint_about) {
            return Some(hint);
        }
        match self {
            Self::Store(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Task(error) => error.hint(),
            Self::Number(error) => error.hint(),
            Self::Context(error) => error.hint(),
            Self::Command(_) | Self::Terminal { .. } | Self::Write { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(error) => write!(f, "{error}"),
            Self::Command(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Lock(error) => write!(f, "{error}"),
            Self::File(error) => write!(f, "{error}"),
            Self::Task(error) => write!(f, "{error}"),
            Self::Number(error) => write!(f, "{error}"),
            Self::Terminal { source } => write!(f, "cannot use the terminal: {}", format_io_error(source)),
            Self::Write { path, source } => {
                write!(f, "cannot write {}: {}", path.display(), format_io_error(source))
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<ContextError> for Error {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Context(error) => error.into(),
            error => Self::Store(error),
        }
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Store(error) => error.into(),
            LockError::Command(error) => error.into(),
            error => Self::Lock(error),
        }
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Lock(error) => error.into(),
            FileError::Command(error) => error.into(),
            error => Self::File(error),
        }
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Context(error) => error.into(),
            TaskError::Store(error) => error.into(),
            TaskError::Lock(error) => error.into(),
            TaskError::Command(error) => error.into(),
            error => Self::Task(error),
        }
    }
}

impl From<NumberError> for Error {
    fn from(error: NumberError) -> Self {
        match error {
            NumberError::Context(error) => error.into(),
            NumberError::Store(error) => error.into(),
            NumberError::Lock(error) => error.into(),
            NumberError::File(error) => error.into(),
            error => Self::Number(error),
        }
    }
}
