//! Plain data about leases, whichever server grants them.
//!
//! A server has a queue for each name. The first place in the queue holds the lock, as long as its lease lives. If the lock is
//! shared, or has slots, the first places do.

use crate::os::clock::Moment;
use aba_lock_protocol::sharing::Sharing;
use serde_json::{Value, json};
use std::time::Duration;

/// A lease, which is a place in the queue of a name. While it is not one of the first places, the owner waits for the lock.
///
/// The lease lives until `renewed_at + ttl`. The server counts from the moment at which it receives a renewal, and we
/// count from the moment at which we sent it, so the server never ends a lease before we expect it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The name of the lock.
    pub(crate) name: String,
    /// The id of the lease at the server, which is enough to renew or release it.
    pub(crate) id: String,
    /// The fencing token, which grows with every acquisition of the name.
    pub(crate) token: u64,
    /// In etcd, the create revision of the key in the queue, which is the place in it. 0 at a lock service.
    pub(crate) revision: u64,
    /// The time that the lease lives without renewal, according to the server.
    pub(crate) ttl: Duration,
    /// The moment at which the last successful renewal was sent.
    pub(crate) renewed_at: Moment,
    /// True if a keeper makes sure that the holder ends before the lease does.
    pub(crate) kept: bool,
    pub(crate) sharing: Sharing,
    /// The number of the slot, if the lock has slots.
    pub(crate) slot: Option<u32>,
}

/// The description of the process that asks for a lease, for other users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaseOwner {
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) user: String,
    pub(crate) command: String,
    pub(crate) who: Option<String>,
    /// In RFC 3339 form, UTC.
    pub(crate) since: String,
}

impl LeaseOwner {
    pub(crate) fn to_json(&self) -> Value {
        json!({ "host": self.host, "pid": self.pid, "user": self.user, "command": self.command, "who": self.who,
            "since": self.since })
    }

    /// Parses an owner. `None`: the value was not written by [`Self::to_json`], but by another program.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let pid = u32::try_from(value["pid"].as_u64()?).ok()?;
        let who = value["who"].as_str().map(str::to_owned);
        Some(Self { host: text("host"), pid, user: text("user"), command: text("command"), who, since: text("since") })
    }
}

/// A holder or waiter in the queue of a name.
#[derive(Debug, Clone)]
pub(crate) struct QueueEntry {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) token: u64,
    /// As [`Lease::revision`].
    pub(crate) revision: u64,
    pub(crate) owner: Option<LeaseOwner>,
    /// The owner in the words of the server, if the server has no structured description.
    pub(crate) owner_text: Option<String>,
    /// The time that the lease will live without renewal. `None`: it is unknown, or the server was not asked.
    pub(crate) left: Option<Duration>,
    pub(crate) sharing: Sharing,
    pub(crate) slot: Option<u32>,
    /// True if it holds the lock, and false if it waits.
    pub(crate) is_holder: bool,
    /// The number of other processes that hold the lock, if it was counted, for messages.
    pub(crate) others: usize,
    /// The number of slots that are held, if they were counted.
    pub(crate) held_slots: usize,
}

impl QueueEntry {
    /// Counts the processes that hold the lock among all entries of the queue.
    pub(crate) fn count_holders(&mut self, queue: &[Self]) {
        let holders = || queue.iter().filter(|entry| entry.is_holder && entry.name == self.name);
        let (others, slots) = (
            holders().filter(|entry| entry.id != self.id).count(),
            holders().filter(|entry| entry.sharing.slots().is_some()).count(),
        );
        (self.others, self.held_slots) = (others, slots);
    }

    /// Describes the other holders, as messages about local locks do.
    pub(crate) fn describe_others(&self) -> String {
        let others = if self.others > 0 { format!(", and {} more", self.others) } else { String::new() };
        match (self.sharing.slots(), self.held_slots) {
            (Some(number), held @ 1..) => {
                let (s, are) = (if number == 1 { "" } else { "s" }, if held == 1 { "is" } else { "are" });
                format!("{others}; {held} of {number} slot{s} {are} held")
            }
            _ => others,
        }
    }

    /// Describes how the lock is held or wanted, if it is not exclusive.
    pub(crate) fn describe_sharing(&self) -> Option<String> {
        match (self.sharing, self.slot) {
            (Sharing::Exclusive, _) => None,
            (Sharing::Shared, _) => Some("shared".to_owned()),
            (Sharing::Slots(number), Some(slot)) => Some(format!("slot {slot} of {number}")),
            (Sharing::Slots(number), None) => Some(format!("one of {number} slots")),
        }
    }
}

/// A request for a lease.
#[derive(Debug)]
pub(crate) struct LeaseRequest<'a> {
    pub(crate) name: &'a str,
    pub(crate) ttl: Duration,
    pub(crate) owner: &'a LeaseOwner,
    pub(crate) limit: WaitLimit,
    /// True if a keeper will make sure that the holder ends before the lease does.
    pub(crate) kept: bool,
    pub(crate) sharing: Sharing,
}

/// The time that an acquisition may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitLimit {
    NoWait,
    Until(Moment),
    Forever,
}

impl WaitLimit {
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::NoWait => true,
            Self::Until(moment) => moment.is_past(),
            Self::Forever => false,
        }
    }

    /// Shortens a span so that it does not exceed the time that is left.
    pub(crate) fn cap(self, span: Duration) -> Duration {
        match self {
            Self::Until(moment) => span.min(moment.left()),
            Self::NoWait | Self::Forever => span,
        }
    }
}
