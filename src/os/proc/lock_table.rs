//! The lock table of the kernel: `/proc/locks` (`proc_locks(5)`), and the same lines in `/proc/PID/fdinfo`.
//!
//! Every user may read `/proc/locks`, and it alone shows the waiters and their order. It names the process that called
//! flock(2), which may have ended: [`openers`](super::openers) finds the processes that hold a lock. On systems without
//! `/proc`, every answer is "not known".

mod entry;
pub(crate) mod lines;
mod order;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod whole;

pub use entry::{FileId, KernelLock, ListedLock, SlotUse};
pub(super) use entry::{parse_lease, parse_range_lock};

use crate::os::flock::Mode;
use crate::os::number_map::{NumberMap, NumberSet};
use crate::os::priority::QueuePlace;
use crate::os::proc::process;
use crate::os::range::RangeLock;
use crate::os::slot::{Slot, TURNSTILE};
use entry::{parse_lock, parse_ticket};
use order::{find_levels, find_waiters_between_places, sort_waiters};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use whole::PAGE;

/// The PID namespace in which the kernel lists all locks (`PROC_PID_INIT_INO` in its `proc_ns.h`).
pub(crate) const FIRST_NAMESPACE: u64 = 0xefff_fffc;

/// The locker of a lock of fcntl(2) that belongs to an open file description: the kernel names no process. It is greater than each pid.
pub(crate) const NO_LOCKER: u32 = u32::MAX;

/// Maximum number of reads of the table until two in succession are equal.
const MAX_READS: usize = 5;

/// A file whose locks are wanted. It is identified by device and inode, and by path if it was removed.
#[derive(Debug, Clone)]
pub struct WantedFile {
    pub dev: u64,
    /// The inode; 0 if there is no file at the path.
    pub ino: u64,
    pub path: PathBuf,
    /// True if there may be a file although the inode is 0, because the path could not be examined.
    pub lost: bool,
}

/// The lock that this process holds through its descriptor `fd`. `None` also if the kernel cannot be asked.
#[must_use]
pub fn lock_of_descriptor(fd: i32) -> Option<KernelLock> {
    try_lock_of_descriptor(fd).ok().flatten()
}

/// The lock that this process holds through its descriptor `fd`, or the reason why the kernel cannot be asked.
pub fn try_lock_of_descriptor(fd: i32) -> io::Result<Option<KernelLock>> {
    Ok(read_fdinfo_lock(&format!("/proc/self/fdinfo/{fd}"))?.map(|(_, lock)| lock))
}

/// The lock that this process holds through its descriptor `fd`, with its file as the kernel names it. `None` also if the kernel cannot be
/// asked.
pub(crate) fn file_and_lock_of_descriptor(fd: i32) -> Option<(FileId, KernelLock)> {
    read_fdinfo_lock(&format!("/proc/self/fdinfo/{fd}")).ok().flatten()
}

/// The lock of fcntl(2) on the whole file that the open file description of our descriptor `fd` holds. The kernel names no locker
/// of it, so the locker here is a number that no process has.
pub fn try_fcntl_lock_of_descriptor(fd: i32) -> io::Result<Option<KernelLock>> {
    let info = process::try_read_small(&format!("/proc/self/fdinfo/{fd}"))?;
    let ranges = info.lines().filter_map(|line| parse_range_lock(line.strip_prefix("lock:")?));
    // A range with a process is a POSIX lock of this process.
    let mut whole = ranges.filter(|(_, range)| range.pid.is_none() && (range.start, range.len) == (0, 0));
    Ok(whole.next().map(|(_, range)| fcntl_lock(range.mode)))
}

