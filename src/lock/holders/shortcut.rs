//! Shortcuts that avoid the examination of all processes, for `observe`. Each starts with the lock table, or with the process that the
//! record names, and returns nothing if the answer could be incomplete.

use crate::lock::record::{self, Content, Record};
use crate::os::number_map::{NumberMap, NumberSet};
use crate::os::proc::lock_table::{self, FileId, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess, Scan};
use crate::os::proc::process;
use crate::os::proc::sharers;
use crate::os::{self, directory_inodes};
use std::cmp::Reverse;

/// The maximum number of processes that are examined in addition to the one in the record.
const MAX_EXAMINED: usize = 48;

/// The maximum number of held locks in a list whose holders are found one after the other. An examination of all descriptors of the
/// machine takes twice as long as that of one lock.
const FEW: usize = 2;

/// The number of processes that are examined before and after one that has ended, in the order of their pids.
const NEIGHBOURS: usize = 4;

/// Returns the record of the lock, if the process that it names runs on this machine and can be examined from here.
pub(super) fn find_running_taker(file: &WantedFile) -> Option<Box<Record>> {
    let Content::Record(record) = record::read_path(&file.path) else { return None };
    let is_here = record.ns == process::pid_namespace() && record.boot == process::boot_id();
    (is_here && process::is_alive(record.pid, record.tick)).then_some(record)
}

/// Returns true if the process in the record, or one of its children, is seen to hold a lock on `file`.
pub(super) fn is_held_by_taker(file: &WantedFile) -> bool {
    if file.ino == 0 {
        return false;
    }
    find_running_taker(file).is_some_and(|record| {
        openers::holds(record.pid, file)
            || process::children(record.pid).into_iter().take(MAX_EXAMINED).any(|child| openers::holds(child, file))
    })
}

/// Returns true if `all`, which are all locks of this machine, prove that no process holds the lock on `file`.
pub(super) fn is_free(file: &WantedFile, all: &[ListedLock]) -> bool {
    // On btrfs, the kernel's list can name another device than stat(2), so only the inode counts.
    let is_listed = all.iter().any(|one| !one.waits && one.file.ino == file.ino);
    file.ino != 0 && !is_listed && os::has_plain_inodes(&file.path)
}

/// Returns the entries of the lock on `file` in the kernel's list, which are those of waiters, if the list proves that no process holds
/// this lock, or one on a file that was removed from the path.
pub(super) fn find_waiters_of_free_lock(file: &WantedFile) -> Option<Vec<ListedLock>> {
    let all = lock_table::list_completely()?;
    if file.ino == 0 {
        // The device is not known, so each lock can be one on a removed file.
        return (!file.lost && all.iter().all(|one| one.waits)).then(Vec::new);
    }
    let id = lock_table::file_id(file);
    let is_proved = is_free(file, &all) && !may_have_removed_files(file, id, &all);
    is_proved.then(|| all.into_iter().filter(|one| one.file == id).collect())
}

/// All processes that hold an exclusive lock, and its entries in the kernel's list.
pub(super) struct AllHolders {
    pub(super) scan: Scan<LockingProcess>,
    pub(super) listed: Vec<ListedLock>,
}

/// Finds all holders of the exclusive lock on `file`, if one of them is found at once, and no process holds a lock on a file that was
/// removed from the path.
pub(super) fn find_all_holders(file: &WantedFile) -> Option<AllHolders> {
    if file.ino == 0 {
        return None;
    }
    let taker = find_running_taker(file);
    let all = lock_table::list_completely()?;
    let id = lock_table::file_id(file);
    // This also shows that the kernel's list names the file as `id` does.
    let locker = all.iter().find(|one| one.file == id && !one.waits && one.lock.exclusive)?.lock.locker;
    if may_have_removed_files(file, id, &all) {
        return None;
    }
    if taker.as_ref().is_some_and(|record| record.locker != locker) {
        // Another process may have acquired the lock in the meantime.
        return None;
    }
    let taker = taker.map(|record| record.pid);
    let find = |pid: u32| sharers::find_sharing_processes(pid, file);
    let scan = taker.into_iter().chain([locker]).find_map(find).or_else(|| {
        let pids = process::try_all_pids().ok()?;
        find_neighbours(pids, locker).into_iter().find_map(find)
    })?;
    Some(AllHolders { scan, listed: all.into_iter().filter(|one| one.file == id).collect() })
}

