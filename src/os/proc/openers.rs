//! Finds the processes that have a file open and hold a lock on it, in `/proc/PID/fd` and `/proc/PID/fdinfo`
//! (`proc_pid_fdinfo(5)`).
//!
//! A lock of flock(2) belongs to the open file description, so each process that shares the description holds it, also
//! if the process that called flock(2) has ended. The lock table of the kernel would name only that process. Processes
//! of other users can be hidden; each result says if some were.

#[cfg(linux)]
use crate::os::directory::Directory;
use crate::os::directory::{EntryBuffer, FileFacts};
use crate::os::flock::Mode;
#[cfg(not(linux))]
use crate::os::holding::find_mode_at;
use crate::os::number_map::NumberMap;
#[cfg(linux)]
use crate::os::proc::lock_table::read_fdinfo_lock;
use crate::os::proc::lock_table::{FileId, KernelLock, WantedFile, parse_lease, parse_range_lock, range_owner};
#[cfg(not(linux))]
use crate::os::proc::portable;
use crate::os::proc::process::{self, has_vanished};
use crate::os::range::RangeLock;
use crate::os::slot::TURNSTILE;
use crate::os::thread::map_in_threads;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::HashMap;
#[cfg(not(linux))]
use std::ffi::CString;
use std::ffi::{CStr, OsString};
use std::fs;
#[cfg(linux)]
use std::io::ErrorKind::PermissionDenied;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// If there are at least this many processes, several threads scan them.
const MANY: usize = 512;

/// A process that holds a lock on one of the wanted files. A process that holds several slots of a lock is found once for each.
#[derive(Debug, Clone)]
pub struct LockingProcess {
    /// The index of the wanted file.
    pub index: usize,
    pub pid: u32,
    pub uid: u32,
    pub lock: KernelLock,
    /// True if the open file is one that was removed from the path since.
    pub removed: bool,
}

/// The result of a scan of the descriptors of all processes.
#[derive(Debug)]
pub struct Scan<T> {
    /// The results for the descriptors, in the order of the processes.
    pub found: Vec<T>,
    /// True if there are processes whose descriptors this process may not see.
    pub hidden: bool,
}

/// A descriptor of a scanned process.
#[derive(Debug)]
pub struct ScannedDescriptor<'a> {
    pub pid: u32,
    /// The facts about the file.
    pub data: FileFacts,
    /// The directory of its process or thread, such as `/proc/4321`.
    process: &'a str,
    number: &'a CStr,
    /// True if its lock could not be read, although it may hold one.
    unread: Cell<bool>,
    /// The path of the file, if this descriptor may hold a lock.
    #[cfg(not(linux))]
    lockable: Option<&'a Path>,
}

impl ScannedDescriptor<'_> {
    /// Its flock(2) lock, and the file of that lock as the kernel names it.
    #[must_use]
    #[cfg(linux)]
    pub fn lock(&self) -> Option<(FileId, KernelLock)> {
        read_fdinfo_lock(&self.path_in("fdinfo")).unwrap_or_else(|error| {
            self.unread.set(!has_vanished(&error));
            None
        })
    }

    /// The flock(2) lock that some descriptor holds on its file. It may be another one than this: the kernel does not say which.
    #[must_use]
    #[cfg(not(linux))]
    pub fn lock(&self) -> Option<(FileId, KernelLock)> {
        let path = self.lockable?;
        let mode = find_mode_at(path, self.data.dev, self.data.ino).unwrap_or_else(|error| {
            self.unread.set(error.kind() != std::io::ErrorKind::NotFound);
            None
        });
        let wanted = WantedFile { dev: self.data.dev, ino: self.data.ino, path: path.to_owned(), lost: false };
        Some((crate::os::proc::lock_table::file_id(&wanted), KernelLock::of_file(0, mode? == Mode::Exclusive)))
    }

    /// Returns true if it holds this fcntl(2) lock.
    #[must_use]
    pub fn has_range_lock(&self, range: &RangeLock) -> bool {
        let info = process::read_small(&self.path_in("fdinfo")).unwrap_or_default();
        info.lines()
            .filter_map(|line| line.strip_prefix("lock:"))
            .any(|line| parse_range_lock(line).is_some_and(|(_, found)| found == *range))
    }

    /// Its fcntl(2) locks, except those that the policies of aba-lock take in addition to flock(2).
    fn range_locks(&self) -> Vec<RangeLock> {
        let info = process::try_read_small(&self.path_in("fdinfo")).unwrap_or_else(|error| {
            self.unread.set(!has_vanished(&error));
            String::new()
        });
        let lines = info.lines().filter_map(|line| line.strip_prefix("lock:"));
        lines.filter_map(|line| Some(parse_range_lock(line)?.1)).filter(|range| range.start < TURNSTILE).collect()
    }

    /// The process that has taken the lease on the file through this description.
    pub(super) fn lease_taker(&self) -> Option<u32> {
        let info = process::read_small(&self.path_in("fdinfo"))?;
        let mut locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
        locks.find_map(|line| Some(parse_lease(line)?.1))
    }

    /// The ticket of a caller with `--replace`.
    fn ticket(&self) -> Option<u64> {
        let info = process::read_small(&self.path_in("fdinfo"))?;
        let mut locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
        locks.find_map(|line| parse_range_lock(line)?.1.ticket())
    }

    /// The former path of a file that was removed.
    #[must_use]
    pub fn removed_from(&self) -> Option<PathBuf> {
        if self.data.links > 0 {
            return None;
        }
        let link = fs::read_link(self.path()).ok()?.into_os_string().into_vec();
        Some(PathBuf::from(OsString::from_vec(link.strip_suffix(b" (deleted)")?.to_vec())))
    }

    /// The link to the file in `/proc/PID/fd`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.path_in("fd"))
    }

    /// The number of the descriptor.
    pub(super) fn number(&self) -> Option<i32> {
        self.number.to_str().ok()?.parse().ok()
    }

    fn path_in(&self, directory: &str) -> String {
        format!("{}/{directory}/{}", self.process, self.number.to_str().unwrap_or_default())
    }

    /// The user of the process.
    #[must_use]
    pub fn user(&self) -> u32 {
        process::user_of(self.pid).unwrap_or(process::UNKNOWN_USER)
    }
}

