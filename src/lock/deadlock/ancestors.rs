//! The ancestors of a waiter: the processes that started it, directly or through others.
//!
//! A circle comes back to a waiter only through a lock or a pipe that the waiter or one of its ancestors has open. The
//! functions here decide that with little work, so that most waits need no search at all.

use crate::lock::holders;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId, KernelLock};
use crate::os::proc::process;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Maximum length of a chain of processes that is examined.
pub(super) const MAX_DEPTH: usize = 64;

/// Returns a process and its ancestors.
pub(super) fn list_with_ancestors(pid: u32) -> impl Iterator<Item = u32> {
    iter::once(pid).chain(process::ancestors(pid)).take(MAX_DEPTH)
}

/// Returns false if neither process `us` nor one of its ancestors holds the lock of one of the `wanted` files. Then no
/// process waits for this one, and the more expensive part of a search is not needed.
pub(super) fn may_be_awaited(us: u32, wanted: &HashSet<FileId>) -> bool {
    // A `run-once` that reads the output of a run is not in the kernel's list of waiters.
    list_with_ancestors(us).any(|pid| holds_one_of(pid, wanted) || (pid != us && peer::is_run_once(pid)))
}

/// Returns true if every ancestor up to the leader of the session waits for this process, and for nothing else. None of
/// them takes a lock before this process ends. So a waiter that holds no lock does not have to search again.
///
/// The processes above the leader (cron, sshd, a service manager, a terminal) take no part in the locks of a session.
pub(super) fn all_ancestors_wait() -> bool {
    let mut next = process::read_stat(std::process::id());
    for _ in 0..MAX_DEPTH {
        match next {
            Some(seen) if seen.session == seen.pid => return true,
            Some(seen) if waits_only_for(seen.parent, seen.pid) => next = process::read_stat(seen.parent),
            _ => break,
        }
    }
    false
}

fn waits_only_for(pid: u32, child: u32) -> bool {
    process::sleeps_in(pid).is_some_and(|place| place.contains("do_wait"))
        && process::threads(pid) == Some(1)
        && process::children(pid) == [child]
}

/// Returns false if the search ([`dependencies`](super::dependencies)) would decide that a process waits for no child.
/// Programs that start many others, such as test harnesses, have pipes to all of them.
pub(super) fn may_wait_for_child(pid: u32) -> bool {
    let waits = |place: String| {
        ["do_wait", "sigsuspend", "sigtimedwait", "poll", "pipe"].iter().any(|call| place.contains(call))
    };
    peer::is_lock_program(pid) || process::threads(pid) == Some(1) && process::sleeps_in(pid).is_some_and(waits)
}

/// Returns true if a process holds a lock of flock(2), or may be the script to which one is bound.
pub(super) fn holds_any_lock(pid: u32) -> bool {
    let may_be = |data: &fs::Metadata| data.is_file() || data.is_dir();
    process::descriptors(pid).any(|(path, data)| {
        may_be(&data) && lock_of_descriptor(pid, &path).is_some() || peer::may_bind_lock(&path, &data)
    })
}

/// Returns true if this process or one of its ancestors holds the lock of the file at `path`.
pub(crate) fn holds_above(path: &Path) -> bool {
    let wanted = holders::identify_file(path);
    let id = lock_table::file_id(&wanted);
    let holds = |descriptor: &Path, pid: u32| lock_of_descriptor(pid, descriptor).is_some_and(|(file, _)| file == id);
    list_with_ancestors(std::process::id()).any(|pid| {
        process::descriptors(pid).any(|(descriptor, data)| data.ino() == wanted.ino && holds(&descriptor, pid))
    })
}

/// Returns true if this process or one of its ancestors holds a lock of fcntl(2) on the file at `path`.
pub(super) fn holds_fcntl_above(path: &Path) -> bool {
    let wanted = holders::identify_file(path);
    let holds = |pid: u32, descriptor: &Path| {
        descriptor.file_name().and_then(OsStr::to_str).is_some_and(|number| lock_table::has_fcntl_lock(pid, number))
    };
    let is_wanted = |data: &fs::Metadata| (data.dev(), data.ino()) == (wanted.dev, wanted.ino);
    list_with_ancestors(std::process::id())
        .any(|pid| process::descriptors(pid).any(|(descriptor, data)| is_wanted(&data) && holds(pid, &descriptor)))
}

fn holds_one_of(pid: u32, wanted: &HashSet<FileId>) -> bool {
    let may_be = |data: &fs::Metadata| wanted.iter().any(|file| file.ino == data.ino());
    let is_wanted = |path: &Path| lock_of_descriptor(pid, path).is_some_and(|(file, _)| wanted.contains(&file));
    process::descriptors(pid).any(|(path, data)| may_be(&data) && is_wanted(&path) || peer::may_bind_lock(&path, &data))
}

/// Returns the lock that a process holds through this descriptor.
fn lock_of_descriptor(pid: u32, descriptor: &Path) -> Option<(FileId, KernelLock)> {
    lock_table::lock_of(pid, descriptor.file_name()?.to_str()?)
}
