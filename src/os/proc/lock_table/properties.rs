//! Properties of the parser of the lock table, which hold for any input. The fuzz targets and the property tests call
//! them.

use crate::os::priority::QueuePlace;

use super::{FileId, KernelLock, ListedLock, SlotUse, group_by_file, parse_lock};

/// Checks the properties.
///
/// # Panics
///
/// If a property is violated.
pub fn hold(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<ListedLock> = text.lines().filter_map(parse_lock).collect();
    let is_at_file = |one: &ListedLock| one.lock.slots == SlotUse::None && one.lock.place == QueuePlace::Lock;
    for lock in all.iter().filter(|one| is_at_file(one)) {
        let ListedLock {
            file: FileId { major, minor, ino },
            lock: KernelLock { locker, exclusive, slots: _, place: _, priority: _ },
            waits,
        } = lock;
        let arrow = if *waits { "-> " } else { "" };
        let mode = if *exclusive { "WRITE" } else { "READ" };
        let line = format!("1: {arrow}FLOCK  ADVISORY  {mode} {locker} {major:02x}:{minor:02x}:{ino} 0 EOF");
        assert_eq!(parse_lock(&line).as_ref(), Some(lock));
    }
    // Each lock is listed once, with the others of its file, in the order in which the waiters will get the lock. If some wait for
    // bytes, they may be listed in another order.
    let by_file = group_by_file(&text);
    let mut found = 0;
    for (file, locks) in &by_file {
        let mut later = all.iter();
        let is_sorted = !locks.iter().all(is_at_file);
        for lock in locks {
            assert_eq!(lock.file, *file);
            assert!(is_sorted || later.any(|one| one == lock), "{lock:?} is out of turn");
        }
        found += locks.len();
    }
    assert!(found <= all.len());
    assert_eq!(by_file.is_empty(), all.is_empty());
}
