//! Errors from finding or using the directories of locks and tasks.

use crate::base::error::{ContextError, ErrorClass};
use crate::base::text::{HINT_FOR_FULL_DISK, format_io_error, is_full_disk, quote_path};
use crate::store::creation::DirectoryUsers;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Errors from finding or using the directories of locks and tasks.
#[derive(Debug)]
pub enum StoreError {
    /// An error of the layer below.
    Context(ContextError),
    /// There is no directory for locks: neither `ABA_LOCK_DIR` nor a home directory is known.
    NoStateRoot,
    /// The state root cannot be created or used.
    StateRoot { path: PathBuf, source: io::Error },
    /// The directory for the locks of all users does not exist, or another user could replace files in it.
    System { path: PathBuf, problem: String },
    /// Another user may have made a link in the path of the state root, or could replace files in it.
    Untrusted { path: PathBuf, link: Option<PathBuf>, source: io::Error },
    /// The directory for tasks cannot be created or read.
    TaskRoot { path: PathBuf, source: io::Error },
    /// The directory for numbers cannot be created or used.
    NumberRoot { path: PathBuf, source: io::Error },
    /// The log of the state root cannot be turned on or off, or read. `hint` is the next step for the user.
    EventLog { path: PathBuf, source: io::Error, hint: Option<String> },
    /// The state root cannot be listed.
    Unreadable { path: PathBuf, source: io::Error },
}

impl StoreError {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Context(error) => error.class(),
            Self::NoStateRoot
            | Self::StateRoot { .. }
            | Self::System { .. }
            | Self::Untrusted { .. }
            | Self::TaskRoot { .. }
            | Self::NumberRoot { .. }
            | Self::EventLog { .. }
            | Self::Unreadable { .. } => ErrorClass::Failed,
        }
    }

    /// The path that could not be used, if it may lie in the directory of locks or of tasks.
    #[must_use]
    pub fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::StateRoot { path, .. }
            | Self::TaskRoot { path, .. }
            | Self::NumberRoot { path, .. }
            | Self::Unreadable { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The next step for the user, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::EventLog { hint, .. } => return hint.clone(),
            Self::StateRoot { source, .. } | Self::TaskRoot { source, .. } | Self::NumberRoot { source, .. }
                if is_full_disk(source) =>
            {
                HINT_FOR_FULL_DISK.to_owned()
            }
            Self::TaskRoot { .. } => "set RUN_ONCE_DIR to a writable directory on a local disk".to_owned(),
            Self::System { path, .. } if fs::symlink_metadata(path).is_err() => {
                format!("run as root: `install -d -m 1777 {}`", quote_path(path))
            }
            // Another directory would not have the locks that are held in this one.
            Self::System { path, .. }
                if fs::symlink_metadata(path).is_ok_and(|data| data.is_dir() && data.uid() == 0) =>
            {
                format!("run as root: `chmod 1777 {}`", quote_path(path))
            }
            Self::System { path, .. } => {
                format!("run as root: `mv -T {0} {0}.old && install -d -m 1777 {0}`", quote_path(path))
            }
            Self::Untrusted { link: Some(_), .. } => "set ABA_LOCK_DIR to a path without this link".to_owned(),
            Self::Untrusted { path, .. } => return DirectoryUsers::of_directory(path).ok()?.hint(path),
            Self::NoStateRoot => "set ABA_LOCK_DIR to a writable directory".to_owned(),
            Self::StateRoot { .. } | Self::NumberRoot { .. } => {
                "set ABA_LOCK_DIR to a writable directory on a local disk".to_owned()
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run this command as a user who can read the directory, or set ABA_LOCK_DIR to another one".to_owned()
            }
            _ => return None,
        })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(error) => write!(f, "{error}"),
            Self::NoStateRoot => write!(f, "cannot find a directory for locks: neither ABA_LOCK_DIR nor HOME is set"),
            Self::StateRoot { path, source } => {
                write!(f, "cannot create the directory for locks {}: {}", path.display(), format_io_error(source))
            }
            Self::System { path, problem } => {
                write!(f, "cannot use the directory for locks of all users {}: {problem}", path.display())
            }
            Self::Untrusted { path, link, source } => {
                write!(f, "cannot use the directory for locks {}: ", path.display())?;
                if let Some(link) = link.as_ref().filter(|link| *link != path) {
                    write!(f, "{}: ", link.display())?;
                }
                f.write_str(&format_io_error(source))
            }
            Self::TaskRoot { path, source } => {
                write!(f, "cannot use the directory for tasks {}: {}", path.display(), format_io_error(source))
            }
            Self::NumberRoot { path, source } => {
                write!(f, "cannot use the directory for numbers {}: {}", path.display(), format_io_error(source))
            }
            Self::EventLog { path, source, .. } => {
                write!(f, "cannot use the event log {}: {}", path.display(), format_io_error(source))
            }
            Self::Unreadable { path, source } => {
                write!(f, "cannot open {}: {}", path.display(), format_io_error(source))
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl From<ContextError> for StoreError {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}
