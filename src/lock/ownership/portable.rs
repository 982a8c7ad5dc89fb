//! Decides whether an open file description holds a lock, on systems whose kernel does not show that.
//!
//! Two things are known: the mode in which *any* description holds the lock of the file, and the record in the file, which names the process
//! for which the lock was acquired last ([`os::find_mode`], [`os::holds`]; the file `os/holding` says how the kernel is asked). The record
//! proves nothing alone, and the kernel names no holder. H is the script that has acquired the lock on description D, C a process below H
//! that has inherited D, and O a script with a description of its own.
//!
//! | steps | kernel: any lock | kernel: D | record | answer of C for D |
//! |---|---|---|---|---|
//! | H acquires the lock, and starts C | exclusive | yes | H | held by H, an ancestor: C shares the lock |
//! | H is killed between the grant and the record | exclusive | yes | an earlier one | held, but no ancestor is named: C is refused |
//! | H ends, and C lives on with D | exclusive | yes | H | held, and H is no ancestor any more: C is refused, as other orphans could ask, too |
//! | H releases the lock | none | no | H | not held: C may acquire it for itself, and is refused D, which it shares |
//! | H releases the lock, O acquires it | exclusive | no | O | not held: C waits for O |
//! | as before, but O is flock(1) and writes no record | exclusive | no | H | not held: C waits for O |
//! | as before, and O ends between the two questions | exclusive | yes | H | held by H: D holds the lock now, because C asked for it |
//! | H and O share the lock | shared | not known | the later of the two | the record decides: after O, C cannot know that D holds the lock, and acquires it, which a shared lock allows |
//!
//! The kernel is asked about D only after it has said that the file is locked, so a free lock costs one question.

use crate::lock::record::{self, Content};
use crate::os::proc::lock_table::KernelLock;
use crate::os::proc::process;
use crate::os::{self, Mode};
use std::fs::File;
use std::io;

/// Returns the lock that this open file description holds. A lock of fcntl(2) is never found.
pub(in crate::lock) fn find_held(file: &File, fcntl: bool) -> io::Result<Option<KernelLock>> {
    Ok(if fcntl { None } else { find_held_with(file, is_taken_from_above)? })
}

/// Returns the lock that this open file description holds, for a report. If the lock is shared, and it is not known whether this description
/// is one of those that hold it, the answer is that it does: a script opens a lock file only for its lock.
pub(in crate::lock) fn find_lock_of_description(file: &File) -> io::Result<Option<KernelLock>> {
    find_held_with(file, |_, _| true)
}

/// Asks `decide` if the kernel does not say whether this description holds the lock.
fn find_held_with(file: &File, decide: impl Fn(&Content, Mode) -> bool) -> io::Result<Option<KernelLock>> {
    let Some(mode) = os::find_mode(file)? else { return Ok(None) };
    let content = record::read(file);
    if !os::holds(file, mode).unwrap_or_else(|| decide(&content, mode)) {
        return Ok(None);
    }
    // The kernel names no locker. That of the record is taken, so that the record counts.
    let locker = if let Content::Record(record) = &content { record.locker } else { 0 };
    Ok(Some(KernelLock::of_file(locker, mode == Mode::Exclusive)))
}

/// Returns true if the record says that this process or an ancestor has acquired the lock in this mode.
fn is_taken_from_above(content: &Content, mode: Mode) -> bool {
    let Content::Record(record) = content else { return false };
    let us = std::process::id();
    record.mode == mode && (record.pid == us || process::ancestors(us).any(|pid| pid == record.pid))
}
