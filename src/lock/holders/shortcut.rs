//! Shortcuts that avoid the examination of all processes, for `observe`. Each starts with the process that the record names, and
//! returns nothing if the answer could be incomplete.

use crate::lock::record::{self, Content, Record};
use crate::os::proc::lock_table::{self, FileId, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess, Scan};
use crate::os::proc::process;
use crate::os::proc::sharers;
use crate::os::{self, Mode, directory_inodes};
use std::collections::{HashMap, HashSet};

/// The maximum number of processes that are examined in addition to the one in the record.
const MAX_EXAMINED: usize = 32;

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

/// Finds all holders of the exclusive lock on `file`, if the process in the record is one of them and no process holds a lock on
/// a file that was removed from the path.
pub(super) fn find_all_holders(file: &WantedFile) -> Option<AllHolders> {
    if file.ino == 0 {
        return None;
    }
    let record = find_running_taker(file).filter(|record| record.mode == Mode::Exclusive)?;
    let all = lock_table::list_completely()?;
    let id = lock_table::file_id(file);
    // This also shows that the kernel's list names the file as `id` does.
    let is_ours = |one: &ListedLock| !one.waits && one.lock.exclusive && one.lock.locker == record.locker;
    if !all.iter().any(|one| one.file == id && is_ours(one)) || may_have_removed_files(file, id, &all) {
        return None;
    }
    let scan = sharers::find_sharing_processes(record.pid, file)?;
    Some(AllHolders { scan, listed: all.into_iter().filter(|one| one.file == id).collect() })
}

/// Finds all holders of the locks on these files, which are in one directory, if few of the locks are held, and each of them by the
/// process in its record. The result has all locks of the machine.
pub(super) fn find_holders_of_few(files: &[WantedFile]) -> Option<AllHolders> {
    let first = files.iter().find(|file| file.ino != 0)?;
    let all = lock_table::list_completely()?;
    let listed: HashSet<u64> = all.iter().filter(|one| !one.waits).map(|one| one.file.ino).collect();
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

/// Returns true if one of the locks in the kernel's list may be on a file that was removed from the path of `file`.
///
/// The list names the files by inode. A file that is in the directory was not removed, and neither was one that has a name while
/// a process has it open. That process may be the one that called flock(2), or the script that started it, as in
/// `exec 9>FILE; flock 9`.
fn may_have_removed_files(file: &WantedFile, id: FileId, all: &[ListedLock]) -> bool {
    let others = all.iter().filter(|one| !one.waits && one.file != id && one.file.is_on_device_of(id));
    let mut lockers: HashMap<u64, u32> = others.map(|one| (one.file.ino, one.lock.locker)).collect();
    if !lockers.is_empty()
        && let Some(directory) = file.path.parent()
    {
        let _ = directory_inodes(directory, |inode| {
            lockers.remove(&inode);
        });
    }
    let mut left = MAX_EXAMINED;
    lockers.retain(|inode, locker| left == 0 || !is_named_in_one_of(file.dev, *inode, [*locker], &mut left));
    if lockers.is_empty() || left == 0 {
        return !lockers.is_empty();
    }
    let Ok(mut pids) = process::try_all_pids() else { return true };
    pids.sort_unstable();
    lockers.iter().any(|(inode, locker)| {
        let at = pids.partition_point(|pid| pid < locker);
        let before = pids[..at].iter().rev().take(NEIGHBOURS);
        let after = pids[at..].iter().filter(|pid| *pid != locker).take(NEIGHBOURS);
        !is_named_in_one_of(file.dev, *inode, before.chain(after).copied(), &mut left)
    })
}

/// Returns true if one of these processes has the file (device and inode) open, and the file was not removed. Examines at most `left`
/// processes, and counts them.
fn is_named_in_one_of(dev: u64, inode: u64, pids: impl IntoIterator<Item = u32>, left: &mut usize) -> bool {
    pids.into_iter().any(|pid| {
        let may_examine = *left > 0;
        *left = left.saturating_sub(1);
        may_examine && openers::has_named(pid, dev, inode)
    })
}
