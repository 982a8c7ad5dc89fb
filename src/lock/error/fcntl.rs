//! The reason why a file cannot be locked with `--fcntl`.

use crate::base::text::quote_path;
use std::fmt;
use std::path::Path;

/// The reason why a file cannot be locked with `--fcntl`.
#[derive(Debug)]
pub enum FcntlMistake {
    /// The file may not be opened. It belongs to this user.
    Denied { owner: String },
    /// The file is not open for writing, as an exclusive lock needs it.
    NotWritable,
    /// The file is a directory, which no process can open for writing.
    Directory,
    /// This file system has no locks that belong to an open file description.
    FileSystem(String),
}

impl FcntlMistake {
    pub(super) fn hint(&self, path: &Path) -> String {
        match self {
            Self::Denied { owner } => {
                format!(
                    "run this as user {owner}, or wait for the lock with `aba-lock wait --file {}`",
                    quote_path(path)
                )
            }
            Self::NotWritable => {
                format!(
                    "use a file that you may write to, or wait for the lock with `aba-lock wait --file {}`",
                    quote_path(path)
                )
            }
            Self::Directory => format!("use a file in {}, or lock it without --fcntl", quote_path(path)),
            Self::FileSystem(_) => "use a file on a local disk".to_owned(),
        }
    }
}

impl fmt::Display for FcntlMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied { owner } => write!(f, "you may not open the file (owner: {owner})"),
            Self::NotWritable => f.write_str("the file is not open for writing"),
            Self::Directory => f.write_str("it is a directory"),
            Self::FileSystem(name) => write!(f, "{name} has no locks for this"),
        }
    }
}
