//! Fencing tokens: numbers that grow with each exclusive acquisition of a lock, so that a server can refuse a holder
//! that is late.

use std::time::{SystemTime, UNIX_EPOCH};

/// A century in microseconds.
const CENTURY: u64 = 100 * 366 * 24 * 3600 * 1_000_000;

/// Returns the token after `last`. It is the time in microseconds if that is greater, so tokens grow even if the file was
/// removed, and the last token with it.
#[must_use]
pub fn next_token(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(0);
    // No clock was ever so far ahead. Another program wrote this token, which would leave no room to grow.
    if last > now.saturating_add(CENTURY) { now } else { now.max(last + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_grows_even_if_the_clock_goes_back() {
        let now = next_token(0);
        assert!(now > 1_700_000_000_000_000);
        let ahead = now + CENTURY / 2;
        assert_eq!(next_token(ahead), ahead + 1);
    }

    #[test]
    fn tokens_can_still_grow_after_an_impossible_token() {
        assert!(next_token(next_token(u64::MAX)) < u64::MAX / 2);
    }
}
