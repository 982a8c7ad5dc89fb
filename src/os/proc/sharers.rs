//! Finds the processes that share one open file description, with `kcmp(2)`.
//!
//! An exclusive lock belongs to one description, so if one holder is known, all holders are the processes that share the
//! description with it. To compare descriptors takes less than half of the time in which [`openers`](super::openers) lists the
//! directories and examines the files. Every descriptor of every process is compared, because a copy can have any number, and
//! can be in a process that is not related to the first holder.
//!
//! [`find_sharing_processes`] gives up where the answer could be incomplete: if `kcmp(2)` is forbidden, as in some containers;
//! if the kernel does not report the number of descriptors of a process (before Linux 6.2); or if `/proc` shows the numbers of another
//! PID namespace. Then the caller scans all processes with [`openers`](super::openers).

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::os::directory::Directory;
use crate::os::proc::lock_table::{self, KernelLock, WantedFile};
use crate::os::proc::openers::{LockingProcess, Scan, ScannedDescriptor, Scanner};
use crate::os::proc::process::{self, has_vanished};
use crate::os::thread::map_in_threads;
use std::ffi::CStr;
use std::io::{self, Write as _};
use std::mem;
use std::thread;

/// If there are at least this many processes, several threads compare their descriptors.
const MANY: usize = 512;

/// High numbers that are compared before others: shells keep their own files there, or scripts their lock files.
const FREQUENT: [i32; 4] = [255, 10, 200, 254];

/// A process with more descriptors than this is scanned.
const MAX_COMPARED: u64 = 512;

/// The maximum number of high numbers that are compared before others.
const MAX_FREQUENT: usize = 12;

/// A descriptor of a process that holds a lock.
#[derive(Debug, Clone, Copy)]
struct ReferenceDescriptor {
    pid: u32,
    number: i32,
    lock: KernelLock,
}

impl ReferenceDescriptor {
    /// Finds the descriptor through which a process holds an exclusive lock on `file`.
    fn find(pid: u32, file: &WantedFile) -> Option<Self> {
        let mut found = Vec::new();
        Scanner::new().scan_process(pid, |descriptor| find_lock_in(descriptor, file), &mut found);
        let (number, lock) = found.into_iter().find(|(_, lock)| lock.exclusive)?;
        Some(Self { pid, number, lock })
    }

    /// Compares it with a descriptor of another process.
    fn compare(&self, pid: u32, number: i32) -> Comparison {
        match compare_descriptors(self.pid, self.number, pid, number) {
            Ok(0) => Comparison::Same,
            Ok(_) => Comparison::Other,
            Err(libc::EBADF) => Comparison::Closed,
            Err(libc::ESRCH) => Comparison::Ended,
            Err(_) => Comparison::Refused,
        }
    }
}

/// The result of the comparison of two descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Same,
    Other,
    /// The other process has no descriptor with this number.
    Closed,
    /// The other process has ended.
    Ended,
    Refused,
}

/// The descriptors of a process, compared with a known one.
enum Sharing {
    /// A copy of the known descriptor has this number.
    Copy(i32),
    None,
    /// Not all of them were compared, because their numbers are too high.
    Incomplete,
    /// This process may not compare them.
    Refused,
}

