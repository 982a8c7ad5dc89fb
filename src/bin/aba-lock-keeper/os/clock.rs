//! Points in time on `CLOCK_BOOTTIME`. This clock also counts the time in which the machine is suspended, because a
//! lease does not stop then.

#![expect(unsafe_code, reason = "clock_gettime(2)")]

use std::mem;
use std::time::Duration;

/// A point in time since this machine was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        // SAFETY: all bytes zero are a valid `timespec`.
        let mut time: libc::timespec = unsafe { mem::zeroed() };
        // SAFETY: `time` lives until the call returns.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        Self(u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// Returns the moment as a number, which another process of this machine can read with [`Self::from_number`].
    pub(crate) fn to_number(self) -> u64 {
        self.0
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Returns the time from now until this moment; zero if it is past.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(Self::now().0))
    }

    /// Returns the time since this moment.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }

    pub(crate) fn is_past(self) -> bool {
        self.left().is_zero()
    }
}
