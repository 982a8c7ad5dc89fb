//! The levels of `--priority`, and the bytes of a lock file that processes of each level lock while they wait.
//!
//! The protocols are in `lock/turnstile.rs` and `lock/priority.rs`, which lock these bytes. The lock table shows the bytes, so this file is
//! below `proc`, which finds the place, mode and level of each waiter here.

use super::bytes::{
    HIGH_MARK, HIGH_TURNSTILE, HIGH_WANT, LOW_TURNSTILE, NORMAL_MARK, NORMAL_TURNSTILE, NORMAL_WANT, PRIORITY_END,
};
use super::flock::Mode;

/// A part of a file: the first byte and the number of bytes.
pub type BytePart = (u64, u64);

/// The part of a file with the turnstiles, marks and wants of all levels.
pub const PRIORITY_BYTES: BytePart = (LOW_TURNSTILE, PRIORITY_END - LOW_TURNSTILE);

/// The level of a caller that waits for a lock. A higher one comes first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    High,
    /// Also the level of a caller that names none.
    Normal,
    Low,
}

impl Priority {
    /// All levels, the highest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Returns the bytes of the turnstile of this level. A shared caller locks one byte more than an exclusive one, so that the lock
    /// table shows its mode.
    #[must_use]
    pub fn turnstile(self, mode: Mode) -> BytePart {
        let first = match self {
            Self::High => HIGH_TURNSTILE,
            Self::Normal => NORMAL_TURNSTILE,
            Self::Low => LOW_TURNSTILE,
        };
        (first, if mode == Mode::Exclusive { 1 } else { 2 })
    }

    /// Returns the byte that exclusive waiters hold shared. The level `low` has none, because all its waiters use the turnstile.
    #[must_use]
    pub fn mark(self) -> Option<u64> {
        match self {
            Self::High => Some(HIGH_MARK),
            Self::Normal => Some(NORMAL_MARK),
            Self::Low => None,
        }
    }

    /// Parses the word of [`Priority::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// Returns the level of a waiter that has passed the turnstile and holds these bytes in the mode `held`, and the mode in which it
    /// asks for the lock. `None`: the bytes do not show it.
    #[must_use]
    pub fn of_waiter(held: Mode, (start, len): BytePart) -> Option<(Self, Mode)> {
        let contains = |byte: u64| (start..start.saturating_add(len)).contains(&byte);
        let exclusive_if = |is_exclusive| if is_exclusive { Mode::Exclusive } else { Mode::Shared };
        match held {
            Mode::Shared if contains(HIGH_WANT) => Some((Self::High, exclusive_if(contains(HIGH_MARK)))),
            Mode::Shared if contains(NORMAL_WANT) => Some((Self::Normal, exclusive_if(contains(NORMAL_MARK)))),
            Mode::Exclusive if contains(LOW_TURNSTILE) => Some((Self::Low, exclusive_if(!contains(LOW_TURNSTILE + 1)))),
            _ => None,
        }
    }

    /// Returns the byte that all waiters of this level hold shared. The level `low` has none, because no other level yields to it.
    #[must_use]
    pub fn want(self) -> Option<u64> {
        match self {
            Self::High => Some(HIGH_WANT),
            Self::Normal => Some(NORMAL_WANT),
            Self::Low => None,
        }
    }

    /// Returns the wants of the levels above this one, and the part of the file that contains them.
    #[must_use]
    pub fn higher_wants(self) -> Option<(&'static [u64], BytePart)> {
        match self {
            Self::High => None,
            Self::Normal => Some((&[HIGH_WANT], (HIGH_WANT, 1))),
            Self::Low => Some((&[HIGH_WANT, NORMAL_WANT], (HIGH_WANT, 2))),
        }
    }

    /// Returns the part of the file in which at least one byte is locked if a shared caller of this level must not try the lock. If the
    /// flag is true, the reverse is true as well. Otherwise, a byte of that part may be locked for another reason.
    #[must_use]
    pub fn queue_of_shared(self) -> (BytePart, bool) {
        match self {
            Self::High => ((HIGH_TURNSTILE, HIGH_MARK + 1 - HIGH_TURNSTILE), true),
            Self::Normal => ((HIGH_WANT, NORMAL_TURNSTILE + 2 - HIGH_WANT), false),
            Self::Low => (PRIORITY_BYTES, false),
        }
    }

