//! Repeated requests while no server answers.

use crate::fault::Fault;
use crate::lease::WaitLimit;
use crate::os::clock::Moment;
use crate::server::lease_server::WaitObserver;
use std::thread;
use std::time::Duration;

/// The pause between two tries.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// The time after which an acquisition that does not wait for a lease gives up.
const LIMIT: Duration = Duration::from_secs(8);

/// The tries of one acquisition.
pub(crate) struct Retry {
    limit: WaitLimit,
    end: Moment,
}

impl Retry {
    pub(crate) fn begin(limit: WaitLimit) -> Self {
        Self { limit, end: Moment::now().plus(LIMIT) }
    }

    /// Pauses before the next try. Fails if the time is over; `what` is the reason why no server answers.
    pub(crate) fn pause(&self, what: String, observer: &mut dyn WaitObserver) -> Result<(), Fault> {
        let is_over = if self.limit == WaitLimit::NoWait { self.end.is_past() } else { self.limit.is_over() };
        if is_over {
            return Err(Fault::Unreachable { what });
        }
        observer.report_silence(&what);
        thread::sleep(self.limit.cap(PAUSE));
        Ok(())
    }
}
