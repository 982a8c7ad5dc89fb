//! The bytes of a lock file that stand for the slots of a counting lock (`--slots N`).
//!
//! Slot k of N is the byte `TURNSTILE + 4096 * N + k`, far beyond the end of every file. Its offset says N, so no process stores
//! N. The turnstile is the queue of the callers. The lock table shows these offsets, too, so this file is below `proc`.

/// The byte of the turnstile. All bytes of slots follow it, and no other program locks a part of a file that begins here.
pub const TURNSTILE: u64 = 1 << 62;

/// The maximum number of slots.
pub const MAX_SLOTS: u32 = 1024;

/// The distance between the bytes of N and of N + 1.
const STEP: u64 = 4096;

/// The part of the file in which the turnstile and the slots of all numbers are, as start and length.
pub const ALL_SLOTS: (u64, u64) = (TURNSTILE, STEP * (MAX_SLOTS as u64 + 1));

/// One of the slots of a counting lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The number of the slot, from 1.
    pub number: u32,
    /// The number of slots that the lock has (N).
    pub capacity: u32,
}

impl Slot {
    /// Returns the slots of a lock that has `capacity` slots.
    pub fn all(capacity: u32) -> impl Iterator<Item = Self> {
        (1..=capacity).map(move |number| Self { number, capacity })
    }

    /// Returns the byte that stands for the slot.
    #[must_use]
    pub fn byte(self) -> u64 {
        first_byte(self.capacity) + u64::from(self.number)
    }

    /// Returns the slot for which a byte stands.
    #[must_use]
    pub fn from_byte(byte: u64) -> Option<Self> {
        let offset = byte.checked_sub(TURNSTILE)?;
        let (capacity, number) = (u32::try_from(offset / STEP).ok()?, u32::try_from(offset % STEP).ok()?);
        ((1..=MAX_SLOTS).contains(&capacity) && (1..=capacity).contains(&number)).then_some(Self { number, capacity })
    }
}

/// Returns the byte before those of the slots of a lock that has `capacity` slots.
fn first_byte(capacity: u32) -> u64 {
    TURNSTILE + STEP * u64::from(capacity)
}

/// Returns the parts of the file, as start and length, in which the slots of all locks are that have another number of slots than
/// `capacity`, which is at least 1.
#[must_use]
pub fn other_slots(capacity: u32) -> [(u64, u64); 2] {
    let [(start, len), _] = around_slots(capacity, TURNSTILE);
    let end = first_byte(capacity + 1);
    [(start + 1, len - 1), (end, first_byte(MAX_SLOTS + 1) - end)]
}

/// Returns the parts of the file, as start and length, from the turnstile to the byte before `end`, without the slots of a lock that
/// has `capacity` slots.
#[must_use]
pub fn around_slots(capacity: u32, end: u64) -> [(u64, u64); 2] {
    let after = first_byte(capacity + 1);
    [(TURNSTILE, first_byte(capacity) - TURNSTILE), (after, end.saturating_sub(after))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::bytes::PRIORITY_END;

    #[test]
    fn the_byte_of_a_slot_says_which_slot_of_how_many_it_is() {
        for capacity in [1, 2, 3, 1000, MAX_SLOTS] {
            for slot in Slot::all(capacity) {
                assert_eq!(Slot::from_byte(slot.byte()), Some(slot));
            }
        }
        for byte in [0, TURNSTILE, TURNSTILE + STEP, TURNSTILE + STEP + 2, TURNSTILE + STEP * 1025 + 1, u64::MAX] {
            assert_eq!(Slot::from_byte(byte), None);
        }
    }

    #[test]
    fn the_parts_of_other_slots_have_all_slots_but_those_of_one_number() {
        let contains = |capacity: u32, slot: Slot| {
            other_slots(capacity).iter().any(|(start, len)| (*start..start + len).contains(&slot.byte()))
        };
        for capacity in [1, 2, 3, MAX_SLOTS] {
            for other in [1, 2, 3, 4, MAX_SLOTS] {
                for slot in Slot::all(other) {
                    assert_eq!(contains(capacity, slot), other != capacity, "{capacity} {slot:?}");
                    assert!((ALL_SLOTS.0..ALL_SLOTS.0 + ALL_SLOTS.1).contains(&slot.byte()));
                    let around = around_slots(capacity, PRIORITY_END);
                    assert_eq!(
                        around.iter().any(|(start, len)| (*start..start + len).contains(&slot.byte())),
                        other != capacity
                    );
                }
            }
        }
    }
}
