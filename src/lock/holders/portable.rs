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
//! | has ended | | not known: its children, which are no longer below it, or a program that has written no record |
//!
//! A script that has released its lock and keeps the file open is taken for the holder, if the next holder writes no record. A waiter below
//! the holder, which would be a deadlock, is taken for a holder.

use super::belief::Sight;
use crate::lock::record::Content;
use crate::os;
use crate::os::Mode;
use crate::os::proc::lock_table::{self, KernelLock, ListedLock, WantedFile};
use crate::os::proc::openers::LockingProcess;
use crate::os::proc::process;

/// Returns the holders among the processes that have the file open, the lock as the table of Linux would list it, and how much can be seen.
pub(super) fn assign_lock(
    file: &WantedFile,
    openers: &[LockingProcess],
    content: &Content,
    sight: Sight,
) -> (Vec<LockingProcess>, Vec<ListedLock>, Sight) {
    let mode = match os::find_mode_at(&file.path, file.dev, file.ino) {
        Ok(Some(mode)) => mode,
        Ok(None) => return (Vec::new(), Vec::new(), sight.with_list(true)),
        Err(_) => return (Vec::new(), Vec::new(), sight.with_list(false)),
    };
    let (locker, holders) = find_holders(openers, content);
    let lock = KernelLock::of_file(locker, mode == Mode::Exclusive);
    let holders = holders.into_iter().map(|holder| LockingProcess { lock, ..holder }).collect();
    (holders, vec![ListedLock { file: lock_table::file_id(file), lock, waits: false }], sight.with_list(true))
}

/// Returns the locker in the record if the record counts, or 0, and the holders.
fn find_holders(openers: &[LockingProcess], content: &Content) -> (u32, Vec<LockingProcess>) {
    let Content::Record(record) = content else { return (0, Vec::new()) };
    if !process::is_alive(record.pid, record.tick) {
        return (0, Vec::new());
    }
    let is_below = |pid: u32| pid == record.pid || process::ancestors(pid).any(|above| above == record.pid);
    let holders: Vec<_> = openers.iter().filter(|one| !one.removed && is_below(one.pid)).cloned().collect();
    let is_counted = !holders.is_empty() || !process::may_be_looked_into(record.pid);
    (if is_counted { record.locker } else { 0 }, holders)
}
