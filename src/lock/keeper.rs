//! Finds and starts `aba-lock-keeper`, the program that keeps a lease at a server, and detects that it runs for a lock.
//!
//! No code of the keeper is linked into the helper. The commands of the helper become the keeper ([`Keeper::exec`]) or run it
//! and read its output ([`Keeper::ask`]). The keeper itself uses [`FIRST_LEASE_BYTE`].

use crate::base::command_error::CommandError;
use crate::base::programs::keeper;
use crate::lock::error::LockError;
use crate::lock::record::{self, Content};
use crate::os::{self, Mode};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The lowest byte of a lock file that a keeper locks, far after the content of the file. Each keeper locks one byte at this
/// offset or above it while it keeps its lease.
pub const FIRST_LEASE_BYTE: u64 = 1 << 61;

/// Returns true if a keeper keeps a lease for the lock whose file is open as `file`.
pub fn has_keeper(file: &File) -> io::Result<bool> {
    Ok(os::range_in_the_way(file, Mode::Exclusive, FIRST_LEASE_BYTE, 0)?.is_some())
}

/// Returns true if the lock that is held on descriptor `fd` has a lease, or had one when it was acquired.
///
/// Only the record and a running keeper count. The environment does not, because other programs may set it and not clear it.
#[must_use]
pub fn has_lease(fd: RawFd) -> bool {
    let Some(file) = os::second_descriptor(fd) else { return false };
    matches!(record::read(&file), Content::Record(record) if record.lease.is_some())
        || has_keeper(&file).unwrap_or(false)
}

/// The installed keeper.
#[derive(Debug)]
pub struct Keeper {
    program: PathBuf,
}

/// The result of a call of the keeper.
#[derive(Debug)]
pub struct KeeperAnswer {
    /// The exit status.
    pub status: i32,
    /// The standard output of the keeper.
    pub text: String,
}

impl Keeper {
    /// Finds the keeper. Fails with [`LockError::NoKeeper`] if it is not installed.
    pub fn find() -> Result<Self, LockError> {
        keeper().map(|program| Self { program }).ok_or(LockError::NoKeeper)
    }

    /// Becomes the keeper. Returns only if that fails.
    #[must_use]
    pub fn exec(&self, words: Vec<OsString>, variables: &[(&str, String)]) -> CommandError {
        let mut all = vec![self.program.clone().into_os_string()];
        all.extend(words);
        let error = match os::PreparedCommand::new(&all, variables) {
            Ok(command) => command.exec(),
            Err(error) => error,
        };
        CommandError::new(&self.program.to_string_lossy(), error)
    }

    /// Runs the keeper and returns its output.
    pub fn ask(&self, words: &[&str]) -> Result<KeeperAnswer, CommandError> {
        let output = Command::new(&self.program).args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| CommandError::new(&self.program.to_string_lossy(), error))?;
        // A keeper that was ended by a signal has no exit status. It counts as failed, so its output is not used.
        let status = output.status.code().unwrap_or(125);
        Ok(KeeperAnswer { status, text: String::from_utf8_lossy(&output.stdout).into_owned() })
    }
}
