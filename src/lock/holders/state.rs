//! The observed state of a lock, as plain data.

use super::holder::Holder;
use super::lease::FileLease;
use super::waiter::Waiter;
use crate::lock::error::{LockError, PlantedNames};
use crate::lock::promise::PromisedRun;
use crate::lock::record::Record;
use crate::os::proc::lock_table::KernelLock;
use crate::os::proc::process;
use crate::os::{Mode, RangeLock, Slot};

/// The state of a lock and its file.
#[derive(Debug, Default)]
pub struct LockState {
    /// The holders. `None`: no process is seen to hold the lock.
    pub holding: Option<Holding>,
    /// The record of a holder that may still hold the lock, although it cannot be seen from here: it was in another pid
    /// namespace, or on another machine.
    pub unseen: Option<(Box<Record>, Belief)>,
    /// The processes with a lock on a file that was removed from the path. Such a lock keeps no other process from the lock at
    /// the path.
    pub removed: Vec<Holder>,
    /// The waiters, in the order in which the kernel will wake them. See [`LockState::waiters`].
    pub queue: Vec<KernelLock>,
    /// The record in the lock file, whether it counts or not.
    pub record: Option<Box<Record>>,
    /// True if there are processes whose files we may not see.
    pub hidden: bool,
    /// The part of the system that could not be examined, so that there may be a holder that was not seen.
    pub blind_spot: Option<BlindSpot>,
    /// The type of the file at the path, if it is not a regular file.
    pub wrong_type: Option<&'static str>,
    /// An fcntl(2) lock on the file, which does not conflict with flock(2). Only looked for if the user named the file.
    pub range: Option<RangeHolding>,
    /// A lease because of which the lock file cannot be opened, which counts as a lock. Only looked for by `status`, `list` and `unlock`, and
    /// for messages about a wait.
    pub lease: Option<Box<FileLease>>,
    /// The names of the lock file because of which it is refused. Only looked for by `status` and `list`.
    pub planted: Option<Box<PlantedNames>>,
    /// The error because of which this user cannot open the lock file: a missing permission. Only looked for by `status` and `list`.
    pub denied: Option<Box<LockError>>,
    /// The run on which ended calls with `--coalesce` rely. Only looked for by `status` and `list`.
    pub promised: Option<PromisedRun>,
}

/// The answer to the question whether a lock is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Held,
    Free,
    /// Not enough can be seen for either answer.
    Unknown,
}

/// A part of the system that cannot be examined for holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlindSpot {
    /// There is no `/proc` that shows this process.
    Proc,
    /// `/proc/locks` cannot be read, and there are processes whose files we may not see.
    List,
    /// The metadata of the lock file cannot be read.
    File,
}

impl LockState {
    /// Returns the facts about the waiters, in the order in which the kernel will wake them. This reads a dozen files of
    /// `/proc` for each.
    #[must_use]
    pub fn waiters(&self) -> Vec<Waiter> {
        self.queue.iter().copied().map(Waiter::find).collect()
    }

    /// Returns whether a process holds the lock.
    #[must_use]
    pub fn availability(&self) -> Availability {
        match self {
            Self { holding: Some(_), .. } | Self { range: Some(_), .. } | Self { lease: Some(_), .. } => {
                Availability::Held
            }
            Self { unseen: None, blind_spot: None, wrong_type: None, .. } => Availability::Free,
            _ => Availability::Unknown,
        }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub struct Holding {
    pub mode: Mode,
    /// Every process that holds the lock. The one that acquired it comes first.
    pub holders: Vec<Holder>,
    /// The record, and how far it can be believed.
    pub record: Option<(Box<Record>, Belief)>,
    /// The slots that are held. A process that has inherited a slot counts, too, so there can be duplicates.
    pub(super) slots: Vec<Slot>,
    /// True if the lock had another holder each time that it was observed, so each of them has released it.
    pub changes_hands: bool,
    /// True if one of the holders is a helper, which may be about to write the record.
    pub(super) has_helper: bool,
    /// True if the holder had ended before its facts were read.
    pub(super) has_ended: bool,
    /// The process that called flock(2).
    pub(super) locker: u32,
}

impl Holding {
    /// Returns the record of a holder that runs, and that is not among the processes whose files we may see.
    #[must_use]
    pub fn unseen_taker(&self) -> Option<&Record> {
        let (record, belief) = self.record.as_ref()?;
        let seen = self.holders.iter().any(|holder| holder.pid == record.pid);
        (*belief == Belief::Alive && !seen).then_some(record)
    }

    /// Returns the number of slots that are held, and the number of slots that the lock has. `None`: it is held without slots.
    #[must_use]
    pub fn slots(&self) -> Option<(usize, u32)> {
        let mut slots = self.slots.clone();
        let capacity = slots.first()?.capacity;
        slots.sort_unstable_by_key(|slot| slot.number);
        slots.dedup();
        Some((slots.len(), capacity))
    }

    /// Returns the number of holders without the first one. Those that have inherited a shared lock from another holder do not count.
    #[must_use]
    pub fn count_others(&self) -> usize {
        let counts = |holder: &&Holder| self.mode == Mode::Exclusive || holder.inherited != Some(true);
        self.holders.iter().filter(counts).count().saturating_sub(1)
    }

    /// Returns how the holder is related to this process, if this process or one that started it holds the lock. Waiting for
    /// the lock may then never end.
    #[must_use]
    pub fn kin(&self) -> Option<Kin> {
        find_kin_among(|pid| {
            self.holders.iter().any(|holder| holder.pid == pid)
                || self.unseen_taker().is_some_and(|record| record.pid == pid)
        })
    }

    /// Returns true if a holder was seen, and had not ended in between.
    pub(super) fn is_settled(&self) -> bool {
        let is_named = matches!(self.record, Some((_, Belief::Alive)));
        !self.holders.is_empty() || (is_named && !self.has_ended)
    }
}

/// Returns how one of the holders is related to this process.
#[must_use]
pub fn find_kin(holders: &[Holder]) -> Option<Kin> {
    find_kin_among(|pid| holders.iter().any(|holder| holder.pid == pid))
}

fn find_kin_among(is_holder: impl Fn(u32) -> bool) -> Option<Kin> {
    if !process::has_our_numbers() {
        return None;
    }
    let us = std::process::id();
    if is_holder(us) {
        return Some(Kin::Itself);
    }
    process::ancestors(us).find(|pid| is_holder(*pid)).map(Kin::Ancestor)
}

/// The relation of a holder to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// The holder is this process.
    Itself,
    /// The holder started this process, perhaps through others.
    Ancestor(u32),
}

/// How far a holder record can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It describes this lock, and its process runs.
    Alive,
    /// It describes this lock, and its process has ended.
    Ended,
    /// It describes this lock, and its process runs, but has closed the lock file.
    Closed,
    /// Its process has ended, and the kernel does not say whether it acquired this lock or an earlier one.
    Perhaps,
    /// It was written in another pid namespace of this machine, so its pid has no meaning here.
    OtherNamespace,
    /// It was written on another machine.
    OtherHost,
    /// The kernel cannot be asked whether it describes this lock or an earlier one.
    Unchecked,
}

/// An fcntl(2) lock on a file.
#[derive(Debug)]
pub struct RangeHolding {
    pub range: RangeLock,
    /// The processes that hold it, if they can be seen.
    pub holders: Vec<Holder>,
}
