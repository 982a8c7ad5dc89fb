//! File leases (fcntl(2)) that keep other processes from opening a lock file.

use super::holder::Holder;
use super::lock_file::identify_file;
use crate::os;
use crate::os::proc::{lock_table, process};
use std::path::Path;

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
