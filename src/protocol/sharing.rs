//! The modes of a lock, and the rule that decides whether a request can be granted next to the present holders.
//!
//! The stores of the service and the keeper's client for etcd use this rule, so a lock means the same everywhere. It is the
//! rule of `lock --shared` and `lock --slots N` on one machine:
//!
//! | request | is granted while the lock is held |
//! |---|---|
//! | exclusive | by no process |
//! | shared | shared, or with slots |
//! | slot of N | shared, or with at most N - 1 slots of N |
//!
//! All holders with slots must agree on N: a request with another number is refused, and does not wait.
//!
//! # The queue
//!
//! All modes share one queue in the order of arrival. A request is granted only if the queue is empty, or if it is the first
//! one of the queue. So an exclusive waiter is not overtaken by shared requests that come after it. After each release, each
//! expiry, and each departure of a waiter, the first request of the queue is decided again, and then the next one, until one
//! of them must wait:
//!
//! 1. H holds the lock shared. X waits for it, exclusive. S comes, shared, and waits after X, although it could run next to H.
//! 2. X gives up. No holder has changed, but S is now the first request, and must be granted.
//!
//! Holders never become incompatible: a holder that ends leaves more room for the others. So a decision that was right for a
//! set of holders is right for each subset of it, and only a new holder requires another decision.

/// How a lock is held, or requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// By one holder alone.
    #[default]
    Exclusive,
    /// By any number of holders.
    Shared,
    /// By at most this number of holders, each of which has a slot.
    Slots(u32),
}

/// The largest number of slots of a lock.
pub const MAX_SLOTS: u32 = 1024;

/// The sentence that refuses a number of slots outside of 1 to [`MAX_SLOTS`].
pub const SLOTS_RULE: &str = "slots must be a number from 1 to 1024";

/// The decision on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The request can be granted. A request for a slot gets the one with this number, counted from 1.
    Granted(Option<u32>),
    /// A holder is in the way.
    Busy,
    /// The lock is held with this other number of slots, so the request must be refused.
    OtherNumber(u32),
}

impl Sharing {
    /// Decides on a request in this mode while these locks are held, each with its mode and the number of its slot.
    #[must_use]
    pub fn admit(self, holders: impl IntoIterator<Item = (Self, Option<u32>)>) -> Admission {
        let (mut used, mut is_busy) = (Vec::new(), false);
        for (held, slot) in holders {
            match (self, held) {
                (Self::Slots(wanted), Self::Slots(number)) if wanted != number => {
                    return Admission::OtherNumber(number);
                }
                (Self::Slots(_), Self::Slots(_)) => used.push(slot.unwrap_or(0)),
                (Self::Exclusive, _) | (_, Self::Exclusive) => is_busy = true,
                (Self::Shared, _) | (_, Self::Shared) => (),
            }
        }
        match self {
            _ if is_busy => Admission::Busy,
            Self::Slots(number) if used.len() >= number as usize => Admission::Busy,
            Self::Slots(number) => Admission::Granted((1..=number).find(|slot| !used.contains(slot))),
            Self::Exclusive | Self::Shared => Admission::Granted(None),
        }
    }

    /// The number of slots, if the lock has slots.
    #[must_use]
    pub fn slots(self) -> Option<u32> {
        match self {
            Self::Slots(number) => Some(number),
            Self::Exclusive | Self::Shared => None,
        }
    }
}

/// Checks a number of slots.
#[must_use]
pub fn check_slots(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| (1..=MAX_SLOTS).contains(number))
}

#[cfg(test)]
mod tests {
    use super::Admission::{Busy, Granted, OtherNumber};
    use super::Sharing::{Exclusive, Shared, Slots};
    use super::*;

    #[test]
    fn an_exclusive_request_is_granted_only_if_there_is_no_holder() {
        assert_eq!(Exclusive.admit([]), Granted(None));
        for held in [(Exclusive, None), (Shared, None), (Slots(3), Some(1))] {
            assert_eq!(Exclusive.admit([held]), Busy, "{held:?}");
        }
    }

    #[test]
    fn a_shared_request_is_refused_only_by_an_exclusive_holder() {
        assert_eq!(Shared.admit([(Shared, None), (Slots(1), Some(1))]), Granted(None));
        assert_eq!(Shared.admit([(Exclusive, None)]), Busy);
    }

    #[test]
    fn a_request_for_a_slot_gets_the_lowest_free_number() {
        assert_eq!(Slots(2).admit([]), Granted(Some(1)));
        assert_eq!(Slots(2).admit([(Slots(2), Some(2)), (Shared, None)]), Granted(Some(1)));
        assert_eq!(Slots(2).admit([(Slots(2), Some(2)), (Slots(2), Some(1))]), Busy);
        assert_eq!(Slots(2).admit([(Exclusive, None)]), Busy);
    }

    #[test]
    fn another_number_of_slots_is_refused() {
        assert_eq!(Slots(2).admit([(Shared, None), (Slots(3), Some(1))]), OtherNumber(3));
        // The exclusive holder excludes those with slots, so this happens only if a store is damaged.
        assert_eq!(Slots(2).admit([(Exclusive, None), (Slots(3), Some(1))]), OtherNumber(3));
    }

    #[test]
    fn a_number_of_slots_is_at_least_1_and_at_most_1024() {
        assert_eq!([0, 1, 1024, 1025, u64::MAX].map(check_slots), [None, Some(1), Some(1024), None, None]);
    }
}
