//! Decides whether a process may share a lock that a descriptor inherited by it holds already.
//!
//! [`acquire`](super::acquire) asks this for each such descriptor. A process may share the lock if the holder of the
//! lock is the process itself or one of its living ancestors. If the holder has ended, two of its orphans may have the
//! descriptor, and both would be granted the lock:
//!
//! 1. Holder H acquires the lock, starts A and B, and ends. A and B keep the descriptor, and so the lock, alive.
//! 2. A asks for the lock. It must be refused, because B may ask as well, at the same time.
//!
//! The holder is the process in the record, if the kernel names the locker of that record. In two cases the record
//! cannot be used: if this acquisition has no record of its own (`--file`, a shared lock, a full file system, a file
//! that we cannot write), and if the kernel does not name a locker that has ended, as in every pid namespace but the
//! first. Then the holder is the owner of the open file description (`F_SETOWN`). The kernel keeps the owner for all
//! copies of the descriptor, and clears it when that process ends, so it is never the pid of an unrelated process. A
//! release clears it, too.
//!
//! If H is killed after it acquired the lock and before it set the owner, there is no holder. The next process is then refused
//! as long as the descriptor is open elsewhere. A process in another pid namespace cannot know whether the holder lives, so it
//! believes the record.

#[cfg(not(linux))]
mod portable;

#[cfg(not(linux))]
pub(super) use portable::{find_held, find_lock_of_description};

use crate::lock::record::{self, Content};
use crate::os;
#[cfg(linux)]
use crate::os::proc::lock_table;
use crate::os::proc::lock_table::KernelLock;
use crate::os::proc::process;
use std::fs::{self, File};
#[cfg(linux)]
use std::io;
use std::iter;
#[cfg(linux)]
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns true if the kernel should be asked whether the descriptor of the script already holds its lock: if the process that
/// took it last still runs, or if the description has an owner. Otherwise there is no lock that could be lost.
pub(super) fn may_be_held(content: &Content, file: &File) -> bool {
    if cfg!(not(linux)) {
        return true;
    }
    let by_record = match content {
        Content::Record(record) => os::exists(record.pid),
        Content::Incomplete => true,
        Content::Empty | Content::Foreign => false,
    };
    by_record || os::owner(file).is_some()
}

/// Returns true if `process` is the one that acquired the lock last, according to the record.
pub(super) fn is_taker(content: &Content, process: u32) -> bool {
    matches!(content, Content::Record(record) if record.pid == process && process::is_alive(process, record.tick))
}

/// The process for which the lock of an open file description was acquired.
enum DescriptionHolder {
    /// The process with this pid, which ran at this tick.
    Process(u32, Option<u64>),
    /// A process in another pid namespace. It cannot be seen whether it lives.
    OtherNamespace,
    /// No living process, or another program acquired the lock.
    Unknown,
}

/// Returns the process for which the lock of `file` was acquired. `locker` is the process that the kernel names, or 0.
fn find_holder(file: &File, locker: u32) -> DescriptionHolder {
    match record::read(file) {
        Content::Record(record) if locker == 0 && record.ns != process::pid_namespace() => {
            DescriptionHolder::OtherNamespace
        }
        Content::Record(record) if locker == record.locker => DescriptionHolder::Process(record.pid, Some(record.tick)),
        // There is no record of this acquisition, or the kernel does not say whose it is.
        _ => os::owner(file).map_or(DescriptionHolder::Unknown, |pid| DescriptionHolder::Process(pid, None)),
    }
}

/// Returns true if `lock`, which this open file description holds, was acquired for `process` or for a living ancestor of it.
/// Otherwise its holder has ended or is a sibling, and `process` must not share the lock, although it inherited it.
pub(super) fn is_held_from_above(file: &File, KernelLock { locker, .. }: KernelLock, process: u32) -> bool {
    match find_holder(file, locker) {
        DescriptionHolder::OtherNamespace => true,
        DescriptionHolder::Process(pid, tick) => is_living_ancestor(pid, tick, process),
        DescriptionHolder::Unknown => ancestors(process).contains(&locker),
    }
}

/// Returns true if this program acquired `lock`, on a descriptor of `process` or of a living ancestor.
pub(super) fn is_held_for_ancestor(file: &File, KernelLock { locker, .. }: KernelLock, process: u32) -> bool {
    matches!(find_holder(file, locker), DescriptionHolder::Process(pid, tick) if is_living_ancestor(pid, tick, process))
}

/// Returns true if this program acquired `lock`, which this open file description holds, for `process` itself.
pub(super) fn is_held_for(file: &File, KernelLock { locker, .. }: KernelLock, process: u32) -> bool {
    matches!(find_holder(file, locker), DescriptionHolder::Process(pid, tick) if pid == process && may_be_alive(pid, tick))
}

/// Returns the lock of the file at `path` if a process above the script holds it, on a descriptor that this process inherited. A lock
/// that the script acquired itself, on another descriptor than `asked`, is not such a lock. The script is the process with the
/// descriptor `asked`: this one, if it was started with `exec`, or otherwise its parent.
pub(super) fn find_lock_of_ancestor(path: &Path, asked: RawFd) -> Option<KernelLock> {
    let parent = os::parent_id();
    let identity = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let is_of_parent = || process::file_of_descriptor(parent, asked) == identity(path);
    os::inherited_descriptors().into_iter().find_map(|fd| {
        let file = os::try_second_descriptor(fd).ok()?;
        let leads_here = os::try_leads_to(path, &file).is_ok_and(|leads| leads);
        let held = if leads_here { find_held(&file, false).ok()? } else { None };
        let is_own = |held: &KernelLock| match find_holder(&file, held.locker) {
            DescriptionHolder::Process(pid, _) => pid == std::process::id() || pid == parent && is_of_parent(),
            _ => false,
        };
        held.filter(|held| !is_own(held) && is_held_for_ancestor(&file, *held, std::process::id()))
    })
}

fn is_living_ancestor(pid: u32, tick: Option<u64>, process: u32) -> bool {
    ancestors(process).contains(&pid) && may_be_alive(pid, tick)
}

/// Returns true if the process that ran as `pid` at `tick` lives. If `/proc` does not show it, it is this process or its parent, which live.
fn may_be_alive(pid: u32, tick: Option<u64>) -> bool {
    tick.is_none_or(|tick| process::is_alive(pid, tick) || !process::has_our_numbers())
}

/// Returns `process` and those of its ancestors that can be seen.
fn ancestors(process: u32) -> Vec<u32> {
    if process::has_our_numbers() {
        return iter::once(process).chain(process::ancestors(process)).collect();
    }
    // `/proc` is of another pid namespace, so its pids are those of unrelated processes.
    let parent = (process == std::process::id()).then(os::parent_id).filter(|pid| *pid != 0);
    iter::once(process).chain(parent).collect()
}

/// Returns the lock that this very open file description already holds. Without `/proc`, that is not shown, and the result is `None`. With `fcntl`, only a lock of fcntl(2) on the whole file counts. Any other error is returned: a caller that
/// took the lock for one of another process would be refused by a lock of its own.
#[cfg(linux)]
pub(super) fn find_held(file: &File, fcntl: bool) -> io::Result<Option<KernelLock>> {
    let fd = file.as_raw_fd();
    let found =
        if fcntl { lock_table::try_fcntl_lock_of_descriptor(fd) } else { lock_table::try_lock_of_descriptor(fd) };
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found,
    }
}
