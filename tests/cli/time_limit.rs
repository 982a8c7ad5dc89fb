//! Calls with a time limit in which a command must get to some point. On a busy machine, a short limit can be over before that.

use std::time::Duration;

/// Calls `attempt` with longer and longer limits, until it returns true: until the command got to that point in time.
pub(crate) fn with_enough_time(attempt: impl FnMut(&str) -> bool) {
    let enough = ["0.3", "1", "4", "16", "50"].into_iter().any(attempt);
    assert!(enough, "the command got nowhere within any of the limits");
}

/// A timeout after which a call must have reported its wait, which it does after a tenth of a second, and the text for it.
pub(crate) const AFTER_REPORT: (Duration, &str) = (Duration::from_secs(6), "6");
