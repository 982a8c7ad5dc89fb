//! Errors from acquiring, examining and releasing locks.

use super::deadlock::circle::Circle;
use crate::base::error::{CommandError, ErrorClass};
use crate::base::target::Kind;
use crate::base::text::{format_io_error, quote_path};
use crate::os::{self, Mode};
use crate::store;
use crate::store::error::StoreError;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Errors from acquiring, examining and releasing locks.
#[derive(Debug)]
pub enum LockError {
    /// An error of the layer below.
    Store(StoreError),
    /// An error of the layer below.
    Command(CommandError),
    /// The lock file cannot be opened or made.
    Open {
        /// The lock file.
        path: PathBuf,
        /// The user whose file it is, where that may be the cause.
        owner: Option<String>,
        /// The system's reason.
        source: io::Error,
    },
    /// A lock file cannot be removed.
    Remove {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The lock file cannot be looked at.
    Look {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What stands at the path of the lock file is not a regular file.
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// There is no `/proc` that tells who has a lock.
    Blind,
    /// The descriptor is not open.
    BadDescriptor {
        /// Its number.
        fd: RawFd,
    },
    /// The descriptor is open on something else than the file that the name leads to: the file was replaced
    /// since it was opened, or it never was that file.
    Replaced {
        /// Its number.
        fd: RawFd,
        /// The file that the name leads to.
        path: PathBuf,
    },
    /// The lock file was replaced each time that it was opened.
    KeepsChanging {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system does not lock.
    Unsupported {
        /// The lock file.
        path: PathBuf,
        /// The file system's name.
        file_system: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel does not say whether a descriptor holds its lock.
    Unknown {
        /// The descriptor.
        fd: i32,
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel would not lock, for another reason.
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another has the lock, and we were not to wait.
    Busy {
        /// The name of the lock.
        label: String,
        /// The lock file.
        path: PathBuf,
        /// Whose that is: a name that is no lock's may be called as one is.
        kind: Kind,
    },
    /// To wait for it would have no end: who has it waits, perhaps over others, for a lock that we have.
    Deadlock {
        /// The name of the lock, or of the task.
        label: String,
        /// Who waits for whom.
        circle: Box<Circle>,
    },
    /// Another still had the lock when the time was up.
    TimedOut {
        /// The name of the lock.
        label: String,
        /// The lock file.
        path: PathBuf,
        /// Whose that is.
        kind: Kind,
        /// How long we waited.
        after: Duration,
    },
    /// The script holds the lock shared and asks for it exclusive.
    Upgrade {
        /// The name of the lock.
        label: String,
        /// The mode that is held.
        held: Mode,
    },
    /// The script for which we waited has ended.
    ScriptEnded {
        /// The name of the lock.
        label: String,
    },
    /// The program that keeps leases is not installed.
    NoKeeper,
}

impl LockError {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Command(error) => error.class(),
            Self::Busy { .. } | Self::Upgrade { .. } | Self::Deadlock { .. } => ErrorClass::Busy,
            Self::TimedOut { .. } => ErrorClass::TimedOut,
            Self::Replaced { .. } => ErrorClass::Replaced,
            Self::Open { .. }
            | Self::Remove { .. }
            | Self::Look { .. }
            | Self::NotRegular { .. }
            | Self::Blind
            | Self::Unknown { .. }
            | Self::BadDescriptor { .. }
            | Self::KeepsChanging { .. }
            | Self::Unsupported { .. }
            | Self::Lock { .. }
            | Self::ScriptEnded { .. }
            | Self::NoKeeper => ErrorClass::Failed,
        }
    }

    /// The path that could not be used, if it may lie in the directory of locks or of tasks.
    #[must_use]
    pub fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::Store(error) => error.path_in_root(),
            Self::Open { path, .. } | Self::Look { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The remedy, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
            Self::Deadlock { circle, .. } if circle.has_pipe() => {
                "run one part after the other, or take the lock once for all: `aba-lock lock NAME -- sh -c 'CMD | CMD'`"
                    .to_owned()
            }
            Self::Deadlock { circle, .. } if circle.steps.len() == 1 => {
                "it is held by what asks for it, in a way that cannot be seen from inside: release it first".to_owned()
            }
            Self::Deadlock { .. } => {
                "have all take them in the same order, or together: `aba-lock lock NAME NAME -- CMD`".to_owned()
            }
            Self::Open { source, owner, .. } if source.kind() == io::ErrorKind::PermissionDenied => match owner {
                Some(owner) => format!(
                    "each user has locks of their own in ~/.aba; to share this one, {owner} makes it readable for you"
                ),
                None => "set ABA_LOCK_DIR to a directory that you may write to".to_owned(),
            },
            Self::NotRegular { path, .. } if store::name_of(path).is_some() => {
                "another program put it there: see whose it is with `ls -l`".to_owned()
            }
            Self::NotRegular { .. } => "name a regular file, or a directory".to_owned(),
            Self::BadDescriptor { fd } => format!("open it first: `exec {fd}<>\"$(aba-lock path --create NAME)\"`"),
            Self::NoKeeper => {
                "install it with `make install WITH_SERVICE=yes`, or set ABA_LOCK_KEEPER to where it is".to_owned()
            }
            Self::Replaced { fd, path } => format!("open it again: `exec {fd}<>{}`", quote_path(path)),
            Self::KeepsChanging { .. } => {
                "find what removes it, and stop that: a lock file is meant to stay".to_owned()
            }
            Self::Upgrade { .. } => "release it first, or take it exclusive from the start".to_owned(),
            Self::Unsupported { .. } => "set ABA_LOCK_DIR to a directory of yours on a local disk".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Command(error) => write!(f, "{error}"),
            Self::Open { path, owner, source } => {
                write!(f, "could not open lock file {}: {}", path.display(), format_io_error(source))?;
                owner.as_ref().map_or(Ok(()), |owner| write!(f, " (it belongs to {owner})"))
            }
            Self::Remove { path, source } => {
                write!(f, "could not remove lock file {}: {}", path.display(), format_io_error(source))
            }
            Self::Look { path, source } => {
                write!(f, "could not look at lock file {}: {}", path.display(), format_io_error(source))
            }
            Self::NotRegular { path, kind } => {
                write!(f, "refused to use lock file {}: it is a {kind}, not a regular file", path.display())
            }
            Self::Blind => write!(f, "which locks are held cannot be known from here: /proc cannot be read"),
            Self::BadDescriptor { fd } => write!(f, "file descriptor {fd} is not open"),
            Self::Replaced { fd, path } => {
                write!(f, "file descriptor {fd} is not, or no longer, open on lock file {}", path.display())
            }
            Self::KeepsChanging { path } => {
                write!(f, "lock file {} was replaced each time that it was opened", path.display())
            }
            Self::Unsupported { path, file_system, source } => {
                write!(f, "{file_system} does not lock files: {}: {}", path.display(), format_io_error(source))
            }
            Self::Unknown { fd, path, source } => write!(
                f,
                "whether file descriptor {fd} holds the lock on {} cannot be known from here: /proc/self/fdinfo: {}",
                path.display(),
                format_io_error(source)
            ),
            Self::Lock { path, source } => write!(f, "could not lock {}: {}", path.display(), format_io_error(source)),
            Self::Busy { label, .. } => write!(f, "{label} is held by another"),
            Self::Deadlock { label, circle } => write!(f, "waiting for {label} would be a deadlock: {circle}"),
            Self::TimedOut { label, after, .. } => {
                write!(f, "timed out after {} s waiting for {label}", after.as_secs_f64())
            }
            Self::Upgrade { label, held } => {
                write!(f, "{label} is already held {held} by this script, and cannot be made exclusive in place")
            }
            Self::ScriptEnded { label } => write!(f, "the script that waited for {label} has ended"),
            Self::NoKeeper => f.write_str("aba-lock-keeper was not found, so nothing is locked"),
        }
    }
}

impl std::error::Error for LockError {}

impl From<StoreError> for LockError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CommandError> for LockError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl LockError {
    /// The error for a file that the system did not lock.
    pub(crate) fn cannot_lock(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => {
                Self::Unsupported { file_system: os::file_system(&path), path, source }
            }
            _ => Self::Lock { path, source },
        }
    }
}
