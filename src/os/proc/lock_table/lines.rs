//! Reads the lock table line by line, which needs little memory even if the table is long.

use super::{FIRST_NAMESPACE, FileId, KernelLock, MAX_READS, PAGE, SlotUse, parse_lock};
use crate::os::proc::process;
use std::fs;
use std::io::{BufRead, BufReader};

/// The length of a queue that cannot be read.
const UNKNOWN_QUEUE: usize = 1000;

/// Returns the number of waiters for a file, like the length of [`queue`](super::queue).
///
/// `waiter` is a process that waits for the file. While other locks change, a read of a long table can miss the lock with all its
/// waiters, so the table is read again if it does not show this process. In the end, [`UNKNOWN_QUEUE`] is returned: if each of many
/// waiters took the queue for a short one, it would examine all the others.
#[must_use]
pub(crate) fn count_waiters(file: FileId, waiter: Option<u32>) -> usize {
    for _ in 0..MAX_READS {
        let (mut count, mut len, mut is_listed) = (0, 0, waiter.is_none());
        visit_lines(|line| {
            len += line.len();
            if let Some(one) = parse_lock(line).filter(|one| one.waits && one.file == file) {
                count += usize::from(one.lock.slots != SlotUse::First);
                is_listed |= Some(one.lock.locker) == waiter;
            }
        });
        // In another PID namespace, the table can leave out locks with their waiters each time.
        if is_listed || len < PAGE || process::pid_namespace() != FIRST_NAMESPACE {
            return count;
        }
    }
    UNKNOWN_QUEUE
}

/// Returns the lock of a file that is not shared.
#[must_use]
pub(crate) fn find_exclusive_lock(file: FileId) -> Option<KernelLock> {
    let mut found = None;
    visit_lines(|line| {
        if found.is_none() && !line.contains("->") {
            found = parse_lock(line).filter(|one| one.file == file && one.lock.exclusive).map(|one| one.lock);
        }
    });
    found
}

/// Calls `visit` for each line of the table.
fn visit_lines(mut visit: impl FnMut(&str)) {
    let Ok(table) = fs::File::open("/proc/locks") else { return };
    let (mut table, mut line) = (BufReader::with_capacity(PAGE, table), String::new());
    while table.read_line(&mut line).is_ok_and(|len| len > 0) {
        visit(&line);
        line.clear();
    }
}
