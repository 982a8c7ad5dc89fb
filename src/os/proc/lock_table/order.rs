//! The order in which waiters will get a lock, as the lock table shows it.

use super::entry::{FileId, KernelLock, ListedLock, SlotUse, parse_range_lock};
use crate::os::flock::Mode;
use crate::os::number_map::{NumberMap, NumberSet};
use crate::os::priority::{Priority, QueuePlace};

/// The levels and modes of waiters for files, by the file and the pid. A waiter that is not here has the level normal.
type Levels = NumberMap<(FileId, u32), (Priority, Mode)>;

/// Finds the levels in the text of the table. A waiter holds bytes that show its level and mode.
pub(super) fn find_levels(text: &str) -> Levels {
    let mut levels = Levels::default();
    for line in text.lines().filter(|line| line.contains("POSIX") && !line.contains("->")) {
        if let Some((file, range)) = parse_range_lock(line)
            && let Some(pid) = range.pid
            && let Some(level) = Priority::of_waiter(range.mode, (range.start, range.len))
        {
            levels.insert((file, pid), level);
        }
    }
    levels
}

/// Returns the processes that hold bytes of a waiter, and that the table does not list as holders of the lock or as waiters.
pub(super) fn find_waiters_between_places(levels: &Levels, listed: &NumberSet<(FileId, u32)>) -> Vec<ListedLock> {
    let mut between: Vec<_> = levels.iter().filter(|(process, _)| !listed.contains(process)).collect();
    between.sort_unstable_by_key(|((_, pid), _)| *pid);
    let build = |((file, pid), (priority, mode)): (&(FileId, u32), &(Priority, Mode))| {
        let lock = KernelLock::of_file(*pid, *mode == Mode::Exclusive);
        ListedLock {
            file: *file,
            lock: KernelLock { place: QueuePlace::Between, priority: *priority, ..lock },
            waits: true,
        }
    };
    between.into_iter().map(build).collect()
}

/// Notes the levels of the waiters for one file, and sorts its locks: after the holders comes the first of the waiters for slots (it
/// waits for each slot). The others follow by level, and those of one level by the place where they wait.
pub(super) fn sort_waiters(locks: &mut [ListedLock], levels: &Levels) {
    for one in locks.iter_mut().filter(|one| one.waits) {
        let known = levels.get(&(one.file, one.lock.locker)).copied();
        one.lock.priority = match one.lock.place {
            QueuePlace::Turnstile(level) => level,
            _ => known.map_or(Priority::Normal, |(level, _)| level),
        };
        if let (QueuePlace::Yielded, Some((_, mode))) = (one.lock.place, known) {
            one.lock.exclusive = mode == Mode::Exclusive;
        }
    }
    let is_sorted = |one: &ListedLock| {
        let lock = &one.lock;
        (lock.slots, lock.place, lock.priority) == (SlotUse::None, QueuePlace::Lock, Priority::Normal)
    };
    if locks.iter().filter(|one| one.waits).all(is_sorted) {
        return;
    }
    locks.sort_by_key(|one| {
        let class = match (one.waits, one.lock.slots) {
            (false, _) => 0,
            (true, SlotUse::First) => 1,
            (true, SlotUse::None | SlotUse::Holds(_)) => 2,
            (true, SlotUse::Queued) => 3,
        };
        (class, one.lock.priority, one.lock.place)
    });
}
