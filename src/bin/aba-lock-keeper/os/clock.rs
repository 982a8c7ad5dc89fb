//! Moments and spans on the clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`): a lease does not sleep.

use crate::sys;
use std::time::Duration;

/// A moment of this boot of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(sys::now())
    }

    /// As a number that another process of this machine understands.
    pub(crate) fn to_number(self) -> u64 {
        self.0
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is until then; nothing if that is past.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(sys::now()))
    }

    pub(crate) fn is_past(self) -> bool {
        self.left().is_zero()
    }
}
