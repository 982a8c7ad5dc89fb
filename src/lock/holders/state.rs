//! The state of a lock, as plain data.

use super::holder::Holder;
use super::waiter::{Waiter, waiter};
use crate::lock::record::Record;
use crate::os::proc::lock_table::KernelLock;
use crate::os::proc::process;
use crate::os::{Mode, RangeLock};

/// What is known of a lock file.
#[derive(Debug, Default)]
pub struct LockState {
    /// Who has the lock; `None` when it is free, as far as can be seen from here.
    pub holding: Option<Holding>,
    /// Who may have it although nothing can be seen of it from here: the last holder was in another pid
    /// namespace, or on another machine.
    pub unseen: Option<(Record, Belief)>,
    /// Who has a lock on a file that was removed from the path: it shuts nobody out any more.
    pub removed: Vec<Holder>,
    /// Who waits for it, in the order in which they will be served: see [`LockState::waiters`].
    pub queue: Vec<KernelLock>,
    /// The record in the lock file, whether it counts or not.
    pub record: Option<Record>,
    /// Whether there are processes that we may not look into.
    pub hidden: bool,
    /// Why the kernel could not be asked, if it could not: somebody may have it of whom nothing is seen.
    pub blind_spot: Option<BlindSpot>,
    /// What stands in the place of the lock file, if that is no regular file.
    pub wrong_type: Option<&'static str>,
    /// An fcntl(2) lock on it, which does not conflict with the others. Only asked for where the user named the file.
    pub range: Option<RangeHolding>,
}

/// Whether somebody has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Somebody has it.
    Held,
    /// Nobody has it.
    Free,
    /// Neither would be true.
    Unknown,
}

/// Why the kernel cannot be asked who has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlindSpot {
    /// There is no `/proc` that shows us.
    Proc,
    /// `/proc/locks` cannot be read, and there are processes that we may not look into.
    List,
    /// The lock file could not be looked at.
    File,
}

impl LockState {
    /// What is known of those who wait for it, in the order in which they will be served. To ask takes a dozen looks into
    /// `/proc` for each.
    #[must_use]
    pub fn waiters(&self) -> Vec<Waiter> {
        self.queue.iter().copied().map(waiter).collect()
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn availability(&self) -> Availability {
        match self {
            Self { holding: Some(_), .. } | Self { range: Some(_), .. } => Availability::Held,
            Self { unseen: None, blind_spot: None, wrong_type: None, .. } => Availability::Free,
            _ => Availability::Unknown,
        }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub struct Holding {
    /// How.
    pub mode: Mode,
    /// Every process that has it, the one that took it first.
    pub holders: Vec<Holder>,
    /// The record, and how far it is to be believed.
    pub record: Option<(Record, Belief)>,
    /// Whether it was another's each time that we looked: who had it has let go since.
    pub changes_hands: bool,
    /// Whether one of the holders is a helper, which may be about to write the record.
    pub(super) helper: bool,
    /// Whether one that had it was gone when we looked at it.
    pub(super) went: bool,
    /// The process that called flock(2).
    pub(super) locker: u32,
}

impl Holding {
    /// The record of a holder that runs, and that is not among those that we may look into.
    #[must_use]
    pub fn unseen_taker(&self) -> Option<&Record> {
        let (record, belief) = self.record.as_ref()?;
        let seen = self.holders.iter().any(|holder| holder.pid == record.pid);
        (*belief == Belief::Alive && !seen).then_some(record)
    }

    /// Returns how the holder is related to this process, if this process or one that started it holds the lock. Waiting for
    /// the lock may then never end.
    #[must_use]
    pub fn kin(&self) -> Option<Kin> {
        if !process::has_our_numbers() {
            return None;
        }
        let has_it = |pid: u32| {
            self.holders.iter().any(|holder| holder.pid == pid)
                || self.unseen_taker().is_some_and(|record| record.pid == pid)
        };
        let us = std::process::id();
        if has_it(us) {
            return Some(Kin::Itself);
        }
        process::ancestors(us).find(|pid| has_it(*pid)).map(Kin::Ancestor)
    }

    /// Whether who has it was seen, and is there still.
    pub(super) fn is_settled(&self) -> bool {
        let named = matches!(self.record, Some((_, Belief::Alive)));
        !self.holders.is_empty() || (named && !self.went)
    }
}

/// How a holder is related to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// It is this process.
    Itself,
    /// It started this process, perhaps through others.
    Ancestor(u32),
}

/// How far a holder record is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It is of this lock, and its process runs.
    Alive,
    /// It is of this lock, and its process has ended.
    Ended,
    /// It is of this lock, and its process runs, but has closed the lock file.
    Closed,
    /// Its process has ended, and the kernel does not say whether it took this lock or an earlier one.
    Perhaps,
    /// It is of another pid namespace of this machine: its pid means nothing here.
    OtherNamespace,
    /// It is of another machine.
    OtherHost,
    /// The kernel cannot be asked whether it is of this lock or an earlier one.
    Unchecked,
}

/// An fcntl(2) lock on a file.
#[derive(Debug)]
pub struct RangeHolding {
    /// The lock.
    pub range: RangeLock,
    /// The processes that hold it, if they can be seen.
    pub holders: Vec<Holder>,
}
