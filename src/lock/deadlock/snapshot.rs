//! A snapshot of the processes, locks and pipes of this machine, which the search for deadlocks walks through.
//!
//! A snapshot is made in one pass over `/proc`, because reading the descriptors of all processes is most of the cost of
//! a search. Processes go on while it is made. So a circle that it shows counts only if a second snapshot shows it,
//! too.

use super::ancestors::MAX_DEPTH;
use super::sleepers::signal_mask;
use crate::lock::holders::{self, ranges};
use crate::lock::peer;
use crate::os::Mode;
use crate::os::proc::lock_table::{self, FileId, KernelLock, ListedLock};
use crate::os::proc::openers;
use crate::os::proc::process::{self, ProcessStat};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A lock that a process holds.
#[derive(Debug)]
pub(super) struct HeldLock {
    pub(super) pid: u32,
    pub(super) lock: KernelLock,
    /// The link in `/proc/PID/fd`. Empty if it may not be read.
    pub(super) descriptor: PathBuf,
}

/// The waits for locks and the holders of these locks, the tree of processes, and the open pipes.
pub(super) struct Snapshot {
    /// The lock for which a process waits.
    pub(super) waits: HashMap<u32, FileId>,
    /// The processes that wait for an exclusive lock, according to the kernel, and those that wait until a lock is free.
    pub(super) exclusive_waiters: HashSet<u32>,
    pub(super) held: HashMap<FileId, Vec<HeldLock>>,
    pub(super) processes: HashMap<u32, ProcessStat>,
    pub(super) children: HashMap<u32, Vec<u32>>,
    /// The descriptors of each pipe, by its inode.
    pub(super) pipes: HashMap<u64, Vec<(u32, PathBuf)>>,
    /// The answers of [`Snapshot::hides_relatives`], by the root of the session.
    hiding: RefCell<HashMap<u32, bool>>,
}

/// A descriptor that is of interest for a [`Snapshot`].
enum KnownDescriptor {
    Lock(FileId, HeldLock),
    Pipe { inode: u64, pid: u32, path: PathBuf },
}

impl Snapshot {
    /// Takes a snapshot. `listed` is the kernel's list of locks; `us` is the waiter that searches, and `free_waits` are the
    /// processes that wait until a lock is free: they wait, too, although they are not in the list. The snapshot is incomplete
    /// if `stop` is set before its end.
    pub(super) fn new(
        listed: &[ListedLock],
        us: Option<(u32, FileId)>,
        free_waits: &[(u32, FileId)],
        stop: &AtomicBool,
    ) -> Self {
        let mut waits: HashMap<u32, FileId> =
            listed.iter().filter(|one| one.waits).map(|one| (one.lock.locker, one.file)).collect();
        waits.extend(us);
        waits.extend(free_waits.iter().copied());
        let processes: HashMap<u32, ProcessStat> = process::all_pids()
            .into_iter()
            .take_while(|_| !stop.load(Ordering::Relaxed))
            .filter_map(process::read_stat)
            .map(|seen| (seen.pid, seen))
            .collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for seen in processes.values() {
            children.entry(seen.parent).or_default().push(seen.pid);
        }
        let mut snapshot = Self {
            waits,
            exclusive_waiters: listed
                .iter()
                .filter(|one| one.waits && one.lock.exclusive)
                .map(|one| one.lock.locker)
                // With --shared, such a wait ends at once if the lock is held with slots.
                .chain(free_waits.iter().map(|(pid, _)| *pid))
                .collect(),
            held: HashMap::new(),
            processes,
            children,
            pipes: HashMap::new(),
            hiding: RefCell::default(),
        };
        snapshot.add_waits_for_runs(stop);
        snapshot.add_descriptors(listed, stop);
        snapshot
    }

    /// Adds the `run-once` processes that read the output of a run. Each waits for the end of the run, and so for the
    /// lock of the task.
    fn add_waits_for_runs(&mut self, stop: &AtomicBool) {
        for pid in self.processes.keys().take_while(|_| !stop.load(Ordering::Relaxed)) {
            if self.waits.contains_key(pid) || !peer::is_run_once(*pid) {
                continue;
            }
            let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            let descriptors = entries.filter_map(Result::ok).map(|entry| entry.path());
            let links = descriptors.filter_map(|descriptor| Some((fs::read_link(&descriptor).ok()?, descriptor)));
            let links: Vec<(PathBuf, PathBuf)> = links.collect();
            // A process that is itself part of a run has the output of that run open, too, but only for writing.
            let mut outputs = links.iter().filter(|(link, _)| link.ends_with("log.out"));
            let output = outputs.find(|(_, descriptor)| process::may_read(descriptor));
            // The supervisor of the run also has the output open, but its descriptors include the lock file.
            let task = output.and_then(|(link, _)| link.parent());
            if let Some(lock) = task.map(|task| task.join("lock"))
                && links.iter().all(|(link, _)| *link != lock)
            {
                self.waits.insert(*pid, lock_table::file_id(&holders::identify_file(&lock)));
            }
        }
    }