/// Applies `find` to the descriptors of all processes except `skipped`. Ends early when `stop` is set.
pub fn scan_descriptors<T: Send>(
    skipped: u32,
    stop: &AtomicBool,
    find: impl Fn(&ScannedDescriptor) -> Option<T> + Sync,
) -> Scan<T> {
    let Ok(all) = process::try_all_pids() else { return Scan { found: Vec::new(), hidden: true } };
    let mut pids: Vec<u32> = all.into_iter().filter(|pid| *pid != skipped).collect();
    pids.sort_unstable();
    let scan_some = |pids: &[u32]| {
        let mut scan = Scan { found: Vec::new(), hidden: false };
        let mut scanner = Scanner::new();
        for pid in pids {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            scan.hidden |= !scanner.scan_process(*pid, &find, &mut scan.found);
        }
        scan
    };
    if pids.len() < MANY {
        return scan_some(&pids);
    }
    // The scan spends most of its time in the kernel, which can answer several threads at once.
    let threads = thread::available_parallelism().map_or(1, |number| number.get().min(8));
    let parts: Vec<&[u32]> = pids.chunks(pids.len().div_ceil(threads)).collect();
    let mut all = Scan { found: Vec::new(), hidden: false };
    for mut part in map_in_threads(&parts, scan_some) {
        all.found.append(&mut part.found);
        all.hidden |= part.hidden;
    }
    all
}

