//! Decides how far a holder record can be believed.
//!
//! A record may describe an earlier holder, a process in another pid namespace, or a process on another machine. `observe`
//! compares it here with the lock as the kernel lists it, and with the holders that were seen. How much that proves depends on
//! the part of the system that this process can see ([`Sight`]).

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
    /// True if every holder on this machine can be seen, in any pid namespace.
    all: bool,
}

impl Sight {
    /// Returns what can be seen if the kernel's list is known to show all locks of this machine.
    pub(super) fn with_complete_list(hidden: bool) -> Self {
        Self { hidden, blind_spot: None, all: true }
    }

    /// Returns what can be seen if the kernel has said whether this lock is held, and if it has not.
    #[cfg(not(linux))]
    pub(super) fn with_list(self, has_list: bool) -> Self {
        let blind_spot = self.blind_spot.filter(|spot| *spot != BlindSpot::List);
        Self { blind_spot: blind_spot.or_else(|| (!has_list).then_some(BlindSpot::List)), ..self }
    }

    /// Returns what can be seen. `met_hidden` is true if a process was found whose files we may not see, and `has_list` if the
    /// kernel's list of locks could be read.
    pub(super) fn new(met_hidden: bool, has_list: bool) -> Self {
        if !process::can_be_seen() {
            return Self { hidden: true, blind_spot: Some(BlindSpot::Proc), all: false };
        }
        let hidden = met_hidden || process::are_hidden();
        let blind_spot = (hidden && !has_list).then_some(BlindSpot::List);
        Self { hidden, blind_spot, all: !hidden && process::pid_namespace() == lock_table::FIRST_NAMESPACE }
    }
}

/// Returns how far `record` can be believed, or `None` if its holder has released the lock.
///
/// `live` are the processes that were seen to hold the lock, and `lock` is the lock as the kernel describes it.
pub(super) fn judge_record(
    record: &Record,
    live: &[&LockingProcess],
    lock: Option<KernelLock>,
    sight: Sight,
) -> Option<Belief> {
    // If a holder was seen, a record from another machine or pid namespace is of no use: its pid has no meaning here.
    let unseen = live.is_empty();
    let (boot, same_host) = (process::boot_id(), record.host == os::host_name());
    // If the boot id cannot be read, only the host name can be compared.
    if if boot.is_empty() { !same_host } else { record.boot != boot } {
        // If only the boot id differs, the machine was restarted after the record was written. No lock survives a restart.
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
        (true, _, true) if !is_seen && !is_of_lockers_user(record) => None,
        (true, _, true) if unseen || is_seen || !process::may_be_looked_into(record.pid) => Some(Belief::Alive),
        (true, _, true) => Some(Belief::Closed),
        (true, _, false) => Some(Belief::Ended),
        (false, true, true) if is_seen => Some(Belief::Alive),
        (false, true, false) => Some(Belief::Perhaps),
        // The record describes an earlier holder. The present one wrote no record; flock(1), for example, writes none.
        _ => None,
    }
}

/// Returns false if the process in the record and the locker run, but belong to two users: another user has written the record.
fn is_of_lockers_user(record: &Record) -> bool {
    let users = (process::user_of(record.locker), process::user_of(record.pid));
    !matches!(users, (Some(locker), Some(holder)) if locker != holder)
}