    /// Adds the holders of the locks for which a process waits, and the processes that have a pipe open.
    fn add_descriptors(&mut self, listed: &[ListedLock], stop: &AtomicBool) {
        let wanted: HashSet<FileId> = self.waits.values().copied().collect();
        let inodes: HashSet<u64> = wanted.iter().map(|file| file.ino).collect();
        let look = openers::scan_descriptors(0, stop, |descriptor| {
            let path = || descriptor.path();
            if descriptor.data.has_type(libc::S_IFIFO) {
                let (inode, pid) = (descriptor.data.ino, descriptor.pid);
                return Some(KnownDescriptor::Pipe { inode, pid, path: path() });
            }
            if !inodes.contains(&descriptor.data.ino) {
                return None;
            }
            let (file, lock) = descriptor.lock().filter(|(file, _)| wanted.contains(file))?;
            Some(KnownDescriptor::Lock(file, HeldLock { pid: descriptor.pid, lock, descriptor: path() }))
        });
        for known in look.found {
            match known {
                KnownDescriptor::Lock(file, mut held) => {
                    // A lock that is bound to a script is released when the script ends or asks for that.
                    let script = peer::find_bound_script(held.pid, &process::command_line(held.pid));
                    held.pid = script.unwrap_or(held.pid);
                    self.held.entry(file).or_default().push(held);
                }
                KnownDescriptor::Pipe { inode, pid, path } => self.pipes.entry(inode).or_default().push((pid, path)),
            }
        }
        // The descriptors of another user's process may not be read, but the kernel's list names the process that took
        // a lock.
        for one in listed.iter().filter(|one| !one.waits && wanted.contains(&one.file)) {
            let pid = one.lock.locker;
            if !self.held.contains_key(&one.file)
                && self.processes.contains_key(&pid)
                && !process::may_be_looked_into(pid)
            {
                let held = HeldLock { pid, lock: one.lock, descriptor: PathBuf::new() };
                self.held.insert(one.file, vec![held]);
            }
        }
    }

    /// Adds the holders of the fcntl(2) lock that conflicts with one in this mode on the file at `path`, which `file` stands for.
    pub(super) fn add_fcntl_holders(&mut self, file: FileId, path: &Path, mode: Mode) {
        let Some(found) = ranges::find_conflicting_range(path, mode, 0, 0) else { return };
        let wanted = holders::identify_file(path);
        let hold = |pid: u32| {
            let mut open = process::descriptors(pid);
            let open = open.find(|(_, data)| (data.dev(), data.ino()) == (wanted.dev, wanted.ino));
            let descriptor = open.map(|(descriptor, _)| descriptor).unwrap_or_default();
            HeldLock { pid, lock: lock_table::fcntl_lock(found.range.mode), descriptor }
        };
        self.held.insert(file, found.holders.iter().map(|holder| hold(holder.pid)).collect());
    }

    /// Returns true if a process that may not be examined belongs to the session of `pid`, or was started from it. Such
    /// a process may have inherited the descriptors of `pid`.
    pub(super) fn hides_relatives(&self, pid: u32) -> bool {
        let Some(root) = self.find_session_root(pid) else { return true };
        let hides = || {
            self.processes.values().any(|seen| {
                (seen.session == root || self.descends_from(seen.pid, root))
                    && (!process::may_be_looked_into(seen.pid) || process::is_guarded(seen.pid))
                    && !process::name(seen.pid).is_empty()
            })
        };
        *self.hiding.borrow_mut().entry(root).or_insert_with(hides)
    }

    /// Returns the leader of the session of `pid`.
    ///
    /// In session 0 the leader is not in this PID namespace. Process 1 and the threads of the kernel are often in that
    /// session, although they share no pipe with a script. So the root is then the first process below process 1.
    fn find_session_root(&self, pid: u32) -> Option<u32> {
        let seen = self.processes.get(&pid)?;
        if seen.session != 0 {
            return Some(seen.session);
        }
        let mut root = seen;
        while root.parent > 1 {
            let Some(parent) = self.processes.get(&root.parent) else { break };
            root = parent;
        }
        Some(root.pid)
    }

    /// Returns true if `pid` is `ancestor`, or was started by it directly or through others.
    pub(super) fn descends_from(&self, pid: u32, ancestor: u32) -> bool {
        let mut next = Some(pid);
        for _ in 0..MAX_DEPTH {
            match next {
                Some(pid) if pid == ancestor => return true,
                Some(pid) => next = self.processes.get(&pid).map(|seen| seen.parent),
                None => break,
            }
        }
        false
    }

    /// Returns false if a child of a shell is a background job. `None`: not known.
    pub(super) fn is_in_foreground(&self, shell: u32, child: u32) -> Option<bool> {
        let (parent, job) = (self.processes.get(&shell)?, self.processes.get(&child)?);
        if parent.group != job.group {
            // With job control, each job has its own process group, and the terminal belongs to the foreground job.
            return Some(job.foreground == i64::from(job.group));
        }
        // In a script, all jobs are in one group, and background jobs ignore Ctrl-C. If the script itself ignores
        // Ctrl-C, all its children do.
        if process::ignored_signals(shell)? & signal_mask(&[libc::SIGINT]) != 0 {
            None
        } else {
            let ignores = process::ignored_signals(child)?;
            let handles = process::caught_signals(child)? & signal_mask(&[libc::SIGINT]) != 0;
            // A subshell of bash in the background handles Ctrl-C itself while it waits for a command, but ignores
            // SIGQUIT.
            let signal =
                if handles && process::words(child) == process::words(shell) { libc::SIGQUIT } else { libc::SIGINT };
            Some(ignores & signal_mask(&[signal]) == 0)
        }
    }

    /// Returns the name by which users know a lock.
    pub(super) fn derive_label(&self, file: FileId) -> String {
        self.find_lock_file(file)
            .map_or_else(|| format!("a lock on inode {}", file.ino), |path| holders::derive_label(&path))
    }

    pub(super) fn find_lock_file(&self, file: FileId) -> Option<PathBuf> {
        fs::read_link(&self.held.get(&file)?.first()?.descriptor).ok()
    }
}
