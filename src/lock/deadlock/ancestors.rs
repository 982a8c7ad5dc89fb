//! The processes above a waiter.

use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId, KernelLock};
use crate::os::proc::process;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// No chain of processes is longer: more than that, and it is not looked at.
pub(super) const MAX_DEPTH: usize = 64;

/// Whether we have one of these locks, or one of the processes above us has. If not, nobody waits for us, and what costs
/// more need not be looked at.
pub(super) fn may_come_back(us: u32, wanted: &HashSet<FileId>) -> bool {
    // Those who read what a run prints are not in the kernel's list.
    above(us).any(|pid| has_one_of(pid, wanted) || (pid != us && peer::is_run_once(pid)))
}

/// A process, and those above it.
pub(super) fn above(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| process::parent(*pid)).take_while(|pid| *pid > 0).take(MAX_DEPTH)
}

/// Whether all above us, up to who began the session, wait for us and for nothing else: who has nothing need not look any more
/// then, as none of them takes a lock before we have ours. Who starts sessions (cron, sshd, a service manager, a terminal) has
/// no part in them.
#[must_use]
pub(crate) fn all_above_wait_for_us() -> bool {
    let mut next = process::read_stat(std::process::id());
    for _ in 0..MAX_DEPTH {
        match next {
            Some(seen) if seen.session == seen.pid => return true,
            Some(seen) if waits_for_nothing_but(seen.parent, seen.pid) => next = process::read_stat(seen.parent),
            _ => break,
        }
    }
    false
}

fn waits_for_nothing_but(pid: u32, child: u32) -> bool {
    process::sleeps_in(pid).is_some_and(|place| place.contains("do_wait"))
        && process::threads(pid) == Some(1)
        && process::children(pid) == [child]
}

pub(super) fn has_a_lock(pid: u32) -> bool {
    let may_be = |data: &fs::Metadata| data.is_file() || data.is_dir();
    process::descriptors(pid).any(|(path, data)| may_be(&data) && lock_through(pid, &path).is_some())
}

fn has_one_of(pid: u32, wanted: &HashSet<FileId>) -> bool {
    let may_be = |data: &fs::Metadata| wanted.iter().any(|file| file.ino == data.ino());
    let is_wanted = |path: &Path| lock_through(pid, path).is_some_and(|(file, _)| wanted.contains(&file));
    process::descriptors(pid).any(|(path, data)| may_be(&data) && is_wanted(&path))
}

/// The lock that a process has through this descriptor.
fn lock_through(pid: u32, descriptor: &Path) -> Option<(FileId, KernelLock)> {
    lock_table::lock_of(pid, descriptor.file_name()?.to_str()?)
}