/// Finds all processes that hold the exclusive lock on `file`, of which `holder` is one. `None` if it does not hold the lock, or
/// if not all holders can be found in this way. This process is left out.
#[must_use]
pub fn find_sharing_processes(holder: u32, file: &WantedFile) -> Option<Scan<LockingProcess>> {
    let us = std::process::id();
    if holder == us || !process::has_our_numbers() {
        return None;
    }
    let known = ReferenceDescriptor::find(holder, file)?;
    let proc = Directory::open(c"/proc").ok()?;
    if known.compare(holder, known.number) != Comparison::Same || count_descriptors(&proc, holder).unwrap_or(0) == 0 {
        return None;
    }
    let mut pids = process::try_all_pids().ok()?;
    pids.retain(|pid| *pid != us && *pid != holder);
    let compare_some = |pids: &[u32]| {
        let mut scan = Scan { found: Vec::new(), hidden: false };
        let mut comparer = Comparer::new(known, &proc);
        let mut scanner = Scanner::new();
        for pid in pids {
            match comparer.find_copy(*pid) {
                Sharing::Copy(number) => scan.found.push((*pid, number)),
                Sharing::None => {}
                // A scan would be refused, too. It only decides whether a process is hidden.
                Sharing::Refused if scan.hidden => {}
                Sharing::Refused | Sharing::Incomplete => {
                    let mut numbers = Vec::new();
                    let all =
                        scanner.scan_process(*pid, |one| Some((one.number()?, find_lock_in(one, file))), &mut numbers);
                    scan.hidden |= !all;
                    for (number, lock) in numbers {
                        comparer.note_number(number);
                        scan.found.extend(lock.map(|_| (*pid, number)));
                    }
                }
            }
        }
        scan
    };
    let threads = if pids.len() < MANY { 1 } else { thread::available_parallelism().map_or(1, |n| n.get().min(8)) };
    let parts: Vec<&[u32]> = pids.chunks(pids.len().div_ceil(threads).max(1)).collect();
    let mut all = Scan { found: vec![build_process(holder, known.lock)], hidden: false };
    for part in map_in_threads(&parts, compare_some) {
        all.hidden |= part.hidden;
        for (pid, number) in part.found {
            if let Some((_, lock)) = lock_table::lock_of(pid, &number.to_string()) {
                all.found.push(build_process(pid, lock));
            }
        }
    }
    // If the holder has released the lock in the meantime, the others may hold another one.
    let (_, still) = lock_table::lock_of(holder, &known.number.to_string())?;
    if still != known.lock || known.compare(holder, known.number) != Comparison::Same {
        return None;
    }
    all.found.sort_by_key(|process| process.pid);
    all.found.dedup_by_key(|process| process.pid);
    Some(all)
}

/// Returns the number of the descriptor and its lock, if it is open on `file` and holds a lock.
fn find_lock_in(descriptor: &ScannedDescriptor, file: &WantedFile) -> Option<(i32, KernelLock)> {
    let is_same = (descriptor.data.dev, descriptor.data.ino) == (file.dev, file.ino);
    if is_same { Some((descriptor.number()?, descriptor.lock()?.1)) } else { None }
}

/// Compares the descriptors of one process after the other with a known one.
struct Comparer<'a> {
    known: ReferenceDescriptor,
    proc: &'a Directory,
    /// High numbers that processes had so far, the latest first. Processes that one program started often have the same numbers.
    frequent: Vec<i32>,
    /// The numbers to compare, without duplicates, the most likely first.
    candidates: Vec<i32>,
}

impl<'a> Comparer<'a> {
    fn new(known: ReferenceDescriptor, proc: &'a Directory) -> Self {
        let mut comparer = Self { known, proc, frequent: FREQUENT.to_vec(), candidates: Vec::new() };
        // A copy that a child inherited has the same number.
        comparer.note_number(known.number);
        comparer
    }

    /// Compares the descriptors of `pid`. The kernel reports the number of open ones, so the comparison ends when as many were met.
    fn find_copy(&mut self, pid: u32) -> Sharing {
        let count = match count_descriptors(self.proc, pid) {
            // The first thread of the process may have ended, while others run.
            Ok(0) if self.proc.examine(ProcPath::new(pid, "task").as_c_str()).is_ok_and(|task| task.links >= 4) => {
                return Sharing::Incomplete;
            }
            Ok(0) => return Sharing::None,
            Ok(count) if count > MAX_COMPARED => return Sharing::Incomplete,
            Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
            Err(error) if has_vanished(&error) => return Sharing::None,
            Err(_) => return Sharing::Refused,
        };
        let mut candidates = mem::take(&mut self.candidates);
        candidates.clear();
        candidates.extend(0..count);
        candidates.extend(self.frequent.iter().filter(|number| **number >= count));
        candidates.extend((count..2 * count + 8).filter(|number| !self.frequent.contains(number)));
        let (mut met, mut sharing) = (0, Sharing::Incomplete);
        for number in &candidates {
            match self.known.compare(pid, *number) {
                Comparison::Closed => continue,
                Comparison::Same => sharing = Sharing::Copy(*number),
                Comparison::Ended => sharing = Sharing::None,
                Comparison::Refused => sharing = Sharing::Refused,
                Comparison::Other => {
                    met += 1;
                    if *number >= count {
                        self.note_number(*number);
                    }
                    if met < count {
                        continue;
                    }
                    sharing = Sharing::None;
                }
            }
            break;
        }
        self.candidates = candidates;
        sharing
    }