/// Scans the descriptors of one process after the other.
pub(super) struct Scanner {
    buffer: EntryBuffer,
    /// The path of the directory that is scanned.
    path: String,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { buffer: EntryBuffer::new(), path: String::new() }
    }

    /// Adds the results of `find` for the descriptors of `pid` to `found`. Returns false if this process may not see all of
    /// them.
    #[cfg(not(linux))]
    #[expect(clippy::unused_self, reason = "the counterpart for Linux has buffers")]
    pub(super) fn scan_process<T>(
        &mut self,
        pid: u32,
        find: impl Fn(&ScannedDescriptor) -> Option<T>,
        found: &mut Vec<T>,
    ) -> bool {
        let files = match portable::list_open_files(pid) {
            Ok(files) => files,
            Err(_) => return process::read_stat(pid).is_none(),
        };
        let mut all = true;
        for file in &files {
            let data = FileFacts { dev: file.dev, ino: file.ino, links: file.links, mode: file.mode, size: 0 };
            let number = CString::new(file.number.to_string()).unwrap_or_default();
            let lockable = file.may_hold_lock.then_some(file.path.as_path());
            let unread = Cell::new(false);
            let descriptor = ScannedDescriptor { pid, data, process: "", number: &number, unread, lockable };
            found.extend(find(&descriptor));
            all &= !descriptor.unread.get();
        }
        all
    }

    /// Adds the results of `find` for the descriptors of `pid` to `found`. Returns false if this process may not see all of
    /// them.
    #[cfg(linux)]
    pub(super) fn scan_process<T>(
        &mut self,
        pid: u32,
        find: impl Fn(&ScannedDescriptor) -> Option<T>,
        found: &mut Vec<T>,
    ) -> bool {
        self.path = format!("/proc/{pid}");
        let (seen, count) = self.scan_directory(pid, &find, found);
        if !seen || count > 0 {
            return seen;
        }
        process::other_thread(pid).is_none_or(|thread| {
            self.path = thread.to_string_lossy().into_owned();
            self.scan_directory(pid, &find, found).0
        })
    }

    /// Scans the descriptors of the process or thread at `path`. Returns false if this process may not see them all, and
    /// their number.
    #[cfg(linux)]
    fn scan_directory<T>(
        &mut self,
        pid: u32,
        find: impl Fn(&ScannedDescriptor) -> Option<T>,
        found: &mut Vec<T>,
    ) -> (bool, usize) {
        let opened = Directory::open_path(format!("{}/fd", self.path));
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => return (has_vanished(&error), 0),
        };
        let (mut all, mut count, mut guarded) = (true, 0, false);
        let read = directory.for_each(&mut self.buffer, |number, _| {
            count += 1;
            if guarded {
                return;
            }
            match directory.examine(number) {
                Ok(data) => {
                    let process = self.path.as_str();
                    let descriptor = ScannedDescriptor { pid, data, process, number, unread: Cell::new(false) };
                    found.extend(find(&descriptor));
                    all &= !descriptor.unread.get();
                }
                // The lock table shows the locks on files that this process may not examine.
                Err(error) if error.kind() == PermissionDenied => guarded = process::is_guarded(pid),
                Err(error) => all &= has_vanished(&error),
            }
        });
        (all && read.map_or_else(|error| has_vanished(&error), |()| true), count)
    }
}

/// Finds the processes that hold locks on the wanted files.
///
/// With a directory, it also finds processes that hold locks on files that were removed from it, and appends these
/// files to `wanted`.
#[must_use]
pub fn find_locking_processes(
    wanted: &mut Vec<WantedFile>,
    directory: Option<&Path>,
    stop: &AtomicBool,
) -> Scan<LockingProcess> {
    let by_file: NumberMap<(u64, u64), usize> =
        wanted.iter().enumerate().map(|(index, file)| ((file.dev, file.ino), index)).collect();
    // Most scans meet no removed file, and there can be many thousand paths.
    let by_path: OnceLock<HashMap<&Path, usize>> = OnceLock::new();
    let index_of = |path: &Path| {
        let paths = || wanted.iter().enumerate().map(|(index, file)| (file.path.as_path(), index)).collect();
        by_path.get_or_init(paths).get(path).copied()
    };
    let find = |descriptor: &ScannedDescriptor| {
        let removed = descriptor.data.links == 0;
        let from = if removed { Some(descriptor.removed_from()?) } else { None };
        let index = match &from {
            Some(path) if directory.is_some() && path.parent() == directory => index_of(path),
            // All wanted files are in the directory.
            Some(_) if directory.is_some() => return None,
            Some(path) => Some(index_of(path)?),
            None => Some(*by_file.get(&(descriptor.data.dev, descriptor.data.ino))?),
        };
        let (_, lock) = descriptor.lock()?;
        let process =
            LockingProcess { index: index.unwrap_or(0), pid: descriptor.pid, uid: descriptor.user(), lock, removed };
        Some((process, from.filter(|_| index.is_none())))
    };
    let us = std::process::id();
    let mut scan = scan_descriptors(us, stop, find);
    // This process may have inherited the descriptor from a script, but it will have ended when the user reads the
    // answer. So it counts only if no other process holds the lock, as after `exec`.
    let mut own = Vec::new();
    Scanner::new().scan_process(us, find, &mut own);
    own.retain(|(one, _)| {
        !scan.found.iter().any(|(other, _)| (other.index, other.removed) == (one.index, one.removed))
    });
    scan.found.append(&mut own);
    let mut found = Vec::new();
    let mut added: HashMap<PathBuf, usize> = HashMap::new();
    for (mut process, from) in scan.found {
        if let Some(path) = from {
            process.index = *added.entry(path.clone()).or_insert_with(|| {
                wanted.push(WantedFile { dev: 0, ino: 0, path, lost: false });
                wanted.len() - 1
            });
        }
        found.push(process);
    }
    let slot_of = |process: &LockingProcess| Reverse(process.lock.slots.slot().map_or(0, |slot| slot.number));
    found.sort_by_key(|process| (process.index, process.pid, slot_of(process)));
    found.dedup_by_key(|process| (process.index, process.pid, process.removed, slot_of(process)));
    Scan { found, hidden: scan.hidden }
}

