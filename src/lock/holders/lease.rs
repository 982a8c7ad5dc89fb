//! File leases (fcntl(2)) that keep other processes from opening a lock file.
//!
//! A lease that lasts counts as a lock that its process holds. A process that takes leases as intended gives one up when another process
//! wants to open the file, and [`clean`](crate::lock::clean) has one for an instant, so an attempt to open the file is repeated for a time
//! ([`find_lease_patience`]).

use super::holder::Holder;
use super::lock_file::identify_file;
use crate::base::text::shorten;
use crate::lock::open::{INSTANT, stays_leased};
use crate::lock::peer;
use crate::os;
use crate::os::proc::{lock_table, process};
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The time in which another program than aba-lock gives up a lease when a process wants to open the file.
const BRIEFLY: Duration = Duration::from_millis(50);

/// The maximum number of characters of a command in a message.
const MAX_COMMAND: usize = 120;

/// A lease of another process on a lock file.
#[derive(Debug)]
pub struct FileLease {
    /// The process that has taken it, if it can be seen from here.
    pub taker: Option<Holder>,
}

/// Returns the lease because of which the lock file at `path` cannot be opened now.
#[must_use]
pub fn find_lease(path: &Path) -> Option<FileLease> {
    os::is_leased(path).then(|| find_listed_lease(path).unwrap_or(FileLease { taker: None }))
}

/// Returns the lease on the file at `path` that the kernel lists, without an attempt to open the file. Each such attempt for writing would
/// be an event for the processes that watch it.
#[must_use]
pub fn find_listed_lease(path: &Path) -> Option<FileLease> {
    let pid = lock_table::find_lease_taker(lock_table::file_id(&identify_file(path)))?;
    Some(FileLease { taker: Holder::find(pid, process::user_of(pid)?) })
}

/// The cause of an error: another process has a lease on the file that could not be opened.
#[derive(Debug)]
pub struct LeasedFile {
    /// The pid, the command and the user of that process, if it can be seen from here.
    taker: Option<(u32, String, String)>,
}

impl LeasedFile {
    /// Returns the cause of the error, if it is a lease.
    #[must_use]
    pub fn find_in(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Adds the process to an error of opening the file at `path`, if the cause is a lease.
    #[must_use]
    pub fn name_in(error: io::Error, path: &Path) -> io::Error {
        if error.kind() != io::ErrorKind::WouldBlock || Self::find_in(&error).is_some() {
            return error;
        }
        let taker = find_listed_lease(path).and_then(|lease| lease.taker);
        let taker = taker.map(|taker| (taker.pid, shorten(&taker.command, MAX_COMMAND), taker.user));
        io::Error::new(io::ErrorKind::WouldBlock, Self { taker })
    }

    /// The next step for the user.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.taker {
            None => "the lines of `grep LEASE /proc/locks` have the pids of such processes".to_owned(),
            Some((pid, _, user)) => {
                let me = os::user_id();
                let is_allowed = me == 0 || process::user_name(me) == *user;
                let other = if is_allowed { String::new() } else { format!(", as {user} or root") };
                format!("end that process with `kill {pid}`{other}")
            }
        }
    }
}

impl fmt::Display for LeasedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.taker {
            Some((pid, command, user)) => write!(f, "pid {pid} ({command}), user {user}, has a file lease on it"),
            None => f.write_str("another process has a file lease on it"),
        }
    }
}

impl std::error::Error for LeasedFile {}

/// Returns the time after which a lease on the file at `path` lasts: the time of [`clean`](crate::lock::clean), if the process that has
/// taken it is aba-lock or cannot be seen.
#[must_use]
pub fn find_lease_patience(path: &Path) -> Duration {
    let taker = find_listed_lease(path).and_then(|lease| lease.taker);
    if taker.is_none_or(|taker| peer::is_helper(taker.pid)) { INSTANT } else { BRIEFLY }
}

/// Returns the lease because of which the lock file at `path` cannot be opened, if it lasts.
#[must_use]
pub fn find_lasting_lease(path: &Path) -> Option<FileLease> {
    let lasts = os::is_leased(path) && stays_leased(path, find_lease_patience(path));
    lasts.then(|| find_listed_lease(path).unwrap_or(FileLease { taker: None }))
}