    /// Puts a number first among the frequent ones.
    fn note_number(&mut self, number: i32) {
        if let Some(at) = self.frequent.iter().position(|known| *known == number) {
            self.frequent[..=at].rotate_right(1);
        } else {
            self.frequent.truncate(MAX_FREQUENT - 1);
            self.frequent.insert(0, number);
        }
    }
}

/// Returns the number of open descriptors of a process: 0 for a kernel thread, for a process that has ended, and before Linux
/// 6.2.
fn count_descriptors(proc: &Directory, pid: u32) -> io::Result<u64> {
    proc.examine(ProcPath::new(pid, "fd").as_c_str()).map(|data| data.size)
}

/// The path of a directory of a process, relative to `/proc`.
struct ProcPath {
    bytes: [u8; 24],
}

impl ProcPath {
    fn new(pid: u32, directory: &str) -> Self {
        let mut bytes = [0; 24];
        let _ = write!(&mut bytes[..23], "{pid}/{directory}");
        Self { bytes }
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// Compares two descriptors (`kcmp(2)`). Returns 0 if both share one open file description, or the number of the error.
#[cfg(linux)]
fn compare_descriptors(pid: u32, number: i32, other: u32, other_number: i32) -> Result<i64, i32> {
    /// The type of the comparison, from `linux/kcmp.h`.
    const KCMP_FILE: i32 = 0;
    // SAFETY: kcmp(2) takes numbers.
    #[expect(clippy::disallowed_methods, reason = "kcmp(2)")]
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, other, KCMP_FILE, number, other_number) };
    if order < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(order) }
}

#[cfg(not(linux))]
fn compare_descriptors(_: u32, _: i32, _: u32, _: i32) -> Result<i64, i32> {
    Err(libc::ENOSYS)
}

fn build_process(pid: u32, lock: KernelLock) -> LockingProcess {
    let uid = process::user_of(pid).unwrap_or(process::UNKNOWN_USER);
    LockingProcess { index: 0, pid, uid, lock, removed: false }
}

#[cfg(all(test, linux))]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command, Stdio};

    /// Starts a process that sleeps, with `file` as its standard input. `begin` is what its shell does first.
    fn start_sleeper(file: &File, begin: &str) -> Child {
        let script = format!("{begin}; echo; exec sleep 1000 >/dev/null");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).stdin(file.try_clone().expect("a scene of the test")).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a scene of the test");
        io::Read::read_exact(child.stdout.as_mut().expect("a scene of the test"), &mut [0])
            .expect("a scene of the test");
        child
    }

    #[test]
    fn all_copies_of_a_descriptor_are_found_at_any_number() {
        let path = std::env::temp_dir().join(format!("aba-lock-sharers-{}", std::process::id()));
        let open = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .expect("a scene of the test")
        };
        let (locked, other) = (open(), open());
        assert!(crate::os::try_lock(&locked, crate::os::Mode::Exclusive).expect("a scene of the test"));
        let data = locked.metadata().expect("a scene of the test");
        let file = WantedFile { dev: data.dev(), ino: data.ino(), path: path.clone(), lost: false };
        let many = "for ((n = 20; n < 640; n++)); do eval \"exec $n</dev/null\"; done";
        let mut sharing = [
            start_sleeper(&locked, ":"),
            start_sleeper(&locked, "exec 7<&0 </dev/null"),
            start_sleeper(&locked, "exec 200<&0 </dev/null"),
            start_sleeper(&locked, &format!("{many}; exec 650<&0 </dev/null")),
        ];
        let mut others = [start_sleeper(&other, ":"), start_sleeper(&other, many)];
        drop((locked, other));
        let scan = find_sharing_processes(sharing[0].id(), &file);
        let unlocked = find_sharing_processes(others[0].id(), &file);
        for child in sharing.iter_mut().chain(&mut others) {
            child.kill().expect("a scene of the test");
            child.wait().expect("a scene of the test");
        }
        std::fs::remove_file(&path).expect("a scene of the test");
        assert!(unlocked.is_none(), "a process without the lock was taken for a holder");
        // `None`: this system does not allow or does not support it.
        if let Some(scan) = scan {
            let mut expected = sharing.each_ref().map(Child::id);
            expected.sort_unstable();
            assert_eq!(scan.found.iter().map(|process| process.pid).collect::<Vec<_>>(), expected);
        }
    }
}
