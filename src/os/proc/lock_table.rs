//! What the kernel says of locks: the `lock:` lines of `/proc/PID/fdinfo`, and its own list, `/proc/locks`. Elsewhere than on
//! Linux there is neither, and each answer is "not known".
//!
//! The first are the truth about holders, also where the process that took the lock has ended: a lock belongs to the
//! open file description, and `/proc/locks` would name the one that is gone. But everyone may read the list, and it alone
//! knows who waits, in which order (`proc_pid_fdinfo(5)`, `proc_locks(5)`).

#[cfg(any(test, fuzzing))]
pub mod properties;

use crate::os::flock::Mode;
use crate::os::proc::process;
use crate::os::range::Range;
use crate::os::thread::map_in_threads;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{
    self,
    ErrorKind::{NotFound, PermissionDenied},
};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// From so many processes on they are looked through by several threads.
const MANY: usize = 512;

/// The pid namespace in which the kernel lists all locks (`PROC_PID_INIT_INO` in its `proc_ns.h`).
pub(crate) const FIRST_NAMESPACE: u64 = 0xefff_fffc;

/// How often to read the list of locks, until it is the same twice.
const MOST_READS: usize = 5;

/// A list that is shorter is read at once.
const PAGE: usize = 4096;

/// One lock of a file, in the words of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelLock {
    /// The process that called flock(2); it may have ended. 0 when it cannot be seen from this pid namespace.
    pub locker: u32,
    /// Whether it shuts everyone else out.
    pub exclusive: bool,
}

/// How the kernel names a file: major and minor number of its device, and its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    major: u32,
    minor: u32,
    /// The inode.
    pub ino: u64,
}

/// A lock that is held, or waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Of which file.
    pub file: FileId,
    /// The lock. Of one that is waited for, `locker` is who waits.
    pub lock: KernelLock,
    /// Whether it is waited for.
    pub waits: bool,
}

/// A file to look for: device and inode, and the path for the case that it was removed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The device.
    pub dev: u64,
    /// The inode. 0 when there is no file at the path.
    pub ino: u64,
    /// The path.
    pub path: PathBuf,
    /// Whether there may be one all the same: it could not be looked at.
    pub lost: bool,
}

/// A process that has one of the wanted files open, with a lock on it.
#[derive(Debug, Clone)]
pub struct Opener {
    /// Which of the wanted files.
    pub index: usize,
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// The lock.
    pub lock: KernelLock,
    /// Whether it is a file that was removed from the path since.
    pub removed: bool,
}

/// What a look through all processes found.
#[derive(Debug)]
pub struct Look<T> {
    /// The descriptors that were looked for, in the order of the processes.
    pub found: Vec<T>,
    /// Whether there are processes whose descriptors we may not see.
    pub hidden: bool,
}

/// A descriptor of another process.
#[derive(Debug)]
pub struct Descriptor<'a> {
    /// The process.
    pub pid: u32,
    /// Where it is: a link to the file in `/proc/PID/fd`.
    pub path: &'a Path,
    /// What is known of the file.
    pub data: Metadata,
    /// Whether it could not be read which lock it has, although it may have one.
    unread: Cell<bool>,
}

impl Descriptor<'_> {
    /// Its lock, and which file the kernel says that it is of.
    #[must_use]
    pub fn lock(&self) -> Option<(FileId, KernelLock)> {
        lock_in_fdinfo(process::info_of(self.path)?.to_str()?).unwrap_or_else(|error| {
            self.unread.set(!has_gone(&error));
            None
        })
    }

    /// Returns whether it holds this fcntl(2) lock.
    #[must_use]
    pub fn has_range_lock(&self, range: &Range) -> bool {
        let path = process::info_of(self.path).unwrap_or_default();
        let info = path.to_str().and_then(process::read_small).unwrap_or_default();
        info.lines()
            .filter_map(|line| line.strip_prefix("lock:"))
            .any(|line| listed_range(line).is_some_and(|(_, found)| found == *range))
    }

    /// The path of a file that was removed from there since.
    #[must_use]
    pub fn removed_from(&self) -> Option<PathBuf> {
        if self.data.nlink() > 0 {
            return None;
        }
        let link = fs::read_link(self.path).ok()?.into_os_string().into_vec();
        Some(PathBuf::from(OsString::from_vec(link.strip_suffix(b" (deleted)")?.to_vec())))
    }

    /// The user of the process.
    #[must_use]
    pub fn user(&self) -> u32 {
        process::user_of(self.pid).unwrap_or(process::UNKNOWN_USER)
    }
}

