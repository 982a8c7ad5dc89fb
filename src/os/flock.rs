//! Locks of whole files (flock(2)): the mode, and the three calls. All locks of this kind are acquired and released
//! here. Only the signal handler in `unlock` calls flock(2) itself.

use std::fmt;
use std::fs::File;
use std::io;

/// The mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Excludes all other holders.
    Exclusive,
    /// Excludes exclusive holders.
    Shared,
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }

    /// Parses the word of [`Mode::as_str`].
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

/// Acquires the lock if it is free. Returns false if another open file description holds it.
pub fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    loop {
        let done = match mode {
            Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
            Mode::Shared => fs2::FileExt::try_lock_shared(file),
        };
        match done {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // On a network file system, a signal can interrupt even a call that does not wait for the lock.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Blocks until the lock is acquired, or until a signal comes ([`io::ErrorKind::Interrupted`]).
pub fn wait_lock(file: &File, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Exclusive => fs2::FileExt::lock_exclusive(file),
        Mode::Shared => fs2::FileExt::lock_shared(file),
    }
}

/// Releases the lock for all duplicates of the descriptor.
pub fn unlock(file: &File) -> io::Result<()> {
    fs2::FileExt::unlock(file)
}
