//! Finds and starts `aba-lock-keeper`, the program that keeps a lease at a server, and detects that it runs for a lock.
//!
//! No code of the keeper is linked into the helper. The commands of the helper become the keeper ([`Keeper::exec`]) or run it
//! and read its output ([`Keeper::ask`]). The keeper itself uses [`FIRST_LEASE_BYTE`].

use crate::base::command_error::CommandError;
use crate::base::programs::keeper;
use crate::lock::error::LockError;
use crate::lock::record::{self, Content};
use crate::os::proc::lock_table;
use crate::os::{self, Mode};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The lowest byte of a lock file that a keeper locks, far after the content of the file. Each keeper locks one byte at this
/// offset or above it while it keeps its lease.
pub const FIRST_LEASE_BYTE: u64 = 1 << 61;

/// The lowest byte of a lock file by which a script is bound to its keeper. Each script locks two bytes from this offset on, below
/// [`FIRST_LEASE_BYTE`].
pub const FIRST_SCRIPT_BYTE: u64 = 1 << 60;

/// Returns the first byte by which the open file description of `file` is bound to a keeper. `None`: it has no lease, or `/proc` does
/// not show it.
#[must_use]
pub fn find_script_byte(file: &File) -> Option<u64> {
    let ranges = lock_table::range_locks_of_descriptor(file.as_raw_fd());
    ranges.iter().map(|range| range.start).find(|start| (FIRST_SCRIPT_BYTE..FIRST_LEASE_BYTE).contains(start))
}

/// The longest wait of [`return_lease`], and the pause between two looks.
const RETURN_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

/// Returns true if a keeper keeps a lease for the lock whose file is open as `file`.
pub fn has_keeper(file: &File) -> io::Result<bool> {
    Ok(os::range_in_the_way(file, Mode::Exclusive, FIRST_LEASE_BYTE, 0)?.is_some())
}

/// Returns true if the lock that is held on descriptor `fd` has a lease, or had one when it was acquired.
///
/// Only the record and a running keeper count. The environment does not, because other programs may set it and not clear it. A lock
/// that is held in shared mode can have other holders, each with a keeper and a record, so only the bytes of this description count.
#[must_use]
pub fn has_lease(fd: RawFd) -> bool {
    let Some(file) = os::second_descriptor(fd) else { return false };
    if lock_table::lock_of_descriptor(fd).is_some_and(|lock| !lock.exclusive) {
        return find_script_byte(&file).is_some();
    }
    matches!(record::read(&file), Content::Record(record) if record.lease.is_some())
        || has_keeper(&file).unwrap_or(false)
}

/// Lets the running keeper of the lock on descriptor `fd` give its lease back, and waits for that at most five seconds, for a release
/// without the program of the keeper. Returns false if no keeper runs: then the lease ends when its time to live is over.
#[must_use]
pub fn return_lease(fd: RawFd) -> bool {
    let Some(file) = os::second_descriptor(fd) else { return false };
    let is_shared = lock_table::lock_of_descriptor(fd).is_some_and(|lock| !lock.exclusive);
    // A shared lock can have other holders, each with a keeper.
    let (byte, len) = match (is_shared, find_script_byte(&file)) {
        (false, _) => (FIRST_LEASE_BYTE, 0),
        (true, Some(script)) => (FIRST_LEASE_BYTE + script, 1),
        (true, None) => return false,
    };
    let has_keeper = || os::range_in_the_way(&file, Mode::Exclusive, byte, len).is_ok_and(|range| range.is_some());
    if !has_keeper() {
        return false;
    }
    // The keeper waits for this byte.
    let _ = os::unlock_range(&file, FIRST_SCRIPT_BYTE, FIRST_LEASE_BYTE - FIRST_SCRIPT_BYTE);
    let begin = Instant::now();
    while has_keeper() && begin.elapsed() < RETURN_LIMIT {
        thread::sleep(POLL);
    }
    true
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
