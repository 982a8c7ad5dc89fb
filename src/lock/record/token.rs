//! Fencing tokens.

use std::time::{SystemTime, UNIX_EPOCH};

/// In microseconds.
const CENTURY: u64 = 100 * 366 * 24 * 3600 * 1_000_000;

/// The next fencing token: it grows even if the file, and the last token with it, was removed.
#[must_use]
pub fn next_token(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(0);
    // No clock was ever so far ahead: somebody wrote it, and it would leave no room to grow.
    if last > now.saturating_add(CENTURY) { now } else { now.max(last + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_grows_also_when_the_clock_goes_back() {
        let now = next_token(0);
        assert!(now > 1_700_000_000_000_000);
        let ahead = now + CENTURY / 2;
        assert_eq!(next_token(ahead), ahead + 1);
    }

    #[test]
    fn a_token_that_nobody_can_have_been_given_does_not_stop_the_others_from_growing() {
        assert!(next_token(next_token(u64::MAX)) < u64::MAX / 2);
    }
}
