//! Whole-file locks of flock(2): the mode, and the three calls.

use std::fmt;
use std::fs::File;
use std::io;

/// Whom a lock shuts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everyone else.
    Exclusive,
    /// Those who want it exclusive.
    Shared,
}

impl Mode {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }

    /// The mode with that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Exclusive, Self::Shared].into_iter().find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes the lock if it can be had at once. `false`: another has it.
pub fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let done = match mode {
        Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
        Mode::Shared => fs2::FileExt::try_lock_shared(file),
    };
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Blocks until the lock is had, or until a signal comes ([`io::ErrorKind::Interrupted`]).
pub fn wait_lock(file: &File, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Exclusive => fs2::FileExt::lock_exclusive(file),
        Mode::Shared => fs2::FileExt::lock_shared(file),
    }
}

/// Releases the lock for every duplicate of the descriptor at once.
pub fn unlock(file: &File) -> io::Result<()> {
    fs2::FileExt::unlock(file)
}
