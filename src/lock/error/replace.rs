//! The reasons why a caller does not replace the holder of a lock (`--replace`).

use crate::base::error::ErrorClass;
use std::fmt;

/// The reason why a caller does not replace the holder.
#[derive(Debug)]
pub enum ReplaceMistake {
    /// A later caller replaces the holder.
    Superseded,
    /// The holder is not ended, which was reported.
    NotEnded,
    /// The file is not open for writing.
    NotWritable,
    /// This file system has no locks that belong to a part of a file and to an open file description.
    FileSystem(String),
}

impl ReplaceMistake {
    pub(super) fn class(&self) -> ErrorClass {
        match self {
            Self::Superseded | Self::NotEnded => ErrorClass::Busy,
            Self::NotWritable | Self::FileSystem(_) => ErrorClass::Failed,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Superseded | Self::NotEnded => None,
            Self::NotWritable => Some("use a file that you may write to".to_owned()),
            Self::FileSystem(_) => Some("use a file on a local disk".to_owned()),
        }
    }

    pub(super) fn write(&self, label: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded => write!(f, "gave up {label}: a newer call with --replace takes it"),
            Self::NotEnded => write!(f, "cannot replace the holder of {label}"),
            Self::NotWritable => write!(f, "cannot lock {label} with --replace: the file is not open for writing"),
            Self::FileSystem(name) => write!(f, "cannot lock {label} with --replace: {name} has no locks for this"),
        }
    }
}
