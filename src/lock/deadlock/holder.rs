//! Decides with a few reads that the holder of a lock goes on by itself, so that no circle leads through the lock.
//!
//! Most waits are for such a holder: its process runs, or sleeps in a call that has nothing to do with other processes of
//! a circle. The complete search reads the descriptors of many processes, and its cost grows with their number. So the
//! detector asks here first, and before each search.
//!
//! The answer "goes on" must be certain. Anything that is not known counts as "may be stuck", and the search decides.

use super::pipes::read_pipe_call;
use crate::lock::peer;
use crate::lock::record::{self, Content, Record};
use crate::os::proc::lock_table;
use crate::os::proc::process;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The number of processes that are examined below a holder. A larger family counts as "may be stuck".
const MAX_FAMILY: usize = 8;

/// Returns true if one process alone decides when the lock of the file at `path` is released, and neither this process nor
/// the children for which it waits are stuck.
pub(super) fn holder_goes_on(path: &Path) -> bool {
    let Content::Record(record) = record::read_path(path) else { return false };
    record.ns == process::pid_namespace()
        && process::is_alive(record.pid, record.tick)
        && holds_alone(&record, path)
        && family_goes_on(record.pid, &mut 0)
}

/// Returns true if the process in the record holds the lock of the file, took it itself, and holds it exclusively. Then no
/// process that has inherited the lock counts as a holder.
fn holds_alone(record: &Record, path: &Path) -> bool {
    let Ok(file) = fs::symlink_metadata(path) else { return false };
    let is_same = |data: &fs::Metadata| (data.dev(), data.ino()) == (file.dev(), file.ino());
    process::descriptors(record.pid).filter(|(_, data)| is_same(data)).any(|(descriptor, _)| {
        let number = descriptor.file_name().and_then(|number| number.to_str());
        let lock = number.and_then(|number| lock_table::lock_of(record.pid, number));
        lock.is_some_and(|(_, lock)| lock.exclusive && lock.locker == record.locker)
    })
}

/// Returns true if a process and all processes for which it may wait go on by themselves. `examined` counts them.
fn family_goes_on(pid: u32, examined: &mut usize) -> bool {
    *examined += 1;
    // This process waits for the lock, although it runs now.
    if *examined > MAX_FAMILY || pid == std::process::id() {
        return false;
    }
    // Where a process sleeps can be unknown, also because the process runs.
    let Some(place) = process::sleeps_in(pid) else { return process::is_running(pid) };
    let sleeps_in = |call: &str| place.contains(call);
    // fcntl_setlk: it waits for a byte of a lock file, or for a lock of another program.
    if sleeps_in("lock") || sleeps_in("setlk") || read_pipe_call(pid).is_some() {
        return false;
    }
    let waits = ["do_wait", "sigsuspend", "sigtimedwait"].iter().any(|call| sleeps_in(call));
    if !(waits || peer::is_helper(pid) || sleeps_in("poll") && peer::is_wrapper(pid)) {
        return true;
    }
    // A process that waits without children is between two states, or the kernel does not list children.
    let children = process::children(pid);
    !children.is_empty() && children.into_iter().all(|child| family_goes_on(child, examined))
}
