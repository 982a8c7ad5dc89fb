//! Assigns a lock to a process, on systems whose kernel does not show which descriptor holds it.
//!
//! Four things are known: whether the file is locked and in which mode, the processes that have it open, the record, and the parent of each
//! process. A waiter has the file open, too. So the lock is assigned as follows:
//!
//! | the process in the record | has the file open | holders |
//! |---|---|---|
//! | runs | yes | this process, and those below it that have the file open, because they have inherited the descriptor |
//! | runs | no, but processes below it have | these processes |
//! | runs | cannot be seen | this process, if the record is believed |
//! | runs | no | not known: another program has acquired the lock, and has written no record |
//! | has ended | | the processes that have it open and do not wait: its children, or a program that has written no record |
//!
//! A process waits if it is the helper or flock(1), or if one of its children is: a script waits for its helper. These names prove nothing, so
//! `unlock --kill` can end a process that waits in another way, and has the file open, if the holder in the record has ended.
//!
//! A script that has released its lock and keeps the file open is taken for the holder, if the next holder writes no record. A waiter below
//! the holder, which would be a deadlock, is taken for a holder.

use super::belief::Sight;
use crate::lock::peer;
use crate::lock::record::{self, Content};
use crate::os;
use crate::os::Mode;
use crate::os::proc::lock_table::{self, KernelLock, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess, Scan};
use crate::os::proc::process;
use std::io;
use std::sync::atomic::AtomicBool;

/// Returns the holders among the processes that have the file open, the lock as the table of Linux would list it, and how much can be seen.
pub(super) fn assign_lock(
    file: &WantedFile,
    openers: &[LockingProcess],
    content: &Content,
    sight: Sight,
) -> (Vec<LockingProcess>, Vec<ListedLock>, Sight) {
    match find_assigned(file, openers, content) {
        Ok(Some((lock, holders))) => {
            let listed = ListedLock { file: lock_table::file_id(file), lock, waits: false };
            (holders, vec![listed], sight.with_list(true))
        }
        Ok(None) => (Vec::new(), Vec::new(), sight.with_list(true)),
        Err(_) => (Vec::new(), Vec::new(), sight.with_list(false)),
    }
}

/// Returns the holders of the locks on these files.
pub(crate) fn find_lock_holders(files: &[WantedFile]) -> Scan<LockingProcess> {
    let scan = openers::find_locking_processes(&mut files.to_vec(), None, &AtomicBool::new(false));
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let openers: Vec<_> = scan.found.iter().filter(|one| one.index == index).cloned().collect();
        let assigned = find_assigned(file, &openers, &record::read_path(&file.path));
        found.extend(assigned.ok().flatten().into_iter().flat_map(|(_, holders)| holders));
    }
    Scan { found, hidden: scan.hidden }
}

/// Returns the lock of the file, and its holders. `None`: it is free.
fn find_assigned(
    file: &WantedFile,
    openers: &[LockingProcess],
    content: &Content,
) -> io::Result<Option<(KernelLock, Vec<LockingProcess>)>> {
    let Some(mode) = os::find_mode_at(&file.path, file.dev, file.ino)? else { return Ok(None) };
    let openers: Vec<_> = openers.iter().filter(|one| !one.removed).cloned().collect();
    let (locker, holders) = find_holders(openers, content);
    let lock = KernelLock::of_file(locker, mode == Mode::Exclusive);
    Ok(Some((lock, holders.into_iter().map(|holder| LockingProcess { lock, ..holder }).collect())))
}

/// Returns the locker in the record if the record counts, or 0, and the holders.
fn find_holders(mut openers: Vec<LockingProcess>, content: &Content) -> (u32, Vec<LockingProcess>) {
    let record = match content {
        Content::Record(record) if process::is_alive(record.pid, record.tick) => record,
        _ => {
            openers.retain(|one| !waits(one.pid));
            return (0, openers);
        }
    };
    openers.retain(|one| one.pid == record.pid || process::ancestors(one.pid).any(|above| above == record.pid));
    let is_counted = !openers.is_empty() || !process::may_be_looked_into(record.pid);
    (if is_counted { record.locker } else { 0 }, openers)
}

/// Returns true if a process seems to wait for a lock.
fn waits(pid: u32) -> bool {
    peer::is_lock_program(pid) || process::children(pid).into_iter().any(peer::is_lock_program)
}
