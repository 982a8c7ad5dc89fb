//! Finds the processes that have a file open with a lease on it (fcntl(2)), in `/proc/PID/fdinfo`. A child inherits the lease of its
//! parent with the descriptor, and the pid in the table of the kernel is that of the process that has taken it, which may have ended.

use super::lock_table::{KernelLock, WantedFile};
use super::openers::{LockingProcess, Scan, ScannedDescriptor, Scanner, scan_descriptors};
use std::sync::atomic::AtomicBool;

/// Finds the processes that have a lease on this file. The locker is the process that has taken it.
#[must_use]
pub(crate) fn find_leaseholders(file: &WantedFile) -> Scan<LockingProcess> {
    let find = |descriptor: &ScannedDescriptor| {
        let (pid, uid) = (descriptor.pid, descriptor.user());
        Some(LockingProcess { index: 0, pid, uid, lock: find_lease(descriptor, file)?, removed: false })
    };
    let mut scan = scan_descriptors(0, &AtomicBool::new(false), find);
    scan.found.sort_by_key(|process| process.pid);
    scan.found.dedup_by_key(|process| process.pid);
    scan
}

/// The lease of a process on this file.
#[must_use]
pub(crate) fn lease_on(pid: u32, file: &WantedFile) -> Option<KernelLock> {
    let mut found = Vec::new();
    Scanner::new().scan_process(pid, |descriptor| find_lease(descriptor, file), &mut found);
    found.first().copied()
}

fn find_lease(descriptor: &ScannedDescriptor, file: &WantedFile) -> Option<KernelLock> {
    let is_same = (descriptor.data.dev, descriptor.data.ino) == (file.dev, file.ino);
    let taker = if is_same { descriptor.lease_taker()? } else { return None };
    Some(KernelLock::of_file(taker, true))
}
