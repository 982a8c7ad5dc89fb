//! The reason why a call with `--priority` cannot have its level.

use std::fmt;

/// The reason why a file cannot be used with `--priority`.
#[derive(Debug)]
pub enum PriorityMistake {
    /// The file is not open for writing, or this user may not write to it.
    NotWritable,
    /// This file system has no locks of a part of a file next to those of the whole file.
    FileSystem(String),
}

impl PriorityMistake {
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NotWritable => "use a file that you may write to",
            Self::FileSystem(_) => "use a file on a local disk",
        }
    }
}

impl fmt::Display for PriorityMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritable => f.write_str("the file is not open for writing"),
            Self::FileSystem(name) => write!(f, "{name} has no locks for this"),
        }
    }
}
