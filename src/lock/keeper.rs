//! The keeper, `aba-lock-keeper`: a program of its own for locks of more than one machine. Nothing of it is linked in here:
//! we become it, or ask it.

use crate::base::error::CommandError;
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

/// Far behind the content of a lock file: from here on keepers lock bytes of it, each for its lease.
pub const FIRST_LEASE_BYTE: u64 = 1 << 61;

/// Whether there is a keeper for whoever has the lock that is open as `file`.
pub fn has_keeper(file: &File) -> io::Result<bool> {
    Ok(os::range_in_the_way(file, Mode::Exclusive, FIRST_LEASE_BYTE, 0)?.is_some())
}

/// Whether the lock that is held on this descriptor of ours has a lease, or had one when it was taken. What is in the file is
/// enough, and so is a keeper: not what the environment says, which others write and forget.
#[must_use]
pub fn has_lease(fd: RawFd) -> bool {
    let Some(file) = os::second_descriptor(fd) else { return false };
    matches!(record::read(&file), Content::Record(record) if record.lease.is_some())
        || has_keeper(&file).unwrap_or(false)
}

/// The keeper that goes with this program.
#[derive(Debug)]
pub struct Keeper {
    program: PathBuf,
}

/// What it answered.
#[derive(Debug)]
pub struct KeeperAnswer {
    /// Its exit status.
    pub status: i32,
    /// What it printed.
    pub text: String,
}

impl Keeper {
    /// [`LockError::NoKeeper`] if it is not installed.
    pub fn find() -> Result<Self, LockError> {
        keeper().map(|program| Self { program }).ok_or(LockError::NoKeeper)
    }

    /// Becomes it. Returns only when that fails, with the reason.
    #[must_use]
    pub fn exec(&self, words: Vec<OsString>, variables: &[(&str, String)]) -> CommandError {
        let mut all = vec![self.program.clone().into_os_string()];
        all.extend(words);
        let error = match os::Command::new(&all, variables) {
            Ok(command) => command.exec(),
            Err(error) => error,
        };
        CommandError::new(&self.program.to_string_lossy(), error)
    }

    /// Runs it, and takes what it prints.
    pub fn ask(&self, words: &[&str]) -> Result<KeeperAnswer, CommandError> {
        let output = Command::new(&self.program).args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| CommandError::new(&self.program.to_string_lossy(), error))?;
        // Ended by a signal, it has said nothing that counts.
        let status = output.status.code().unwrap_or(125);
        Ok(KeeperAnswer { status, text: String::from_utf8_lossy(&output.stdout).into_owned() })
    }
}
