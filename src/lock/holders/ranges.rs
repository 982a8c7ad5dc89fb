//! Observes fcntl(2) locks on a file. Such a lock belongs to a process (POSIX), or to an open file description.
//!
//! `apt`, `dpkg`, `certbot` and many daemons take locks of this kind. They do not conflict with those of flock(2), which are the
//! kind of our own locks. Only files that the user names are examined for them, because that takes a system call or more.

use super::holder::Holder;
use super::lock_file::identify_file;
use super::state::RangeHolding;
use crate::os::proc::{lock_table, openers, process};
use crate::os::{self, Mode, RangeLock, TURNSTILE};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Returns the first fcntl(2) lock on the file at `path`. The slots of a counting lock, which follow the turnstile, do not count.
#[must_use]
pub fn find_range_lock(path: &Path) -> Option<RangeHolding> {
    find_conflicting_range(path, Mode::Exclusive, 0, TURNSTILE)
}

/// Returns the first fcntl(2) lock that conflicts with a lock on this part of the file at `path`. A `len` of 0 means "to the
/// end".
#[must_use]
pub fn find_conflicting_range(path: &Path, mode: Mode, start: u64, len: u64) -> Option<RangeHolding> {
    // Closing a descriptor releases the POSIX locks of this process on the file, but this process has none.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => find_conflicting_range_of_file(&file, path, mode, start, len),
        // All users may read the kernel's list of locks.
        Err(_) => {
            lock_table::range_lock(lock_table::file_id(&identify_file(path))).map(|range| find_holders(range, path))
        }
    }
}

/// Returns an fcntl(2) lock of another process on any byte of the lock file at `path`. Callers with policies wait for such a lock, so this
/// explains a wait for a lock that has no holder. The file is not opened.
#[must_use]
pub fn find_lock_of_others(path: &Path) -> Option<RangeHolding> {
    lock_table::range_lock_of_others(lock_table::file_id(&identify_file(path))).map(|range| find_holders(range, path))
}

/// Returns the first fcntl(2) lock that conflicts with a lock on this part of `file`, which is open on `path`.
#[must_use]
pub fn find_conflicting_range_of_file(
    file: &File,
    path: &Path,
    mode: Mode,
    start: u64,
    len: u64,
) -> Option<RangeHolding> {
    let range = os::range_in_the_way(file, mode, start, len).ok().flatten()?;
    Some(find_holders(range, path))
}

/// Returns true if the kernel lists an fcntl(2) lock on the file at `path` that conflicts with one on the whole file. This does not open
/// the file, so a watch of the file is not disturbed. The kernel does not list all locks in a pid namespace.
#[must_use]
pub(crate) fn is_listed(path: &Path, mode: Mode) -> bool {
    let listed = lock_table::range_lock(lock_table::file_id(&identify_file(path)));
    listed.is_some_and(|range| mode == Mode::Exclusive || range.mode == Mode::Exclusive)
}

fn find_holders(range: RangeLock, path: &Path) -> RangeHolding {
    let pids = match range.pid {
        Some(pid) => vec![pid],
        None => find_sharers(path, &range),
    };
    let holders = pids.into_iter().filter_map(|pid| Holder::find(pid, process::user_of(pid)?)).collect();
    RangeHolding { range, holders }
}

/// Returns the processes that hold a lock of an open file description, for which the kernel names no process.
fn find_sharers(path: &Path, range: &RangeLock) -> Vec<u32> {
    let file = identify_file(path);
    let find = |descriptor: &openers::ScannedDescriptor| {
        let same = (descriptor.data.dev, descriptor.data.ino) == (file.dev, file.ino);
        (same && descriptor.has_range_lock(range)).then_some(descriptor.pid)
    };
    let mut pids = openers::scan_descriptors(0, &AtomicBool::new(false), find).found;
    pids.sort_unstable();
    pids.dedup();
    // This process may have inherited the lock, too. It is named only if it is the last holder, as a command under `lock --fcntl` is.
    if pids.len() > 1 {
        pids.retain(|pid| *pid != std::process::id());
    }
    pids
}