    /// Returns the bytes that a waiter holds shared: the mark, if it is exclusive, and the want of the level.
    #[must_use]
    pub fn announcement(self, mode: Mode) -> Option<BytePart> {
        match (self, mode) {
            (Self::High, Mode::Exclusive) => Some((HIGH_MARK, 2)),
            (Self::High, Mode::Shared) => Some((HIGH_WANT, 1)),
            (Self::Normal, Mode::Exclusive) => Some((NORMAL_WANT, 2)),
            (Self::Normal, Mode::Shared) => Some((NORMAL_WANT, 1)),
            (Self::Low, _) => None,
        }
    }
}

/// The place where a process waits for a lock. A waiter at an earlier place gets the lock before one of the same level at a later place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueuePlace {
    /// The lock itself. Also the place of a holder.
    Lock,
    /// Between two places: it is in no queue of the kernel, but holds bytes that only a waiter holds. A process that a signal has
    /// stopped stays here.
    Between,
    /// A shared caller waits for exclusive waiters that came before it.
    Mark,
    /// The waiter lets those with a higher level pass.
    Yielded,
    /// The turnstile of a level.
    Turnstile(Priority),
    /// A caller with `--replace` has this ticket. The kernel does not name the process.
    Ticket(u64),
}

impl QueuePlace {
    /// Returns true if the process is in a queue of the kernel, which shows its pid and its place.
    #[must_use]
    pub fn is_in_kernel_queue(self) -> bool {
        !matches!(self, Self::Between | Self::Ticket(_))
    }

    /// Returns the place where a process waits that asks for these bytes, and the mode in which it asks for the lock. For
    /// [`QueuePlace::Yielded`], the mode is exclusive: only the bytes that the process holds show it ([`Priority::of_waiter`]).
    #[must_use]
    pub fn of_wait(asked: Mode, bytes: BytePart) -> Option<(Self, Mode)> {
        let modes = [Mode::Exclusive, Mode::Shared];
        let all = Priority::ALL.into_iter().flat_map(|level| modes.map(|mode| (level, mode)));
        for (level, mode) in all {
            if asked == Mode::Exclusive && bytes == level.turnstile(mode) {
                return Some((Self::Turnstile(level), mode));
            }
            if asked == Mode::Shared && level.announcement(mode) == Some(bytes) {
                return Some((Self::Lock, mode));
            }
            if asked == Mode::Exclusive && bytes.1 == 1 && level.mark() == Some(bytes.0) {
                return Some((Self::Mark, Mode::Shared));
            }
        }
        let is_want = asked == Mode::Exclusive && [(HIGH_WANT, 1), (NORMAL_WANT, 1)].contains(&bytes);
        is_want.then_some((Self::Yielded, Mode::Exclusive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_wait_say_where_and_how_a_process_waits() {
        let (exclusive, shared) = (Mode::Exclusive, Mode::Shared);
        for level in Priority::ALL {
            for mode in [exclusive, shared] {
                let at = Some((QueuePlace::Turnstile(level), mode));
                assert_eq!(QueuePlace::of_wait(exclusive, level.turnstile(mode)), at);
                if let Some(bytes) = level.announcement(mode) {
                    assert_eq!(QueuePlace::of_wait(shared, bytes), Some((QueuePlace::Lock, mode)));
                }
            }
        }
        assert_eq!(QueuePlace::of_wait(exclusive, (NORMAL_MARK, 1)), Some((QueuePlace::Mark, shared)));
        assert_eq!(QueuePlace::of_wait(exclusive, (HIGH_WANT, 1)), Some((QueuePlace::Yielded, exclusive)));
        for level in Priority::ALL {
            for mode in [exclusive, shared] {
                let (held, bytes) =
                    level.announcement(mode).map_or((exclusive, level.turnstile(mode)), |one| (shared, one));
                assert_eq!(Priority::of_waiter(held, bytes), Some((level, mode)));
            }
        }
        for bytes in [(0, 0), (0, 1), (1 << 62, 1), (PRIORITY_END, 1), (LOW_TURNSTILE, 10)] {
            assert_eq!(QueuePlace::of_wait(exclusive, bytes), None);
        }
    }
}
