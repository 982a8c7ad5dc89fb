//! Decides how far a holder record can be believed, given what the kernel says and how much can be seen from here.

use super::state::{Belief, BlindSpot};
use crate::lock::record::Record;
use crate::os;
use crate::os::proc::lock_table::{self, KernelLock};
use crate::os::proc::openers::LockingProcess;
use crate::os::proc::process;

/// How much of the system can be seen from this process.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    /// True if there are processes whose files we may not see.
    pub(super) hidden: bool,
    pub(super) blind_spot: Option<BlindSpot>,
    /// True if every holder on this machine is seen, in whatever pid namespace it is.
    all: bool,
}

impl Sight {
    /// Returns what can be seen. `closed`: a process was found whose files we may not see. `listed`: the kernel's list of locks
    /// could be read.
    pub(super) fn new(closed: bool, listed: bool) -> Self {
        if !process::can_be_seen() {
            return Self { hidden: true, blind_spot: Some(BlindSpot::Proc), all: false };
        }
        let hidden = closed || process::are_hidden();
        let blind_spot = (hidden && !listed).then_some(BlindSpot::List);
        Self { hidden, blind_spot, all: !hidden && process::pid_namespace() == lock_table::FIRST_NAMESPACE }
    }
}

/// Returns how far `record` can be believed. `None`: it describes an earlier lock, or a holder that has released the lock.
///
/// `live` are the processes that were seen to hold the lock, and `lock` is the lock as the kernel describes it.
pub(super) fn judge_record(
    record: &Record,
    live: &[&LockingProcess],
    lock: Option<KernelLock>,
    sight: Sight,
) -> Option<Belief> {
    // A holder that we see has a pid here, which a record from another machine or namespace cannot name.
    let unseen = live.is_empty();
    let (boot, same_host) = (process::boot_id(), record.host == os::host_name());
    // If the boot id cannot be read, only the host name can be compared.
    if if boot.is_empty() { !same_host } else { record.boot != boot } {
        // With the same host name and another boot id, this machine was restarted after the record was written, and no lock
        // survives that.
        return (unseen && !same_host).then_some(Belief::OtherHost);
    }
    if sight.blind_spot == Some(BlindSpot::Proc) {
        return Some(Belief::Unchecked);
    }
    if record.ns != process::pid_namespace() {
        return (unseen && !sight.all).then_some(Belief::OtherNamespace);
    }
    let lockers: Vec<u32> = match lock {
        None if sight.blind_spot.is_some() => return Some(Belief::Unchecked),
        None => return None,
        Some(lock) if unseen => vec![lock.locker],
        Some(_) => live.iter().map(|opener| opener.lock.locker).collect(),
    };
    let is_named = lockers.contains(&record.locker);
    // In a pid namespace other than the first one, the kernel shows 0 for a locker that has ended.
    let is_unnamed = lockers.contains(&0);
    let is_seen = live.iter().any(|opener| opener.pid == record.pid);
    match (is_named, is_unnamed, !process::has_ended(record.pid, record.tick)) {
        // If we may not see the files of the process, it is not known whether it has closed the lock file.
        (true, _, true) if unseen || is_seen || !process::may_be_looked_into(record.pid) => Some(Belief::Alive),
        (true, _, true) => Some(Belief::Closed),
        (true, _, false) => Some(Belief::Ended),
        (false, true, true) if is_seen => Some(Belief::Alive),
        (false, true, false) => Some(Belief::Perhaps),
        // The record describes an earlier holder. This one wrote none, as flock(1) does not.
        _ => None,
    }
}