/// Looks through the descriptors of all processes but one. Ends early when `stop` is set.
pub fn look<T: Send>(but: u32, stop: &AtomicBool, find: impl Fn(&Descriptor) -> Option<T> + Sync) -> Look<T> {
    let Ok(all) = process::try_all_pids() else { return Look { found: Vec::new(), hidden: true } };
    let mut pids: Vec<u32> = all.into_iter().filter(|pid| *pid != but).collect();
    pids.sort_unstable();
    let some = |pids: &[u32]| {
        let mut look = Look { found: Vec::new(), hidden: false };
        for pid in pids {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            look.hidden |= !look_at(*pid, &find, &mut look.found);
        }
        look
    };
    if pids.len() < MANY {
        return some(&pids);
    }
    // Most of the time is spent in the kernel, which can answer several threads at once.
    let threads = thread::available_parallelism().map_or(1, |number| number.get().min(8));
    let parts: Vec<&[u32]> = pids.chunks(pids.len().div_ceil(threads)).collect();
    let mut all = Look { found: Vec::new(), hidden: false };
    for mut part in map_in_threads(&parts, some) {
        all.found.append(&mut part.found);
        all.hidden |= part.hidden;
    }
    all
}

/// `false`: we may not see them.
fn look_at<T>(pid: u32, find: impl Fn(&Descriptor) -> Option<T>, found: &mut Vec<T>) -> bool {
    let (seen, number) = look_in(pid, Path::new(&format!("/proc/{pid}/fd")), &find, found);
    if !seen || number > 0 {
        return seen;
    }
    process::other_thread(pid).is_none_or(|thread| look_in(pid, &thread.join("fd"), &find, found).0)
}

/// The same of the descriptors in this directory, and how many there are.
fn look_in<T>(
    pid: u32,
    directory: &Path,
    find: impl Fn(&Descriptor) -> Option<T>,
    found: &mut Vec<T>,
) -> (bool, usize) {
    match fs::read_dir(directory) {
        Ok(entries) => {
            let (mut all, mut number) = (true, 0);
            for entry in entries {
                number += 1;
                let at = entry.map(|entry| entry.path()).and_then(|path| Ok((fs::metadata(&path)?, path)));
                match at {
                    Ok((data, path)) => {
                        let descriptor = Descriptor { pid, path: &path, data, unread: Cell::new(false) };
                        found.extend(find(&descriptor));
                        all &= !descriptor.unread.get();
                    }
                    // What may not be looked at is in the list of locks.
                    Err(error) if error.kind() == PermissionDenied => {
                        if process::is_guarded(pid) {
                            break;
                        }
                    }
                    Err(error) => all &= has_gone(&error),
                }
            }
            (all, number)
        }
        Err(error) => (has_gone(&error), 0),
    }
}

