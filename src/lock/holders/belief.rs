//! The decision how far a holder record can be believed.

use super::state::{Belief, BlindSpot};
use crate::lock::record::Record;
use crate::os;
use crate::os::proc::lock_table::{self, KernelLock};
use crate::os::proc::openers::LockingProcess;
use crate::os::proc::process;

/// How much can be seen from here.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    /// Whether there are processes that we may not look into.
    pub(super) hidden: bool,
    pub(super) blind_spot: Option<BlindSpot>,
    /// Whether there is no holder that we do not see, in whatever pid namespace of this machine.
    all: bool,
}

impl Sight {
    pub(super) fn new(closed: bool, listed: bool) -> Self {
        if !process::can_be_seen() {
            return Self { hidden: true, blind_spot: Some(BlindSpot::Proc), all: false };
        }
        let hidden = closed || process::are_hidden();
        let blind_spot = (hidden && !listed).then_some(BlindSpot::List);
        Self { hidden, blind_spot, all: !hidden && process::pid_namespace() == lock_table::FIRST_NAMESPACE }
    }
}

/// How far `record` is to be believed beside what the kernel says. `None`: it is of an earlier lock, or of one
/// that has ended.
pub(super) fn belief(
    record: &Record,
    live: &[&LockingProcess],
    lock: Option<KernelLock>,
    sight: Sight,
) -> Option<Belief> {
    // A holder that we see has a number here, which the record of another place cannot give.
    let unseen = live.is_empty();
    let (boot, same_host) = (process::boot_id(), record.host == os::host_name());
    // Which boot this is may be closed to us: then the name of the machine has to do.
    if if boot.is_empty() { !same_host } else { record.boot != boot } {
        // The same name and another boot: this machine was started again since, and no lock outlives that.
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
    let named = lockers.contains(&record.locker);
    // In a pid namespace of its own the kernel gives no number for a locker that has ended.
    let untold = lockers.contains(&0);
    let is_seen = live.iter().any(|opener| opener.pid == record.pid);
    match (named, untold, !process::has_ended(record.pid, record.tick)) {
        // Whether one that we may not look into has closed it is not known.
        (true, _, true) if unseen || is_seen || !process::may_be_looked_into(record.pid) => Some(Belief::Alive),
        (true, _, true) => Some(Belief::Closed),
        (true, _, false) => Some(Belief::Ended),
        (false, true, true) if is_seen => Some(Belief::Alive),
        (false, true, false) => Some(Belief::Perhaps),
        // The record of an earlier holder: this one left none, as flock(1) does.
        _ => None,
    }
}
