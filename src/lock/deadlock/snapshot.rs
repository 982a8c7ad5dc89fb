//! The picture.

use super::ancestors::MAX_DEPTH;
use super::sleepers::mask;
use crate::lock::holders;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId, KernelLock, ListedLock};
use crate::os::proc::openers;
use crate::os::proc::process::{self, ProcessStat};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// A lock that a process has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pid: u32,
    pub(super) lock: KernelLock,
    /// The descriptor, as a link to the file.
    pub(super) descriptor: PathBuf,
}

/// Who waits for what, and who has it.
pub(super) struct World {
    pub(super) waits: HashMap<u32, FileId>,
    pub(super) held: HashMap<FileId, Vec<Held>>,
    pub(super) processes: HashMap<u32, ProcessStat>,
    pub(super) children: HashMap<u32, Vec<u32>>,
    /// The descriptors of each pipe, by its inode.
    pub(super) pipes: HashMap<u64, Vec<(u32, PathBuf)>>,
    /// The answers of [`World::hides_relatives`], by session.
    hiding: RefCell<HashMap<u32, bool>>,
}

/// A descriptor that [`World`] knows.
enum Known {
    Lock(FileId, Held),
    Pipe(u64, u32, PathBuf),
}

impl World {
    /// As it is, but that one more waits for a lock.
    pub(super) fn new(listed: &[ListedLock], more: Option<(u32, FileId)>) -> Self {
        let mut waits: HashMap<u32, FileId> =
            listed.iter().filter(|one| one.waits).map(|one| (one.lock.locker, one.file)).collect();
        waits.extend(more);
        let processes: HashMap<u32, ProcessStat> =
            process::read_all_stats().into_iter().map(|seen| (seen.pid, seen)).collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for seen in processes.values() {
            children.entry(seen.parent).or_default().push(seen.pid);
        }
        let mut world = Self {
            waits,
            held: HashMap::new(),
            processes,
            children,
            pipes: HashMap::new(),
            hiding: RefCell::default(),
        };
        world.add_waits_for_runs();
        world.add_descriptors(listed);
        world
    }

    /// Who reads what a run prints waits for its end, and so for the lock of the task.
    fn add_waits_for_runs(&mut self) {
        for pid in self.processes.keys() {
            if self.waits.contains_key(pid) || !peer::is_run_once(*pid) {
                continue;
            }
            let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            let link = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
            let links: Vec<PathBuf> = entries.filter_map(Result::ok).filter_map(link).collect();
            // Its supervisor has these open, too, but it has the lock.
            let task = links.iter().find(|link| link.ends_with("log.out")).and_then(|link| link.parent());
            if let Some(lock) = task.map(|task| task.join("lock"))
                && !links.contains(&lock)
            {
                self.waits.insert(*pid, lock_table::file_id(&holders::identify_file(&lock)));
            }
        }
    }

    /// Looks at the descriptors of all processes once, as this is most of the cost of a look.
    fn add_descriptors(&mut self, listed: &[ListedLock]) {
        let wanted: HashSet<FileId> = self.waits.values().copied().collect();
        let inodes: HashSet<u64> = wanted.iter().map(|file| file.ino).collect();
        let look = openers::scan_descriptors(0, &AtomicBool::new(false), |descriptor| {
            let path = || descriptor.path.to_owned();
            if descriptor.data.file_type().is_fifo() {
                return Some(Known::Pipe(descriptor.data.ino(), descriptor.pid, path()));
            }
            if !inodes.contains(&descriptor.data.ino()) {
                return None;
            }
            let (file, lock) = descriptor.lock().filter(|(file, _)| wanted.contains(file))?;
            Some(Known::Lock(file, Held { pid: descriptor.pid, lock, descriptor: path() }))
        });
        for known in look.found {
            match known {
                Known::Lock(file, held) => self.held.entry(file).or_default().push(held),
                Known::Pipe(inode, pid, path) => self.pipes.entry(inode).or_default().push((pid, path)),
            }
        }
        // Of another user's process everyone may know that it has a lock, if it took that itself.
        for one in listed.iter().filter(|one| !one.waits && wanted.contains(&one.file)) {
            let pid = one.lock.locker;
            if !self.held.contains_key(&one.file)
                && self.processes.contains_key(&pid)
                && !process::may_be_looked_into(pid)
            {
                let held = Held { pid, lock: one.lock, descriptor: PathBuf::new() };
                self.held.insert(one.file, vec![held]);
            }
        }
    }

    /// Returns whether a process that we may not look into is of the same session as `pid`, or was started by one of its session: it may
    /// have inherited what `pid` has open.
    pub(super) fn hides_relatives(&self, pid: u32) -> bool {
        let Some(session) = self.processes.get(&pid).map(|seen| seen.session) else { return true };
        let hides = || {
            self.processes.values().any(|seen| {
                (seen.session == session || self.is_below(seen.pid, session))
                    && (!process::may_be_looked_into(seen.pid) || process::is_guarded(seen.pid))
                    && !process::name(seen.pid).is_empty()
            })
        };
        *self.hiding.borrow_mut().entry(session).or_insert_with(hides)
    }

    /// Whether a process is another, or was started by it, perhaps over others.
    pub(super) fn is_below(&self, pid: u32, above: u32) -> bool {
        let mut next = Some(pid);
        for _ in 0..MAX_DEPTH {
            match next {
                Some(pid) if pid == above => return true,
                Some(pid) => next = self.processes.get(&pid).map(|seen| seen.parent),
                None => break,
            }
        }
        false
    }

    /// Whether a child of a shell is no background job. `None`: not known.
    pub(super) fn is_in_front(&self, shell: u32, child: u32) -> Option<bool> {
        let (above, below) = (self.processes.get(&shell)?, self.processes.get(&child)?);
        if above.group != below.group {
            // Each job has a group of its own; the terminal is with the one that is waited for.
            return Some(below.foreground == i64::from(below.group));
        }
        // In a script they have all one group, and those in the background ignore Ctrl-C; where not all do.
        if process::ignored_signals(shell)? & mask(&[libc::SIGINT]) != 0 {
            None
        } else {
            let ignores = process::ignored_signals(child)?;
            let handles = process::caught_signals(child)? & mask(&[libc::SIGINT]) != 0;
            // A subshell of bash in the background handles Ctrl-C itself while it waits for a command, but ignores SIGQUIT.
            let sign =
                if handles && process::words(child) == process::words(shell) { libc::SIGQUIT } else { libc::SIGINT };
            Some(ignores & mask(&[sign]) == 0)
        }
    }

    /// What people call a lock.
    pub(super) fn label(&self, file: FileId) -> String {
        self.path(file).map_or_else(|| format!("a lock on inode {}", file.ino), |path| holders::derive_label(&path))
    }

    pub(super) fn path(&self, file: FileId) -> Option<PathBuf> {
        fs::read_link(&self.held.get(&file)?.first()?.descriptor).ok()
    }
}
