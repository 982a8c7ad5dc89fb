//! The outcomes of a call with `--coalesce` that is not granted the lock.

use std::fmt;

/// The run that covers a call with `--coalesce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoveredBy {
    /// The run of a process that waits for the lock. `None`: its pid cannot be seen from this pid namespace.
    Waiter(Option<u32>),
    /// A run that has started after the call.
    Run,
}

/// The reason why a file cannot be used with `--coalesce`.
#[derive(Debug)]
pub enum CoalesceMistake {
    /// The file is not open for writing, or this user may not write to it.
    NotWritable,
    /// This file system has no locks of a part of a file, or no attributes of users.
    FileSystem(String),
}

impl CoalesceMistake {
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NotWritable => "use a file that you may write to",
            Self::FileSystem(_) => "use a file on a local disk",
        }
    }
}

impl fmt::Display for CoveredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiter(_) => "not run: another call waits for the lock and starts after this one",
            Self::Run => "not run: a run has started since this call began",
        })
    }
}

impl fmt::Display for CoalesceMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritable => f.write_str("the file is not open for writing"),
            Self::FileSystem(name) => write!(f, "{name} has no locks or no attributes for this"),
        }
    }
}
