//! The bytes of a lock file that processes lock with fcntl(2), each in addition to the flock(2) lock of the whole file.
//!
//! All of them are far beyond the end of every file, and are never read or written. On local file systems, fcntl(2) and flock(2) do
//! not see each other.
//!
//! The first bytes, from [`TURNSTILE`](super::TURNSTILE), are those of slots (`os/slot.rs`). This file has all others, in the order of
//! their offsets. The turnstiles, marks, wants and [`NEEDED_LOCK`] are locked for the process; slots, [`STAMP`], [`NEXT_RUN`],
//! [`TICKET_LOCK`] and the tickets for an open file description (`os/range.rs` has the difference).
//!
//! A byte that is locked for the process is released when the process closes any descriptor of the file. So while a process holds such
//! a byte, its first thread closes none, and the thread that reports the wait gets descriptors of its own. If the system denies that, or
//! there is only one thread, the files stay open until the end of the wait ([`KeptFile`](super::KeptFile)).
//!
//! No turnstile is next to another byte that its holder locks exclusively. The kernel would join the two locks, and split them again
//! when that byte is released. At a split it wakes all processes that wait for the lock, and they would queue again in any order.
//!
//! The lock table shows these numbers, too, so this file is below `proc`.

/// The first byte after those of slots. No byte of a slot is at or after it.
const FIRST: u64 = (1 << 62) + (1 << 32);

/// `--replace`: the short lock under which a newcomer locks its ticket.
pub const TICKET_LOCK: u64 = FIRST + 8;

/// `--replace`: the stamp of a lock that was acquired with this option.
pub const STAMP: u64 = FIRST + 9;

/// `--coalesce`: held by the caller that waits for the next run.
pub const NEXT_RUN: u64 = FIRST + 16;

/// `--coalesce`: the short lock under which the number of the needed run is changed.
pub const NEEDED_LOCK: u64 = FIRST + 17;

/// `--priority` and writer preference: the turnstile of the level `low`. A shared caller locks this byte and the next one.
pub const LOW_TURNSTILE: u64 = FIRST + 32;

/// The turnstile of the level `high`. A shared caller locks this byte and the next one.
pub const HIGH_TURNSTILE: u64 = FIRST + 35;

/// The mark of exclusive waiters of the level `high`.
pub const HIGH_MARK: u64 = FIRST + 38;

/// The want of the level `high`, next to the mark of that level.
pub const HIGH_WANT: u64 = FIRST + 39;

/// The want of the level `normal`. It is the neighbour of the want of `high`, so that `low` looks at both with one call.
pub const NORMAL_WANT: u64 = FIRST + 40;

/// The mark of exclusive waiters of the level `normal`, next to the want of that level.
pub const NORMAL_MARK: u64 = FIRST + 41;

/// The turnstile of the level `normal`. A shared caller locks this byte and the next one.
pub const NORMAL_TURNSTILE: u64 = FIRST + 43;

/// The first byte after those of `--priority` and writer preference.
pub const PRIORITY_END: u64 = FIRST + 45;

/// `--replace`: the first ticket. The others follow, and no other byte follows them.
pub const FIRST_TICKET: u64 = FIRST + (1 << 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{ALL_SLOTS, Slot, other_slots};

    #[test]
    fn no_byte_has_two_meanings() {
        let bytes = [
            TICKET_LOCK,
            STAMP,
            NEXT_RUN,
            NEEDED_LOCK,
            LOW_TURNSTILE,
            HIGH_TURNSTILE,
            HIGH_MARK,
            HIGH_WANT,
            NORMAL_WANT,
            NORMAL_MARK,
            NORMAL_TURNSTILE,
            PRIORITY_END,
            FIRST_TICKET,
        ];
        assert!(bytes.is_sorted_by(|one, other| one < other));
        for byte in bytes {
            assert_eq!(Slot::from_byte(byte), None);
            let is_slot = |(start, len): &(u64, u64)| (*start..start + len).contains(&byte);
            assert!(!other_slots(1).iter().chain([&ALL_SLOTS]).any(is_slot), "{byte}");
        }
    }

    /// Otherwise, processes that wait for the turnstile change places.
    #[test]
    fn no_turnstile_is_next_to_a_byte_that_its_holder_locks_exclusively() {
        for turnstile in [LOW_TURNSTILE, HIGH_TURNSTILE, NORMAL_TURNSTILE] {
            for other in
                [HIGH_MARK, HIGH_WANT, NORMAL_WANT, NORMAL_MARK, LOW_TURNSTILE, HIGH_TURNSTILE, NORMAL_TURNSTILE]
            {
                assert!(other == turnstile || !(turnstile - 1..turnstile + 3).contains(&other), "{turnstile} {other}");
            }
        }
    }
}