/// The locks of fcntl(2) that the open file description of our descriptor `fd` holds. Empty also if the kernel cannot be asked.
#[must_use]
pub fn range_locks_of_descriptor(fd: i32) -> Vec<RangeLock> {
    let info = process::read_small(&format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let ranges = info.lines().filter_map(|line| parse_range_lock(line.strip_prefix("lock:")?));
    // A range with a process is a POSIX lock of this process.
    ranges.map(|(_, range)| range).filter(|range| range.pid.is_none()).collect()
}

/// Returns a lock of fcntl(2) on the whole file.
pub(crate) fn fcntl_lock(mode: Mode) -> KernelLock {
    KernelLock::of_file(NO_LOCKER, mode == Mode::Exclusive)
}

/// Returns a lock of fcntl(2) with its process, or [`NO_LOCKER`].
pub(crate) fn range_owner(range: &RangeLock) -> KernelLock {
    KernelLock::of_file(range.pid.unwrap_or(NO_LOCKER), range.mode == Mode::Exclusive)
}

/// Returns true if a process holds a lock of fcntl(2) through this descriptor, on any part of the file.
pub(crate) fn has_fcntl_lock(pid: u32, descriptor: &str) -> bool {
    let info = process::read_small(&format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    info.lines().filter_map(|line| line.strip_prefix("lock:")).any(|line| parse_range_lock(line).is_some())
}

/// All locks that are held or waited for and that are visible from this PID namespace. The waiters for a file follow
/// its holders, in the order in which they will get the lock. Only those are included that are in a queue of the kernel. Empty if the
/// table cannot be read.
#[must_use]
pub fn list() -> Vec<ListedLock> {
    let mut all = try_list().unwrap_or_default();
    all.retain(|one| one.lock.place.is_in_kernel_queue());
    all
}

/// Returns the same as [`list`] with all waiters, or `None` if the table cannot be read.
#[must_use]
pub fn try_list() -> Option<Vec<ListedLock>> {
    let mut all = list_held()?;
    if process::pid_namespace() != FIRST_NAMESPACE {
        add_unlisted_waits(&mut all);
    }
    Some(all)
}

/// Returns all locks of this machine, or `None` if some could be missing. A lock that is held during the whole call is in the
/// list.
#[must_use]
pub fn list_completely() -> Option<Vec<ListedLock>> {
    // In another PID namespace the table leaves out the locks whose lockers have ended.
    if process::pid_namespace() != FIRST_NAMESPACE {
        return None;
    }
    Some(group_by_file(&whole::read_completely()?).into_values().flatten().collect())
}

/// Returns the locks that the table shows, and some of the waiters. If the table is long, locks can be missing. `None` if it cannot
/// be read.
#[must_use]
pub fn list_held() -> Option<Vec<ListedLock>> {
    // The kernel returns one page at a time, and never splits a lock from its waiters. If a lock is released between
    // two pages, the later ones move up and one of them is skipped. So a table of several pages is read repeatedly, and
    // each file is taken from the read that shows the most locks of it.
    let read = || process::read_whole("/proc/locks");
    let mut text = read()?;
    let mut best = group_by_file(&text);
    for _ in 1..MAX_READS {
        if text.len() < PAGE {
            break;
        }
        let again = read()?;
        if again == text {
            break;
        }
        text = again;
        for (file, locks) in group_by_file(&text) {
            let known = best.entry(file).or_default();
            if locks.len() >= known.len() {
                *known = locks;
            }
        }
    }
    Some(best.into_values().flatten().collect())
}

/// Adds the waiters that the table leaves out.
///
/// In a PID namespace other than the first, as in a container, the table leaves out each lock whose locker has ended
/// (such as the helper of a script), together with its waiters. The waiters can still be found, as processes that sleep
/// in flock(2). Their order is not known; this function assumes the order of their start times.
fn add_unlisted_waits(all: &mut Vec<ListedLock>) {
    let is_queued = |one: &&ListedLock| one.waits && one.lock.place.is_in_kernel_queue();
    let known: NumberSet<u32> = all.iter().filter(is_queued).map(|one| one.lock.locker).collect();
    let mut sleepers: Vec<process::ProcessStat> =
        process::all_pids().into_iter().filter(|pid| !known.contains(pid)).filter_map(find_sleeper).collect();
    sleepers.sort_by_key(|process| (process.start, process.pid));
    for process in sleepers {
        if let Some((file, exclusive)) = find_awaited_file(process.pid) {
            all.retain(|one| (one.file, one.lock.locker, one.lock.place) != (file, process.pid, QueuePlace::Between));
            all.push(ListedLock { file, lock: KernelLock::of_file(process.pid, exclusive), waits: true });
        }
    }
}

/// Returns the process if it sleeps in flock(2).
fn find_sleeper(pid: u32) -> Option<process::ProcessStat> {
    let place = process::sleeps_in(pid)?;
    if place == "locks_lock_inode_wait" || place == "flock_lock_inode_wait" { process::read_stat(pid) } else { None }
}

/// The file for which a process sleeps in flock(2), and true if it wants an exclusive lock.
fn find_awaited_file(pid: u32) -> Option<(FileId, bool)> {
    let id = |number: &str| {
        let link = format!("/proc/{pid}/fd/{number}");
        let data = fs::metadata(&link).ok().filter(Metadata::is_file)?;
        Some(file_id(&WantedFile { dev: data.dev(), ino: data.ino(), path: fs::read_link(link).ok()?, lost: false }))
    };
    if let [descriptor, how, ..] = process::call_arguments(pid)[..] {
        return Some((id(&descriptor.to_string())?, how & u64::from(libc::LOCK_EX.cast_unsigned()) != 0));
    }
    // If the arguments of the call are hidden, it is the file that the process has open without a lock, provided that
    // there is only one.
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let above = |number: &String| number.parse::<u32>().is_ok_and(|number| number > 2);
    let mut open =
        numbers.filter(above).filter(|number| lock_of(pid, number).is_none()).filter_map(|number| id(&number));
    let only = open.next()?;
    if open.all(|other| other == only) { Some((only, true)) } else { None }
}

/// The waiters for a file, in their order, from one read of the table. The read can miss one or two waiters, and more
/// in a PID namespace other than the first.
#[must_use]
pub(crate) fn queue(file: FileId) -> Vec<u32> {
    let text = process::read_whole("/proc/locks").unwrap_or_default();
    let waits = text.lines().filter(|line| line.contains("->")).filter_map(parse_lock);
    let mut waits: Vec<ListedLock> = waits.filter(|one| one.waits && one.file == file).collect();
    sort_waiters(&mut waits, &find_levels(&text));
    waits.dedup();
    waits.into_iter().map(|one| one.lock.locker).collect()
}

fn group_by_file(text: &str) -> NumberMap<FileId, Vec<ListedLock>> {
    let mut by_file: NumberMap<FileId, Vec<ListedLock>> = NumberMap::default();
    let mut seen = NumberSet::default();
    for lock in text.lines().filter_map(|line| parse_lock(line).or_else(|| parse_ticket(line))) {
        // The kernel shows a lock twice if a new one pushed it to the next page.
        if seen.insert(lock) {
            by_file.entry(lock.file).or_default().push(lock);
        }
    }
    let levels = find_levels(text);
    if !levels.is_empty() {
        let listed = by_file.values().flatten().map(|one| (one.file, one.lock.locker)).collect();
        for lock in find_waiters_between_places(&levels, &listed) {
            by_file.entry(lock.file).or_default().push(lock);
        }
    }
    if by_file.values().flatten().any(|one| one.waits) {
        for locks in by_file.values_mut() {
            sort_waiters(locks, &levels);
        }
    }
    by_file
}

/// Returns the name that a file has in the table.
#[must_use]
pub fn file_id(wanted: &WantedFile) -> FileId {
    #[cfg(linux)]
    let (major, minor) = match (libc::major(wanted.dev), libc::minor(wanted.dev)) {
        // On btrfs and overlay the device is a number without a disk, and stat(2) can return another one than that of
        // the mount.
        (0, minor) => process::device_of_mount(&wanted.path).unwrap_or((0, minor)),
        known => known,
    };
    #[cfg(not(linux))]
    let (major, minor) = (0, 0);
    FileId { major, minor, ino: wanted.ino }
}

/// The lock that a process holds through a descriptor, and the file of that lock as the kernel names it.
#[must_use]
pub(crate) fn lock_of(pid: u32, descriptor: &str) -> Option<(FileId, KernelLock)> {
    read_fdinfo_lock(&format!("/proc/{pid}/fdinfo/{descriptor}")).ok().flatten()
}

/// Reads the flock(2) lock from a file in `/proc/PID/fdinfo`, and the slot that the same open file description holds.
///
/// A waiter for a slot also holds the lock shared, but it is no holder. It holds the turnstile on the same descriptor.
pub(super) fn read_fdinfo_lock(path: &str) -> io::Result<Option<(FileId, KernelLock)>> {
    let info = process::try_read_small(path)?;
    let locks = || info.lines().filter_map(|line| line.strip_prefix("lock:"));
    let held = |line| parse_lock(line).filter(|one| !one.waits).map(|one| (one.file, one.lock));
    let Some((file, lock)) = locks().find_map(held) else { return Ok(None) };
    if lock.exclusive {
        return Ok(Some((file, lock)));
    }
    let mut slots = SlotUse::None;
    for (_, range) in locks().filter_map(parse_range_lock) {
        match Slot::from_byte(range.start) {
            Some(slot) => slots = SlotUse::Holds(slot),
            None if range.start == TURNSTILE && range.len == 1 => return Ok(None),
            None => {}
        }
    }
    Ok(Some((file, KernelLock { slots, ..lock })))
}

/// The first fcntl(2) lock on a file in the table, except those of slots.
#[must_use]
pub(crate) fn range_lock(file: FileId) -> Option<RangeLock> {
    range_locks(file).into_iter().next()
}

/// The fcntl(2) locks on a file in the table, except those of slots.
#[must_use]
pub(crate) fn range_locks(file: FileId) -> Vec<RangeLock> {
    let text = process::read_whole("/proc/locks").unwrap_or_default();
    let is_other = |range: &RangeLock| range.start < TURNSTILE;
    let ranges = text.lines().filter_map(parse_range_lock);
    ranges.filter(|(locked, range)| *locked == file && is_other(range)).map(|(_, range)| range).collect()
}

/// The first fcntl(2) lock on any byte of a file in the table, except those of this process.
#[must_use]
pub(crate) fn range_lock_of_others(file: FileId) -> Option<RangeLock> {
    let text = process::read_whole("/proc/locks")?;
    let us = Some(std::process::id());
    let mut ranges = text.lines().filter_map(parse_range_lock);
    ranges.find_map(|(locked, range)| (locked == file && range.pid != us).then_some(range))
}

/// The process that has taken a lease on a file (fcntl(2)), if the table shows one.
#[must_use]
pub(crate) fn find_lease_taker(file: FileId) -> Option<u32> {
    let text = process::read_whole("/proc/locks")?;
    text.lines().filter_map(parse_lease).find_map(|(leased, pid)| (leased == file).then_some(pid))
}

/// The files in the table on which a process has a lease (fcntl(2)).
#[must_use]
pub(crate) fn list_leased_files() -> Vec<FileId> {
    let text = process::read_whole("/proc/locks").unwrap_or_default();
    text.lines().filter_map(parse_lease).map(|(file, _)| file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::bytes::{HIGH_MARK, LOW_TURNSTILE, NORMAL_WANT};
    use crate::os::priority::Priority;

    #[test]
    fn waiters_are_sorted_by_level_and_place() {
        let line = |kind: &str, mode: &str, pid: u32, start: u64, len: u64| {
            format!("1: {kind}  ADVISORY  {mode} {pid} fe:00:7 {start} {}", start + len - 1)
        };
        let text = [
            "1: FLOCK  ADVISORY  WRITE 1 fe:00:7 0 EOF".to_owned(),
            "1: -> FLOCK  ADVISORY  WRITE 5 fe:00:7 0 EOF".to_owned(),
            "1:  -> FLOCK  ADVISORY  WRITE 3 fe:00:7 0 EOF".to_owned(),
            "1:   -> FLOCK  ADVISORY  WRITE 2 fe:00:7 0 EOF".to_owned(),
            line("POSIX", "READ", 2, HIGH_MARK, 2),
            line("POSIX", "READ", 3, NORMAL_WANT, 2),
            line("POSIX", "WRITE", 5, LOW_TURNSTILE, 1),
            line("-> POSIX", "WRITE", 6, LOW_TURNSTILE, 2),
        ];
        let locks = group_by_file(&text.join("\n")).into_values().next().unwrap();
        let found: Vec<_> = locks.iter().map(|one| (one.lock.locker, one.lock.priority, one.lock.exclusive)).collect();
        assert_eq!(
            found,
            [
                (1, Priority::Normal, true),
                (2, Priority::High, true),
                (3, Priority::Normal, true),
                (5, Priority::Low, true),
                (6, Priority::Low, false)
            ]
        );
    }
}
