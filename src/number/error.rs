//! Errors from reserving numbers and from using their registries.

use super::range::NumberRange;
use super::unavailable::{Tally, Unavailable};
use crate::base::error::{ContextError, ErrorClass, NAME_RULE};
use crate::base::text::format_io_error;
use crate::file::error::FileError;
use crate::lock::error::LockError;
use crate::os;
use crate::os::proc::process;
use crate::store::error::StoreError;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Errors from reserving numbers and from using their registries.
#[derive(Debug)]
pub enum NumberError {
    Context(ContextError),
    Store(StoreError),
    Lock(LockError),
    File(FileError),
    /// The text is not a valid tag.
    Tag {
        tag: String,
    },
    /// The text is not a valid name of a pool.
    Pool {
        pool: String,
    },
    /// The pool has no default range, and the caller gave none.
    NoRange {
        pool: String,
    },
    /// The range contains numbers that are not ports, and so cannot be probed.
    NoPorts {
        range: NumberRange,
    },
    /// The name of a variable, made from `tag`, is invalid.
    Variable {
        name: String,
        tag: String,
    },
    /// Two tags of a group have the same variable.
    SameVariable {
        name: String,
    },
    /// A group contains a tag twice.
    SameTag {
        tag: String,
    },
    /// A line of a group file is invalid.
    GroupFile {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        what: String,
    },
    /// A file or directory cannot be read.
    Read {
        path: PathBuf,
        source: io::Error,
    },
    /// The directory of a key does not exist, or cannot be reached.
    Directory {
        path: PathBuf,
        source: io::Error,
    },
    /// No number is available, or no place for a whole group.
    Exhausted {
        pool: String,
        range: NumberRange,
        /// The count of numbers that the caller needs at once.
        wanted: usize,
        tally: Tally,
    },
    /// The number that the caller requires is not available.
    Required {
        number: u32,
        reason: Unavailable,
    },
    /// The probe of a number failed.
    Probe {
        number: u32,
        source: io::Error,
    },
    /// The registry is damaged: it is truncated, or another program changed it.
    Damaged {
        path: PathBuf,
        /// The path of a copy, if there is one.
        kept: Option<PathBuf>,
    },
    /// The registry has a version that this program does not know.
    Version {
        path: PathBuf,
        version: String,
    },
    /// A file of another user cannot be opened.
    Denied {
        path: PathBuf,
        /// The owner of the file, or of the directory that contains it.
        owner: String,
        source: io::Error,
    },
    /// The file of `--dotenv` cannot be written.
    Dotenv {
        path: PathBuf,
        source: io::Error,
    },
    /// The variable already has a meaning to shells, to other programs or to aba-lock.
    TakenVariable {
        name: String,
    },
    /// The new directory of a move lies in the old one.
    IntoItself {
        path: PathBuf,
    },
    /// Two rows would have the same key after a move.
    Occupied {
        path: PathBuf,
        tag: String,
        pool: String,
    },
}

