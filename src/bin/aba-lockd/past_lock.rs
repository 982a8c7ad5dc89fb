//! Locks that have ended, and the questions about them. The stores keep them as the history, `rest` shows them, and the events
//! of `event_feed` say how a lock ended.

use crate::model::{Lock, LockOrigin, LockQuery};
use jiff::Timestamp;

/// The number of locks in the history. Older ones are removed.
pub(crate) const MAX_HISTORY: i64 = 10_000;

/// The way in which a lock ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndKind {
    /// By its owner, by a caller with its secret, or by any caller if the service had no token file.
    Released,
    /// By a caller that may change the locks of others, or by `force-unlock` of Terraform.
    Forced,
    Expired,
    /// The caller had gone before it received the lock.
    TakenBack,
    /// The lock got another key, under which it has the same id.
    Moved,
}

impl EndKind {
    const ALL: [Self; 5] = [Self::Released, Self::Forced, Self::Expired, Self::TakenBack, Self::Moved];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Forced => "forced",
            Self::Expired => "expired",
            Self::TakenBack => "taken_back",
            Self::Moved => "moved",
        }
    }

    /// Returns the type of the event about such an end.
    pub(crate) fn event_name(self) -> &'static str {
        if self == Self::Expired { "expired" } else { "released" }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The reason why a call ends a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndCause {
    pub(crate) kind: EndKind,
    /// The name of the caller in the token file. Empty if there is none.
    pub(crate) by: String,
}

impl EndCause {
    /// The cause of an end that no caller has asked for.
    pub(crate) fn without_caller(kind: EndKind) -> Self {
        Self { kind, by: String::new() }
    }

    pub(crate) fn at(self, at: Timestamp) -> LockEnd {
        LockEnd { cause: self, at }
    }
}

/// The end of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockEnd {
    pub(crate) cause: EndCause,
    pub(crate) at: Timestamp,
}

/// A lock that has ended.
#[derive(Debug, Clone)]
pub(crate) struct PastLock {
    /// Without a queue, an expiry, a secret and the lock info of Terraform.
    pub(crate) lock: Lock,
    pub(crate) end: LockEnd,
}

impl PastLock {
    pub(crate) fn new(lock: &Lock, end: LockEnd) -> Self {
        let origin = LockOrigin { name: lock.origin.name.clone(), ..LockOrigin::default() };
        Self { lock: Lock { origin, expires: None, queue: Vec::new(), ..lock.clone() }, end }
    }
}

/// The selection of past locks.
#[derive(Debug, Clone)]
pub(crate) struct HistoryQuery {
    /// The pages of this query are ignored.
    pub(crate) selection: LockQuery,
    /// Maximum number of locks in the answer.
    pub(crate) limit: usize,
    /// The `next` of an earlier answer: only older locks are selected.
    pub(crate) before: Option<String>,
}

/// Parses the place of a lock in the history, which has the same form in all stores: a number of 20 digits, a slash, and the id.
/// Returns the number, or the greatest one if it is too large.
pub(crate) fn parse_history_place(place: &str) -> Option<u64> {
    let (number, _) = place.split_once('/')?;
    let is_number = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().unwrap_or(u64::MAX))
}

/// A part of the history, the newest end first.
#[derive(Debug)]
pub(crate) struct HistoryPage {
    pub(crate) locks: Vec<PastLock>,
    /// The place at which the next part begins. `None`: there are no older locks.
    pub(crate) next: Option<String>,
}

/// Collects a part of the history while a store reads it.
pub(crate) struct HistoryCollector<'a> {
    query: &'a HistoryQuery,
    page: HistoryPage,
    /// The place of the last lock on the page.
    last: String,
}

impl<'a> HistoryCollector<'a> {
    pub(crate) fn new(query: &'a HistoryQuery) -> Self {
        Self { query, page: HistoryPage { locks: Vec::new(), next: None }, last: String::new() }
    }

    /// Adds the next older lock, if it is selected. Returns false if the page is full.
    pub(crate) fn add(&mut self, past: PastLock, place: String) -> bool {
        let selection = &self.query.selection;
        if !selection.fields.match_lock(&past.lock) || !past.lock.is_selected_by(selection) {
            return true;
        }
        if self.page.locks.len() == self.query.limit {
            self.page.next = Some(std::mem::take(&mut self.last));
            return false;
        }
        self.page.locks.push(past);
        self.last = place;
        true
    }

    pub(crate) fn finish(self) -> HistoryPage {
        self.page
    }
}
