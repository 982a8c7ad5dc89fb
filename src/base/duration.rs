//! Time spans in options and messages.

#[cfg(any(test, fuzzing))]
pub mod properties;

use std::fmt::Write;
use std::time::Duration;

/// The form of a time, for messages.
pub const TIME_RULE: &str = "a time such as 30, 90s or 1h30m";

/// The units, and each in milliseconds.
const UNITS: [(&str, u32); 6] =
    [("w", 7 * 24 * 3_600_000), ("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Parses a time span: a number of seconds (`30`, `1.5`), or numbers with units, the larger unit first (`90s`, `5m`, `1h30m`,
/// `2d`, `500ms`). A span above zero is not rounded to zero, because zero often means something else.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    let span = parse_seconds(text).or_else(|| parse_with_units(text))?;
    let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    (is_zero || !span.is_zero()).then_some(span)
}

fn parse_with_units(text: &str) -> Option<Duration> {
    let (mut units, mut rest, mut span) = (UNITS.iter(), text, None::<Duration>);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.bytes().position(|byte| !is_of_number(byte))?);
        let (unit, after) = after.split_at(after.bytes().position(is_of_number).unwrap_or(after.len()));
        // The iterator begins after the unit before, so a unit that is not smaller is not found.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        let part = match millis {
            1 => parse_seconds(number)? / 1000,
            _ => parse_seconds(number)?.checked_mul(millis / 1000)?,
        };
        span = Some(span.unwrap_or_default().checked_add(part)?);
        rest = after;
    }
    span
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

/// Parses a number of seconds, such as `5` or `0.25`.
fn parse_seconds(text: &str) -> Option<Duration> {
    // `f64` also parses `inf`, `nan` and `1e9`, which are typing errors here.
    if !text.bytes().all(is_of_number) {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Writes the unit after a time that is only a number of seconds: `60` to `60 seconds`. A time with a unit stays as it is.
#[must_use]
pub fn name_span(text: &str) -> String {
    match text {
        "1" => "1 second".to_owned(),
        _ if text.bytes().all(is_of_number) => format!("{text} seconds"),
        _ => text.to_owned(),
    }
}

/// Formats a time span: `13s`, `2m13s`, `3h05m`, `2d04h`.
#[must_use]
pub fn format_span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Formats a time that the user gave as a limit: as [`format_span`] does, but a short time with its fraction, and a long one
/// without parts that are zero: `0.5s`, `1m30s`, `5m`, `1h30m`.
#[must_use]
pub fn format_limit(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    if seconds < 60 {
        return format!("{}s", f64::from(u32::try_from(span.as_millis()).unwrap_or(0)) / 1000.0);
    }
    let mut rest = seconds * 1000 + u64::from(millis);
    let mut text = String::new();
    for (unit, len) in UNITS {
        let len = u64::from(len);
        if unit != "w" && rest / len > 0 {
            let _ = write!(text, "{}{unit}", rest / len);
            rest %= len;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_digits_and_a_point() {
        assert_eq!(parse_span("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_span(".25"), Some(Duration::from_millis(250)));
        assert_eq!(parse_span("0.0"), Some(Duration::ZERO));
        for bad in ["", ".", "-1", "1e9", "inf", "nan", "abc", "1.2.3", "0.0000000001", "99999999999999999999999"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_limit_is_formatted_without_parts_that_are_zero() {
        for text in ["0.5s", "5s", "1m30s", "1h", "1h30m", "2d", "21d", "1m500ms"] {
            assert_eq!(parse_span(text).map(format_limit).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_time_is_named_with_its_unit() {
        let names = ["1", "60", "0.5", "1m"].map(name_span);
        assert_eq!(names, ["1 second", "60 seconds", "0.5 seconds", "1m"]);
    }

    #[test]
    fn a_span_is_numbers_with_units_in_order() {
        let seconds = |text| parse_span(text).map(|span| span.as_secs_f64());
        for (text, value) in [
            ("30", 30.0),
            ("30s", 30.0),
            ("10m", 600.0),
            ("2h", 7200.0),
            ("7d", 604_800.0),
            ("2w", 1_209_600.0),
            ("1.5h", 5400.0),
            ("500ms", 0.5),
            ("1h30m", 5400.0),
            ("1d12h", 129_600.0),
            ("1m0.5s", 60.5),
            ("1w1d1h1m1s1ms", 694_861.001),
            ("0s", 0.0),
        ] {
            assert_eq!(seconds(text), Some(value), "{text}");
        }
        for bad in [
            "d",
            "-1d",
            "1y",
            "1 d",
            "1dd",
            "d1",
            "1D",
            "inf",
            "18446744073709551615w",
            "1h30",
            "30m1h",
            "1m1m",
            "1ms1s",
            "h30m",
            "1hm",
            "0.0000001ms",
            "1.2.3s",
            "5min",
        ] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
