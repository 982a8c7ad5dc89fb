//! The process for which an inherited descriptor holds its lock.

use crate::lock::record::{self, Content};
use crate::os::proc::{lock_table, process};
use crate::os::{self, Mode};
use std::fs::File;
use std::iter;
use std::os::fd::AsRawFd;

/// Returns true if it is worth asking the kernel whether the script's descriptor already holds its lock: if the process that
/// took it last still runs, or if the description has an owner. Otherwise there is no lock that could be lost.
pub(super) fn may_be_held(content: &Content, file: &File) -> bool {
    let by_record = match content {
        Content::Record(record) => os::exists(record.pid),
        Content::Incomplete => true,
        Content::Empty | Content::Foreign => false,
    };
    by_record || os::owner(file).is_some()
}

/// Whether `process` is the one that took the lock last.
pub(super) fn is_taker(content: &Content, process: u32) -> bool {
    matches!(content, Content::Record(record) if record.pid == process && process::is_alive(process, record.tick))
}

/// The process for which the lock of an open file description was acquired.
enum DescriptionHolder {
    /// This process, which ran at that tick.
    Process(u32, Option<u64>),
    /// It is above the top of this pid namespace and cannot be seen, whether it lives or not.
    OtherNamespace,
    /// No living process, or another program acquired the lock.
    Unknown,
}

/// Returns the holder, if the kernel says that `locker` acquired the lock.
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

/// Returns true if the lock of this open file description was acquired for `process` or for a living ancestor of it. Otherwise
/// its holder has ended or is a sibling, and the lock is not ours to share, although we inherited it.
pub(super) fn held_from_above(file: &File, process: u32) -> bool {
    let locker = lock_table::lock_of_descriptor(file.as_raw_fd()).map_or(0, |lock| lock.locker);
    match find_holder(file, locker) {
        DescriptionHolder::OtherNamespace => true,
        DescriptionHolder::Process(pid, tick) => is_ancestor(pid, tick, process),
        DescriptionHolder::Unknown => ancestors(process).contains(&locker),
    }
}

/// Returns true if this program acquired it, on a descriptor of `process` or of a living ancestor.
pub(super) fn held_for_ancestor(file: &File, process: u32) -> bool {
    let locker = lock_table::lock_of_descriptor(file.as_raw_fd()).map_or(0, |lock| lock.locker);
    matches!(find_holder(file, locker), DescriptionHolder::Process(pid, tick) if is_ancestor(pid, tick, process))
}

fn is_ancestor(pid: u32, tick: Option<u64>, process: u32) -> bool {
    // If `/proc` does not show them, the ancestors are this process and its parent, which live.
    ancestors(process).contains(&pid)
        && tick.is_none_or(|tick| process::is_alive(pid, tick) || !process::has_our_numbers())
}

/// Returns `process` and those processes above it that can be known.
fn ancestors(process: u32) -> Vec<u32> {
    if process::has_our_numbers() {
        return iter::successors(Some(process), |pid| process::parent(*pid)).take_while(|pid| *pid != 0).collect();
    }
    // `/proc` is of another pid namespace: its numbers would be those of strangers.
    let parent = (process == std::process::id()).then(os::parent_id).filter(|pid| *pid != 0);
    iter::once(process).chain(parent).collect()
}

/// The mode in which this very open file description holds its lock already.
#[cfg(target_os = "linux")]
pub(super) fn held_mode(file: &File) -> Option<Mode> {
    let lock = lock_table::lock_of_descriptor(file.as_raw_fd())?;
    Some(if lock.exclusive { Mode::Exclusive } else { Mode::Shared })
}

/// Elsewhere the kernel does not say; the script that handed the descriptor down does.
#[cfg(not(target_os = "linux"))]
pub(super) fn held_mode(_: &File) -> Option<Mode> {
    None
}
