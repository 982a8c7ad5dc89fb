//! The kinds of locks whose holders a forced release ends: those of flock(2), on files of the user also those of fcntl(2), and file leases,
//! which keep other processes from opening the file.

use crate::lock::holders::{self, LockState, ranges};
use crate::os::proc::leaseholders;
use crate::os::proc::lock_table::{self, FileId, KernelLock, ListedLock, NO_LOCKER, WantedFile};
use crate::os::proc::openers::{self, LockingProcess, Scan};
use std::collections::BTreeSet;
use std::path::Path;
#[cfg(linux)]
use std::sync::atomic::AtomicBool;

/// The kind of the locks whose holders are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockKind {
    Flock,
    /// POSIX locks, whose locker is the process that holds the lock, and locks of an open file description, whose locker is
    /// [`NO_LOCKER`].
    Fcntl,
    /// A file lease of fcntl(2), whose locker is the process that has taken it.
    Lease,
}

impl LockKind {
    /// Returns the holders of locks on the files, or with flock(2) on files that were removed from their paths.
    pub(super) fn find_openers(self, files: &[WantedFile]) -> Scan<LockingProcess> {
        match (self, files) {
            (Self::Fcntl, [file]) => openers::find_fcntl_holders(file),
            (Self::Lease, [file]) => leaseholders::find_leaseholders(file),
            #[cfg(not(linux))]
            _ => holders::find_lock_holders(files),
            #[cfg(linux)]
            _ => openers::find_locking_processes(&mut files.to_vec(), None, &AtomicBool::new(false)),
        }
    }

    /// Returns true if a process holds such a lock on the file, and `is_meant` is true for that.
    pub(super) fn is_held_by(self, pid: u32, file: &WantedFile, is_meant: impl Fn(KernelLock) -> bool) -> bool {
        match self {
            #[cfg(not(linux))]
            Self::Flock => {
                let mut found = holders::find_lock_holders(std::slice::from_ref(file)).found.into_iter();
                found.any(|one| one.pid == pid && is_meant(one.lock))
            }
            #[cfg(linux)]
            Self::Flock => openers::lock_on(pid, file).is_some_and(is_meant),
            Self::Fcntl => openers::fcntl_locks_on(pid, file).into_iter().any(is_meant),
            Self::Lease => leaseholders::lease_on(pid, file).is_some_and(is_meant),
        }
    }

    /// Returns the state of the lock, for messages.
    pub(super) fn observe(self, path: &Path) -> LockState {
        match self {
            Self::Flock => holders::observe_lock(path),
            Self::Fcntl => LockState { range: ranges::find_range_lock(path), ..LockState::default() },
            Self::Lease => LockState { lease: holders::find_lasting_lease(path).map(Box::new), ..LockState::default() },
        }
    }

    /// Returns true if one of the lockers still holds a lock on one of the files according to the kernel's list, which includes
    /// processes whose descriptors may not be read.
    pub(super) fn is_listed(self, files: &[WantedFile], lockers: &BTreeSet<u32>) -> bool {
        let files: Vec<FileId> = files.iter().map(lock_table::file_id).collect();
        let is_meant = |pid: u32| ![0, NO_LOCKER].contains(&pid) && lockers.contains(&pid);
        match self {
            Self::Flock => {
                let held = |listed: &ListedLock| files.contains(&listed.file) && !listed.waits;
                lock_table::list().iter().any(|listed| held(listed) && is_meant(listed.lock.locker))
            }
            Self::Fcntl => {
                let ranges = files.into_iter().flat_map(lock_table::range_locks);
                ranges.filter_map(|range| range.pid).any(is_meant)
            }
            Self::Lease => files.into_iter().filter_map(lock_table::find_lease_taker).any(is_meant),
        }
    }
}
