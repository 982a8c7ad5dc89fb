//! Shortcuts that avoid the examination of all processes, for `observe`. Each starts with the process that the record names, and
//! returns nothing if the answer could be incomplete.

use crate::lock::record::{self, Content, Record};
use crate::os::Mode;
use crate::os::directory_inodes;
use crate::os::proc::lock_table::{self, FileId, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess, Scan};
use crate::os::proc::process;
use crate::os::proc::sharers;
use std::collections::HashMap;

/// The maximum number of processes that are examined in addition to the one in the record.
const MAX_EXAMINED: usize = 32;

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

/// Returns true if one of the locks in the kernel's list may be on a file that was removed from the path of `file`.
///
/// The list names the files by inode. A file that is in the directory was not removed, and neither was one that has a name while
/// the process that locked it has it open.
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
    lockers.len() > MAX_EXAMINED || lockers.iter().any(|(inode, locker)| !openers::has_named(*locker, file.dev, *inode))
}
