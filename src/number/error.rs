//! Errors from reserving numbers and from using their registries.

use super::range::NumberRange;
use super::unavailable::{Tally, Unavailable};
use crate::base::error::{ContextError, ErrorClass, NAME_RULE};
use crate::base::text::{format_io_error, quote_path};
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
            Self::Read { path, .. } | Self::Denied { path, .. } | Self::Dotenv { path, .. } => Some(path),
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
            Self::NoRange { pool } => format!("give its numbers, for example: `--pool {pool} --range 0-7`"),
            Self::NoPorts { .. } => "ports end at 65535; for other numbers, use `--probe none`".to_owned(),
            Self::Variable { .. } | Self::TakenVariable { .. } | Self::SameVariable { .. } => {
                "use another tag, or `env:` in a group file, see aba-lock-reserve(7)".to_owned()
            }
            Self::Exhausted { pool, tally, .. } => hint_for_exhausted(pool, tally),
            Self::Required { number, reason } => hint_for_required(*number, reason),
            Self::Probe { .. } => "to reserve numbers without a probe, use `--probe none`".to_owned(),
            Self::Damaged { path, .. } => {
                let pool = path.file_name().unwrap_or_default().to_string_lossy();
                format!("recover its readable lines: `aba-lock reserve --recover --pool {pool}`")
            }
            // No suggestion to set ABA_LOCK_DIR: another state root would hand out the same numbers again.
            Self::Denied { path, .. } => format!(
                "if it was created by mistake, for example with sudo: `sudo chown -R \"$(id -u)\" {}`",
                quote_path(path)
            ),
            Self::Dotenv { path, source } if source.kind() == io::ErrorKind::NotFound => {
                let above = path.parent().unwrap_or(path);
                format!("create its directory first: `mkdir -p {}`", quote_path(above))
            }
            Self::IntoItself { .. } => {
                "if only subdirectories were moved, run `aba-lock migrate` for each of them".to_owned()
            }
            Self::Version { .. } => "use the version of aba-lock that wrote it".to_owned(),
            Self::Occupied { path, tag, pool } => {
                let tag = if tag.is_empty() { String::new() } else { format!(" --tag {tag}") };
                let path = quote_path(path);
                format!(
                    "release one of the two first, for example: `aba-lock release --path {path}{tag} --pool {pool}`"
                )
            }
            _ => return None,
        })
    }
}

/// Returns the ways to get a number although all are taken, for the reasons why they are.
fn hint_for_exhausted(pool: &str, tally: &Tally) -> String {
    if tally.reserved > 0 {
        return format!(
            "show the owners with `aba-lock reserve --list --pool {pool}`; release unused numbers (`aba-lock release`, \
             `aba-lock reserve --expire DAYS`), or choose a wider range with --range"
        );
    }
    if tally.leased > 0 {
        format!("try again when a command has ended; show the commands with `aba-lock reserve --list --pool {pool}`")
    } else if tally.excluded > 0 {
        format!(
            "show the exclusions with `aba-lock exclude --list --pool {pool}`, or choose a wider range with --range"
        )
    } else {
        "choose a wider range with --range".to_owned()
    }
}

/// Returns the ways to get the number that the caller requires, or to do without it.
fn hint_for_required(number: u32, reason: &Unavailable) -> String {
    let see = match reason {
        Unavailable::OutOfRange(_) => return "choose a wider range with --range".to_owned(),
        Unavailable::HasOther(_) => {
            return "release that number first with `aba-lock release`, or use another `--tag`".to_owned();
        }
        Unavailable::Reserved(_) | Unavailable::Leased => "show the owner with `aba-lock reserve --list`; ",
        Unavailable::Excluded => "show the exclusions with `aba-lock exclude --list`; ",
        Unavailable::InUse => &format!("show the process with `ss -tulpn 'sport = :{number}'`; "),
        Unavailable::NotRegular(_) | Unavailable::NotAllowed => "",
    };
    format!("{see}if another number is acceptable, use `--prefer {number}`")
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::Lock(error) => write!(f, "{error}"),
            Self::File(error) => write!(f, "{error}"),
            Self::Tag { tag } => write!(f, "invalid tag {tag:?}: a tag is {NAME_RULE}"),
            Self::Pool { pool } => write!(
                f,
                "invalid pool name {pool:?}: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -, not starting with -"
            ),
            Self::NoRange { pool } => write!(f, "the pool {pool} has no default range"),
            Self::NoPorts { range } => write!(f, "cannot probe {range}: not all of these numbers are ports"),
            Self::Variable { name, tag } => {
                write!(
                    f,
                    "invalid variable {name:?} for tag {tag:?}: a name is letters, digits and _, not starting with a digit"
                )
            }
            Self::SameVariable { name } => write!(f, "two numbers have the same variable {name}"),
            Self::TakenVariable { name } => {
                write!(f, "cannot use the variable {name}: it has a special meaning for shells or other programs")
            }
            Self::Denied { path, owner, source } => {
                write!(f, "cannot open {}: {} (owner: {owner})", path.display(), format_io_error(source))
            }
            Self::Dotenv { path, source } => {
                write!(f, "cannot write {}: {}", path.display(), format_io_error(source))
            }
            Self::IntoItself { path } => {
                write!(f, "cannot migrate into {}: `--to` is inside `--from`", path.display())
            }
            Self::SameTag { tag } => write!(f, "the tag {tag:?} is given twice"),
            Self::GroupFile { path, line, what } => write!(f, "{}, line {line}: {what}", path.display()),
            Self::Read { path, source } => write!(f, "cannot read {}: {}", path.display(), format_io_error(source)),
            Self::Directory { path, source } => {
                write!(f, "cannot find the directory {}: {}", path.display(), format_io_error(source))
            }
            Self::Exhausted { pool, range, wanted: 1, tally } => {
                write!(f, "no number of pool {pool} is free in {range}: {tally}")
            }
            Self::Exhausted { pool, range, wanted, tally } => {
                write!(f, "no place for a group of {wanted} numbers of pool {pool} in {range}: {tally}")
            }
            Self::Required { number, reason: Unavailable::HasOther(has) } => {
                write!(f, "cannot reserve {number}: this directory already has {has}")
            }
            Self::Required { number, reason } => write!(f, "cannot reserve {number}: it {reason}"),
            Self::Probe { number, source } => {
                write!(f, "cannot determine whether {number} is in use: {}", format_io_error(source))
            }
            Self::Damaged { path, kept } => {
                write!(f, "the registry {} is damaged, so its numbers cannot be used", path.display())?;
                match kept {
                    Some(kept) => write!(f, "; a copy is {}", kept.display()),
                    None => Ok(()),
                }
            }
            Self::Version { path, version } => {
                write!(f, "the registry {} has version {version}, which this aba-lock does not support", path.display())
            }
            Self::Occupied { path, tag, pool } => {
                let tag = if tag.is_empty() { String::new() } else { format!(" ({tag})") };
                write!(f, "{}{tag} already has a number of pool {pool}", path.display())
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
