//! The state of a lease in memory that guard and courier share.

use crate::lease::Lease;
use crate::os::clock::Moment;
use crate::os::process;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shared state. Copies refer to the same memory, also after a fork.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedState {
    /// The moment of the last successful renewal, the time to live in nanoseconds, 1 if the lease is gone, and 1 if the keeper has
    /// ended the holders.
    numbers: &'static [AtomicU64; 4],
}

impl SharedState {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { numbers: process::share_numbers()? })
    }

    pub(crate) fn store_renewal(self, lease: &Lease) {
        // The time to live is stored first. Between the two stores, the lease can only seem to end too early.
        self.numbers[1].store(u64::try_from(lease.ttl.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.numbers[0].store(lease.renewed_at.to_number(), Ordering::SeqCst);
    }

    pub(crate) fn renewed_at(self) -> Moment {
        Moment::from_number(self.numbers[0].load(Ordering::SeqCst))
    }

    pub(crate) fn ttl(self) -> Duration {
        Duration::from_nanos(self.numbers[1].load(Ordering::SeqCst))
    }

    /// Returns true if the server has reported that the lease does not exist any more.
    pub(crate) fn is_gone(self) -> bool {
        self.numbers[2].load(Ordering::SeqCst) != 0
    }

    pub(crate) fn set_gone(self) {
        self.numbers[2].store(1, Ordering::SeqCst);
    }

    /// Returns true if the keeper has sent SIGTERM to the holders, because it could not renew the lease in time. The lease may have been
    /// renewed after that.
    pub(crate) fn has_ended_holders(self) -> bool {
        self.numbers[3].load(Ordering::SeqCst) != 0
    }

    pub(crate) fn set_ended_holders(self) {
        self.numbers[3].store(1, Ordering::SeqCst);
    }

    /// Returns true if the lease has ended.
    pub(crate) fn has_ended(self) -> bool {
        self.is_gone() || self.renewed_at().plus(self.ttl()).is_past()
    }

    /// The time that the script gets after SIGTERM: a third of the time to live.
    pub(crate) fn grace(self) -> Duration {
        self.ttl() / 3
    }

    /// The moment at which the loss is reported, unless the lease is renewed before.
    pub(crate) fn reported_at(self) -> Moment {
        if self.is_gone() { self.renewed_at() } else { self.renewed_at().plus(self.ttl().saturating_sub(self.grace())) }
    }
}