/// Finds all holders of the locks on these files, which are in one directory, if few of the locks are held, and one holder of each is
/// found at once. The result has all locks of the machine.
pub(super) fn find_holders_of_few(files: &[WantedFile]) -> Option<AllHolders> {
    let first = files.iter().find(|file| file.ino != 0)?;
    let all = lock_table::list_completely()?;
    let listed: NumberSet<u64> = all.iter().filter(|one| !one.waits).map(|one| one.file.ino).collect();
    let held: Vec<usize> = (0..files.len()).filter(|at| listed.contains(&files[*at].ino)).collect();
    let is_known = |file: &WantedFile| !file.lost && [0, first.dev].contains(&file.dev);
    if held.len() > FEW || !files.iter().all(is_known) || !os::has_plain_inodes(&first.path) {
        return None;
    }
    // With a held lock, the search for its holders asks the same.
    if held.is_empty() && may_have_removed_files(first, lock_table::file_id(first), &all) {
        return None;
    }
    let mut scan = Scan { found: Vec::new(), hidden: false };
    for at in held {
        let holders = find_all_holders(&files[at])?.scan;
        scan.hidden |= holders.hidden;
        scan.found.extend(holders.found.into_iter().map(|process| LockingProcess { index: at, ..process }));
    }
    Some(AllHolders { scan, listed: all })
}

/// Returns true if one of the locks in the kernel's list may be on a file that was removed from the directory of `file`.
///
/// The list names the files by inode. A file that is in the directory was not removed, and a process that has the file open shows
/// whether it was removed from there. That process may be the one that called flock(2), or the script that started it, as in
/// `exec 9>FILE; flock 9`.
fn may_have_removed_files(file: &WantedFile, id: FileId, all: &[ListedLock]) -> bool {
    let Some(directory) = file.path.parent() else { return true };
    let others = all.iter().filter(|one| !one.waits && one.file != id && one.file.is_on_device_of(id));
    let mut lockers: NumberMap<u64, u32> = others.map(|one| (one.file.ino, one.lock.locker)).collect();
    if !lockers.is_empty() {
        let _ = directory_inodes(directory, |inode| {
            lockers.remove(&inode);
        });
    }
    let mut left = MAX_EXAMINED;
    let mut is_elsewhere = |inode: u64, pids: Vec<u32>| {
        pids.into_iter().any(|pid| {
            let may_examine = left > 0;
            left = left.saturating_sub(1);
            may_examine && openers::is_open_elsewhere(pid, file.dev, inode, directory)
        })
    };
    lockers.retain(|inode, locker| !is_elsewhere(*inode, vec![*locker]));
    if lockers.is_empty() {
        return false;
    }
    let Ok(pids) = process::try_all_pids() else { return true };
    !lockers.iter().all(|(inode, locker)| is_elsewhere(*inode, find_neighbours(pids.clone(), *locker)))
}

/// Returns the processes among `pids` that were started just before or after the process `pid`. The script that has called flock(1)
/// is usually one of them.
fn find_neighbours(pids: Vec<u32>, pid: u32) -> Vec<u32> {
    let (mut before, mut after): (Vec<u32>, Vec<u32>) =
        pids.into_iter().filter(|other| *other != pid).partition(|other| *other < pid);
    before.sort_unstable_by_key(|other| Reverse(*other));
    after.sort_unstable();
    before.into_iter().take(NEIGHBOURS).chain(after.into_iter().take(NEIGHBOURS)).collect()
}