/// Whether what was asked of a process failed because that has ended meanwhile. Else, as for want of descriptors or memory,
/// it may have what is looked for.
fn has_gone(error: &io::Error) -> bool {
    error.kind() == NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The processes that have locks on the wanted files.
///
/// With a directory, also those that have locks on files that were removed from it: these files are then put behind the
/// wanted ones.
#[must_use]
pub fn openers(wanted: &mut Vec<Wanted>, directory: Option<&Path>, stop: &AtomicBool) -> Look<Opener> {
    let by_file: HashMap<(u64, u64), usize> =
        wanted.iter().enumerate().map(|(index, file)| ((file.dev, file.ino), index)).collect();
    let mut by_path: HashMap<PathBuf, usize> =
        wanted.iter().enumerate().map(|(index, file)| (file.path.clone(), index)).collect();
    let find = |descriptor: &Descriptor| {
        let removed = descriptor.data.nlink() == 0;
        let from = if removed { Some(descriptor.removed_from()?) } else { None };
        let index = match &from {
            Some(path) if directory.is_some() && path.parent() == directory => by_path.get(path).copied(),
            Some(path) => Some(*by_path.get(path)?),
            None => Some(*by_file.get(&(descriptor.data.dev(), descriptor.data.ino()))?),
        };
        let (_, lock) = descriptor.lock()?;
        let opener = Opener { index: index.unwrap_or(0), pid: descriptor.pid, uid: descriptor.user(), lock, removed };
        Some((opener, from.filter(|_| index.is_none())))
    };
    let us = std::process::id();
    let mut look = look(us, stop, find);
    // This process may have inherited the descriptor from a script, but is gone when the answer is read. So it counts only where
    // no other process holds the lock, as after `exec`.
    let mut own = Vec::new();
    look_at(us, find, &mut own);
    own.retain(|(one, _)| {
        !look.found.iter().any(|(other, _)| (other.index, other.removed) == (one.index, one.removed))
    });
    look.found.append(&mut own);
    let mut found = Vec::new();
    for (mut opener, from) in look.found {
        if let Some(path) = from {
            opener.index = *by_path.entry(path.clone()).or_insert_with(|| {
                wanted.push(Wanted { dev: 0, ino: 0, path, lost: false });
                wanted.len() - 1
            });
        }
        found.push(opener);
    }
    found.sort_by_key(|opener| (opener.index, opener.pid));
    found.dedup_by_key(|opener| (opener.index, opener.pid, opener.removed));
    Look { found, hidden: look.hidden }
}

/// Whether a process has a lock on this file.
#[must_use]
pub fn holds(pid: u32, file: &Wanted) -> bool {
    lock_on(pid, file).is_some()
}

/// The lock that a process has on this file.
#[must_use]
pub fn lock_on(pid: u32, file: &Wanted) -> Option<KernelLock> {
    let mut found = Vec::new();
    look_at(
        pid,
        |descriptor| {
            let same = (descriptor.data.dev(), descriptor.data.ino()) == (file.dev, file.ino);
            if same { descriptor.lock() } else { None }
        },
        &mut found,
    );
    found.first().map(|(_, lock)| *lock)
}

/// The lock that this process has through its descriptor `fd`. None, if the kernel cannot be asked.
#[must_use]
pub fn lock_of_descriptor(fd: i32) -> Option<KernelLock> {
    try_lock_of_descriptor(fd).ok().flatten()
}

/// The same, with the reason where the kernel cannot be asked.
pub fn try_lock_of_descriptor(fd: i32) -> io::Result<Option<KernelLock>> {
    Ok(lock_in_fdinfo(&format!("/proc/self/fdinfo/{fd}"))?.map(|(_, lock)| lock))
}

/// All locks that are held or waited for, as far as they can be seen from this pid namespace. Those that wait for a file
/// stand behind its holders, in the order in which they will be served.
#[must_use]
pub fn list() -> Vec<Listed> {
    try_list().unwrap_or_default()
}

/// The same. `None`: the list cannot be read.
#[must_use]
pub fn try_list() -> Option<Vec<Listed>> {
    // The kernel gives a page of it at a time. One lock, with all who wait for it, is shown as a whole; but when another is
    // released between one page and the next, those behind it move up, and one is skipped. So where there is more than a
    // page, each file is taken from the look that showed the most of it.
    let read = || process::read_whole("/proc/locks");
    let mut text = read()?;
    let mut best = by_file(&text);
    for _ in 1..MOST_READS {
        if text.len() < PAGE {
            break;
        }
        let again = read()?;
        if again == text {
            break;
        }
        text = again;
        for (file, locks) in by_file(&text) {
            let known = best.entry(file).or_default();
            if locks.len() >= known.len() {
                *known = locks;
            }
        }
    }
    let mut all: Vec<Listed> = best.into_values().flatten().collect();
    if process::pid_namespace() != FIRST_NAMESPACE {
        add_unlisted_waits(&mut all);
    }
    Some(all)
}

/// In a pid namespace of its own, as in a container, the list leaves out each lock whose taker has ended, as a script's helper
/// has, and with it those who wait for it. They can be seen waiting all the same; in which order is not told, so it is taken
/// that who was started first is first.
fn add_unlisted_waits(all: &mut Vec<Listed>) {
    let known: HashSet<u32> = all.iter().filter(|one| one.waits).map(|one| one.lock.locker).collect();
    let mut seen: Vec<process::Seen> =
        process::all_pids().into_iter().filter(|pid| !known.contains(pid)).filter_map(blocked).collect();
    seen.sort_by_key(|seen| (seen.start, seen.pid));
    for process in seen {
        if let Some((file, exclusive)) = awaited(process.pid) {
            all.push(Listed { file, lock: KernelLock { locker: process.pid, exclusive }, waits: true });
        }
    }
}

/// A process that sleeps in flock(2).
fn blocked(pid: u32) -> Option<process::Seen> {
    let place = process::sleeps_in(pid)?;
    if place == "locks_lock_inode_wait" || place == "flock_lock_inode_wait" { process::seen(pid) } else { None }
}

/// The file for which a process sleeps in flock(2), and whether it wants it exclusive.
fn awaited(pid: u32) -> Option<(FileId, bool)> {
    let id = |number: &str| {
        let link = format!("/proc/{pid}/fd/{number}");
        let data = fs::metadata(&link).ok().filter(Metadata::is_file)?;
        Some(file_id(&Wanted { dev: data.dev(), ino: data.ino(), path: fs::read_link(link).ok()?, lost: false }))
    };
    if let [descriptor, how, ..] = process::call_arguments(pid)[..] {
        return Some((id(&descriptor.to_string())?, how & u64::from(libc::LOCK_EX.cast_unsigned()) != 0));
    }
    // Then it is the only file that it has open without a lock, if there is but one.
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let above = |number: &String| number.parse::<u32>().is_ok_and(|number| number > 2);
    let mut open =
        numbers.filter(above).filter(|number| lock_of(pid, number).is_none()).filter_map(|number| id(&number));
    let only = open.next()?;
    if open.all(|other| other == only) { Some((only, true)) } else { None }
}

/// Who waits for a file, in their order, by one look: one or two may be missed, and in a pid namespace of its own more.
#[must_use]
pub(crate) fn queue(file: FileId) -> Vec<u32> {
    let text = process::read_whole("/proc/locks").unwrap_or_default();
    let waits = text.lines().filter(|line| line.contains("->")).filter_map(listed);
    waits.filter(|one| one.waits && one.file == file).map(|one| one.lock.locker).collect()
}

fn by_file(text: &str) -> HashMap<FileId, Vec<Listed>> {
    let mut by_file: HashMap<FileId, Vec<Listed>> = HashMap::new();
    let mut seen = HashSet::new();
    for lock in text.lines().filter_map(listed) {
        // Shown again, as one moved down that came in front of it.
        if seen.insert(lock) {
            by_file.entry(lock.file).or_default().push(lock);
        }
    }
    by_file
}

/// How the kernel names the file that `wanted` leads to.
#[must_use]
pub fn file_id(wanted: &Wanted) -> FileId {
    #[cfg(target_os = "linux")]
    let (major, minor) = match (libc::major(wanted.dev), libc::minor(wanted.dev)) {
        // Where the device is a number without a disk, as of btrfs and overlay, a file may tell of another than its mount.
        (0, minor) => process::device_of_mount(&wanted.path).unwrap_or((0, minor)),
        known => known,
    };
    #[cfg(not(target_os = "linux"))]
    let (major, minor) = (0, 0);
    FileId { major, minor, ino: wanted.ino }
}

/// The lock that a process has through a descriptor, and which file the kernel says that it is of.
#[must_use]
pub(crate) fn lock_of(pid: u32, descriptor: &str) -> Option<(FileId, KernelLock)> {
    lock_in_fdinfo(&format!("/proc/{pid}/fdinfo/{descriptor}")).ok().flatten()
}

fn lock_in_fdinfo(path: &str) -> io::Result<Option<(FileId, KernelLock)>> {
    let info = process::try_read_small(path)?;
    let mut locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    Ok(locks.find_map(|line| listed(line).map(|it| (it.file, it.lock))))
}

/// Reads a line such as `1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`, or `1: -> FLOCK …` of one who waits.
fn listed(line: &str) -> Option<Listed> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if_eq(&"->").is_some();
    if words.next() != Some("FLOCK") {
        return None;
    }
    let exclusive = words.nth(1)? == "WRITE";
    let locker = words.next()?.parse().unwrap_or(0);
    let file = listed_file(words.next()?)?;
    Some(Listed { file, lock: KernelLock { locker, exclusive }, waits })
}

