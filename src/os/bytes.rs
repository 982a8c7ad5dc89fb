//! The bytes of a lock file that processes lock with fcntl(2), each in addition to the flock(2) lock of the whole file.
//!
//! All of them are far beyond the end of every file, and are never read or written. On local file systems, fcntl(2) and flock(2) do
//! not see each other. The first bytes, from [`TURNSTILE`](super::TURNSTILE), are those of slots. The others follow here. The lock table
//! shows these numbers, too, so this file is below `proc`.

/// The first byte after those of slots. No byte of a slot is at or after it.
const FIRST: u64 = (1 << 62) + (1 << 32);

/// `--priority` and writer preference: the turnstile of the level `high`, and next to it the want of that level.
pub const HIGH_TURNSTILE: u64 = FIRST;

/// The want of the level `high`. The want of `normal` is its neighbour, so that `low` looks at both with one call.
pub const HIGH_WANT: u64 = FIRST + 1;

/// The want of the level `normal`, next to the turnstile of that level.
pub const NORMAL_WANT: u64 = FIRST + 2;

/// The turnstile of the level `normal`, and of writers without a level.
pub const NORMAL_TURNSTILE: u64 = FIRST + 3;

/// The turnstile of the level `low`.
pub const LOW_TURNSTILE: u64 = FIRST + 4;

/// `--replace`: the short lock under which a newcomer draws its ticket.
pub const TICKET: u64 = FIRST + 8;

/// `--coalesce`: held by the caller that waits for the next run.
pub const NEXT_RUN: u64 = FIRST + 16;

/// `--coalesce`: the short lock under which the number of the needed run is changed.
pub const NEEDED_RUN: u64 = FIRST + 17;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{ALL_SLOTS, Slot, other_slots};

    #[test]
    fn no_byte_has_two_meanings() {
        let bytes =
            [HIGH_TURNSTILE, HIGH_WANT, NORMAL_WANT, NORMAL_TURNSTILE, LOW_TURNSTILE, TICKET, NEXT_RUN, NEEDED_RUN];
        assert!(bytes.is_sorted_by(|one, other| one < other));
        for byte in bytes {
            assert_eq!(Slot::from_byte(byte), None);
            let is_slot = |(start, len): &(u64, u64)| (*start..start + len).contains(&byte);
            assert!(!other_slots(1).iter().chain([&ALL_SLOTS]).any(is_slot), "{byte}");
        }
    }
}