/// Finds the processes that hold fcntl(2) locks on this file. This process counts only if no other one holds such a lock.
///
/// The locker of a POSIX lock is its process. The other kind has none ([`NO_LOCKER`](super::lock_table::NO_LOCKER)).
#[must_use]
pub(crate) fn find_fcntl_holders(file: &WantedFile) -> Scan<LockingProcess> {
    let us = std::process::id();
    let mut scan = scan_descriptors(us, &AtomicBool::new(false), |descriptor| find_fcntl_locks(descriptor, file));
    if scan.found.is_empty() {
        Scanner::new().scan_process(us, |descriptor| find_fcntl_locks(descriptor, file), &mut scan.found);
    }
    let mut found: Vec<LockingProcess> = scan.found.into_iter().flatten().collect();
    found.sort_by_key(|process| (process.pid, process.lock.locker));
    found.dedup_by_key(|process| (process.pid, process.lock.locker));
    Scan { found, hidden: scan.hidden }
}

/// The fcntl(2) locks that a process holds on this file.
#[must_use]
pub(crate) fn fcntl_locks_on(pid: u32, file: &WantedFile) -> Vec<KernelLock> {
    let mut found = Vec::new();
    Scanner::new().scan_process(pid, |descriptor| find_fcntl_locks(descriptor, file), &mut found);
    found.into_iter().flatten().map(|process| process.lock).collect()
}

fn find_fcntl_locks(descriptor: &ScannedDescriptor, file: &WantedFile) -> Option<Vec<LockingProcess>> {
    if (descriptor.data.dev, descriptor.data.ino) != (file.dev, file.ino) {
        return None;
    }
    let (pid, uid) = (descriptor.pid, descriptor.user());
    let build = |range: RangeLock| LockingProcess { index: 0, pid, uid, lock: range_owner(&range), removed: false };
    Some(descriptor.range_locks().into_iter().map(build).collect())
}

/// Returns the processes that have a ticket on this file, each with its ticket.
#[must_use]
pub(crate) fn find_ticket_holders(file: &WantedFile) -> Vec<(u64, u32)> {
    let find = |descriptor: &ScannedDescriptor| {
        let same = (descriptor.data.dev, descriptor.data.ino) == (file.dev, file.ino);
        if same { Some((descriptor.ticket()?, descriptor.pid)) } else { None }
    };
    scan_descriptors(std::process::id(), &AtomicBool::new(false), find).found
}

/// Returns true if a process holds a lock on this file.
#[must_use]
pub fn holds(pid: u32, file: &WantedFile) -> bool {
    lock_on(pid, file).is_some()
}

/// The lock that a process holds on this file.
#[must_use]
pub fn lock_on(pid: u32, file: &WantedFile) -> Option<KernelLock> {
    let mut found = Vec::new();
    Scanner::new().scan_process(
        pid,
        |descriptor| {
            let same = (descriptor.data.dev, descriptor.data.ino) == (file.dev, file.ino);
            if same { descriptor.lock() } else { None }
        },
        &mut found,
    );
    found.first().map(|(_, lock)| *lock)
}

/// Returns true if a process has this file open through a description that holds a lock on this byte.
#[must_use]
pub(crate) fn has_byte_lock(pid: u32, file: &WantedFile, byte: u64) -> bool {
    let mut found = Vec::new();
    let range = RangeLock { mode: Mode::Exclusive, start: byte, len: 1, pid: None };
    let find = |descriptor: &ScannedDescriptor| {
        let is_it = (descriptor.data.dev, descriptor.data.ino) == (file.dev, file.ino);
        (is_it && descriptor.has_range_lock(&range)).then_some(())
    };
    Scanner::new().scan_process(pid, find, &mut found);
    !found.is_empty()
}

/// Returns true if a process has this file (device and inode) open, and the file was not removed from a path in `directory`.
#[must_use]
pub(crate) fn is_open_elsewhere(pid: u32, dev: u64, ino: u64, directory: &Path) -> bool {
    let mut found = Vec::new();
    let find = |descriptor: &ScannedDescriptor| {
        let is_it = (descriptor.data.dev, descriptor.data.ino) == (dev, ino);
        let is_elsewhere = || descriptor.removed_from().is_some_and(|path| path.parent() != Some(directory));
        (is_it && (descriptor.data.links > 0 || is_elsewhere())).then_some(())
    };
    Scanner::new().scan_process(pid, find, &mut found);
    !found.is_empty()
}
