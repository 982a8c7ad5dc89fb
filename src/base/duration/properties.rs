//! Properties of the parsers of durations and signals that must hold for any input.

use super::{parse_seconds, parse_span};
use crate::lock::kill::parse_signal;
use std::time::Duration;

/// Checks the properties.
///
/// # Panics
///
/// If a property is violated.
pub fn hold(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check_spans(text);
    if let Some(signal) = parse_signal(text) {
        let upper = text.to_ascii_uppercase();
        let is_name = upper.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && upper.starts_with(|c: char| c.is_ascii_alphabetic());
        assert!((1..=64).contains(&signal) && (is_name || text == signal.to_string()), "{text:?} as {signal}");
        assert_eq!(parse_signal(&signal.to_string()), Some(signal));
        assert!(![libc::SIGCHLD, libc::SIGCONT, libc::SIGSTOP].contains(&signal), "it would not end a process");
    }
}

fn check_spans(text: &str) {
    let seconds = parse_seconds(text);
    // A number is digits with at most one point.
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = are_digits(whole) && are_digits(part) && text.bytes().any(|byte| byte.is_ascii_digit());
    assert!(seconds.is_none() || is_number, "{text:?} as a number of seconds");
    let amount =
        whole.trim_start_matches('0').parse::<u64>().ok().or((whole.trim_matches('0').is_empty()).then_some(0));
    // A number above the range of the clock is refused. Near that limit the fraction decides, which is not checked
    // here.
    match amount.filter(|_| is_number) {
        Some(amount) if amount < 1 << 52 => {
            let seconds = seconds.expect("it is a number of seconds");
            assert!(
                seconds >= Duration::from_secs(amount) && seconds <= Duration::from_secs(amount + 1),
                "{seconds:?}"
            );
            assert!(!part.is_empty() || seconds == Duration::from_secs(amount));
        }
        Some(_) => {}
        None => assert_eq!(seconds, None),
    }
    let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    let rounded = |span: Option<Duration>| span.filter(|span| is_zero || !span.is_zero());
    for (unit, factor) in [("", 1), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("w", 604_800)] {
        if seconds.is_some() {
            let span = parse_span(&format!("{text}{unit}"));
            assert_eq!(span, rounded(seconds.and_then(|seconds| seconds.checked_mul(factor))), "{text:?}{unit}");
        }
    }
    // A span with several units is the sum of its parts.
    if let Some(at) = text.find('h')
        && let (Some(hours), Some(rest)) = (parse_span(&text[..=at]), parse_span(&text[at + 1..]))
        && text.ends_with(['m', 's'])
        && !text[at + 1..].contains(['w', 'd', 'h'])
    {
        assert_eq!(parse_span(text), hours.checked_add(rest), "{text:?}");
    }
}