/// The first fcntl(2) lock on a file that the kernel lists.
#[must_use]
pub(crate) fn range_lock(file: FileId) -> Option<Range> {
    let text = process::read_whole("/proc/locks")?;
    text.lines().filter_map(listed_range).find_map(|(of, range)| (of == file).then_some(range))
}

/// Reads a line such as `1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`, or `OFDLCK` with the process -1.
fn listed_range(line: &str) -> Option<(FileId, Range)> {
    let [_, "POSIX" | "OFDLCK", _, kind, pid, file, start, end, ..] =
        line.split_ascii_whitespace().collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let start = start.parse().ok()?;
    // The last byte, which is in the range.
    let len = if end == "EOF" { 0 } else { end.parse::<u64>().ok()?.checked_sub(start)? + 1 };
    let mode = if kind == "WRITE" { Mode::Exclusive } else { Mode::Shared };
    Some((listed_file(file)?, Range { mode, start, len, pid: pid.parse().ok().filter(|pid| *pid > 0) }))
}

/// Reads a file's device and inode, such as `fe:00:1234`.
fn listed_file(text: &str) -> Option<FileId> {
    let mut parts = text.split(':');
    let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
    let (major, minor) = (number()?, number()?);
    Some(FileId { major, minor, ino: parts.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_read() {
        let file = FileId { major: 0xfe, minor: 0, ino: 1234 };
        assert_eq!(
            listed("1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"),
            Some(Listed { file, lock: KernelLock { locker: 4321, exclusive: true }, waits: false })
        );
        assert_eq!(
            listed("12:    -> FLOCK  ADVISORY  READ -1 fe:00:1234 0 EOF"),
            Some(Listed { file, lock: KernelLock { locker: 0, exclusive: false }, waits: true })
        );
        assert_eq!(listed("1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
        assert_eq!(listed("1: FLOCK  ADVISORY  WRITE 4321 <none>:0 0 EOF"), None);
        assert_eq!(listed(""), None);
        let range = Range { mode: Mode::Exclusive, start: 0, len: 0, pid: Some(4321) };
        assert_eq!(listed_range("1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), Some((file, range)));
        let range = Range { mode: Mode::Shared, start: 10, len: 10, pid: None };
        assert_eq!(listed_range("1: OFDLCK ADVISORY  READ -1 fe:00:1234 10 19"), Some((file, range)));
        assert_eq!(listed_range("1: -> POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
        assert_eq!(listed_range("1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
    }
}