impl NumberError {
    /// Creates the error for a missing permission to open `path`. It names the owner of the file, or of the first
    /// directory on its path that belongs to another user.
    #[must_use]
    pub fn denied(path: &Path, source: io::Error) -> Self {
        let us = os::user_id();
        let found = path.ancestors().take(3).filter_map(|path| Some((path, fs::symlink_metadata(path).ok()?)));
        let mut foreign = found.filter(|(_, data)| data.uid() != us);
        let (path, owner) = foreign.next().map_or((path, us), |(path, data)| (path, data.uid()));
        Self::Denied { path: path.to_owned(), owner: process::user_name(owner), source }
    }

    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Context(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Lock(error) => error.class(),
            Self::File(error) => error.class(),
            Self::Tag { .. }
            | Self::Pool { .. }
            | Self::NoRange { .. }
            | Self::NoPorts { .. }
            | Self::Variable { .. }
            | Self::SameVariable { .. }
            | Self::TakenVariable { .. }
            | Self::IntoItself { .. }
            | Self::SameTag { .. }
            | Self::GroupFile { .. } => ErrorClass::Usage,
            Self::Occupied { .. } => ErrorClass::Refused,
            Self::Exhausted { .. } | Self::Required { .. } => ErrorClass::Busy,
            Self::Read { .. }
            | Self::Denied { .. }
            | Self::Dotenv { .. }
            | Self::Directory { .. }
            | Self::Probe { .. }
            | Self::Damaged { .. }
            | Self::Version { .. } => ErrorClass::Failed,
        }
    }

    /// Returns the path that could not be used, if it can lie in the state root or in the task root.
    #[must_use]
    pub fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::Store(error) => error.path_in_root(),
            Self::Lock(error) => error.path_in_root(),
            Self::File(error) => error.path_in_root(),
            Self::Read { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns a suggestion to the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
            Self::Lock(error) => return error.hint(),
            Self::File(error) => return error.hint(),
            Self::NoRange { pool } => format!("say which numbers it has: `--pool {pool} --range 0-7`"),
            Self::NoPorts { .. } => "ports end at 65535; for other numbers say `--probe none`".to_owned(),
            Self::Variable { .. } | Self::TakenVariable { .. } => {
                "give it a variable of its own: `env:` in a group file, see aba-lock-reserve(7)".to_owned()
            }
            Self::Exhausted { pool, .. } => format!(
                "see who has them with `aba-lock reserve --list --pool {pool}`; give some back with `aba-lock release`, \
                 or take a wider `--range`"
            ),
            Self::Required { reason: Unavailable::OutOfRange(_), .. } => "take a wider `--range`".to_owned(),
            Self::Required { reason: Unavailable::HasOther(_), .. } => {
                "give that back first with `aba-lock release`, or ask for another with `--tag`".to_owned()
            }
            Self::Required { .. } => "if another number will do, say `--prefer`".to_owned(),
            Self::Probe { .. } => "if nothing can be probed here, say `--probe none`".to_owned(),
            Self::Damaged { path, .. } => {
                let pool = path.file_name().unwrap_or_default().to_string_lossy();
                format!("take what can be read of it with `aba-lock reserve --recover --pool {pool}`")
            }
            // No suggestion to set ABA_LOCK_DIR: another state root would hand out the same numbers again.
            Self::Denied { .. } => "if it was made by mistake, such as with sudo, have it given back to you: \
                 `sudo chown -R \"$(id -u)\" DIR`; numbers are kept apart only where all use one registry"
                .to_owned(),
            Self::Dotenv { path, source } if source.kind() == io::ErrorKind::NotFound => {
                let above = path.parent().unwrap_or(path);
                format!("make its directory first: `mkdir -p {}`", above.display())
            }
            Self::IntoItself { .. } => {
                "what is below it moved by itself: say that with --from and --to, one call each".to_owned()
            }
            Self::Version { .. } => "use the aba-lock that wrote it".to_owned(),
            Self::Occupied { .. } => "release one of them first: `aba-lock release --path DIR --tag TAG`".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Lock(error) => write!(f, "{error}"),
            Self::File(error) => write!(f, "{error}"),
            Self::Tag { tag } => write!(f, "{tag:?} is not a tag: a tag is {NAME_RULE}"),
            Self::Pool { pool } => write!(
                f,
                "{pool:?} is not a name for a pool: that is 1 to 64 of the letters A-Z and a-z, digits and _ -, not \
                 starting with -"
            ),
            Self::NoRange { pool } => write!(f, "which numbers the pool {pool} has is not known"),
            Self::NoPorts { range } => write!(f, "not all of {range} are ports, so they cannot be probed"),
            Self::Variable { name, tag } => {
                write!(
                    f,
                    "{name:?}, for the tag {tag:?}, is not a name for a variable: letters, digits and _, not \
                           starting with a digit"
                )
            }
            Self::SameVariable { name } => write!(f, "two numbers would be in the variable {name}"),
            Self::TakenVariable { name } => {
                write!(f, "the variable {name} has a meaning of its own for shells, for programs, or for aba-lock")
            }
            Self::Denied { path, owner, source } => {
                write!(f, "could not open {}: {} (it belongs to {owner})", path.display(), format_io_error(source))
            }
            Self::Dotenv { path, source } => {
                write!(f, "could not write {}: {}", path.display(), format_io_error(source))
            }
            Self::IntoItself { path } => {
                write!(f, "a directory cannot have been moved into itself, to {}", path.display())
            }
            Self::SameTag { tag } => write!(f, "the tag {tag:?} is given twice"),
            Self::GroupFile { path, line, what } => write!(f, "{}, line {line}: {what}", path.display()),
            Self::Read { path, source } => write!(f, "could not read {}: {}", path.display(), format_io_error(source)),
            Self::Directory { path, source } => {
                write!(f, "could not find the directory {}: {}", path.display(), format_io_error(source))
            }
            Self::Exhausted { pool, range, wanted: 1, tally } => {
                write!(f, "no number of {pool} is free in {range}: {tally}")
            }
            Self::Exhausted { pool, range, wanted, tally } => {
                write!(f, "there is no place in {range} of {pool} for a group of {wanted}: {tally}")
            }
            Self::Required { number, reason } => write!(f, "{number} cannot be had: it {reason}"),
            Self::Probe { number, source } => {
                write!(f, "could not find out whether {number} is in use: {}", format_io_error(source))
            }
            Self::Damaged { path, kept } => {
                write!(f, "the registry {} is damaged, and nothing is given out of it", path.display())?;
                match kept {
                    Some(kept) => write!(f, "; it is also kept as {}", kept.display()),
                    None => Ok(()),
                }
            }
            Self::Version { path, version } => {
                write!(f, "the registry {} is of version {version}, which this aba-lock does not know", path.display())
            }
            Self::Occupied { path, tag, pool } => {
                let tag = if tag.is_empty() { String::new() } else { format!(" ({tag})") };
                write!(f, "{}{tag} has a number of {pool} already", path.display())
            }
        }
    }
}

impl std::error::Error for NumberError {}

impl From<ContextError> for NumberError {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

impl From<StoreError> for NumberError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<LockError> for NumberError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<FileError> for NumberError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}
