//! Time spans in options and messages.

#[cfg(any(test, fuzzing))]
pub mod properties;

use std::time::Duration;

/// Parses a number of seconds, such as `5` or `0.25`.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<Duration> {
    // `f64` also parses `inf`, `nan` and `1e9`, which are typing errors here.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Parses a time span with a unit, or in seconds without one: `30`, `30s`, `10m`, `2h`, `7d`, `2w`.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    const UNITS: [(char, u32); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600), ('w', 7 * 24 * 3600)];
    let unit = UNITS.iter().find_map(|(letter, seconds)| Some((text.strip_suffix(*letter)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1));
    parse_seconds(number)?.checked_mul(seconds)
}

/// Converts a time span to the number of its seconds: `1.5m` to `90`.
#[must_use]
pub fn convert_to_seconds(text: &str) -> Option<String> {
    parse_span(text).map(|span| span.as_secs_f64().to_string())
}

/// Writes the unit after a number of seconds: `1 second`, `60 seconds`.
#[must_use]
pub fn name_seconds(number: &str) -> String {
    format!("{number} second{}", if number == "1" { "" } else { "s" })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_digits_and_a_point() {
        assert_eq!(parse_seconds("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_seconds(".25"), Some(Duration::from_millis(250)));
        for bad in ["", ".", "-1", "1e9", "inf", "nan", "abc", "1s", "1.2.3", "99999999999999999999999"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_span_is_converted_to_seconds() {
        for (text, seconds) in [("60", "60"), ("1m", "60"), ("1.5m", "90"), ("0.5s", "0.5"), ("1d", "86400")] {
            assert_eq!(convert_to_seconds(text).as_deref(), Some(seconds), "{text}");
        }
        assert_eq!(convert_to_seconds("soon"), None);
        assert_eq!([name_seconds("1"), name_seconds("0.5")], ["1 second", "0.5 seconds"]);
    }

    #[test]
    fn a_span_is_a_number_and_perhaps_its_unit() {
        let seconds = |text| parse_span(text).map(|span| span.as_secs());
        assert_eq!(seconds("30"), Some(30));
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("2w"), Some(1_209_600));
        assert_eq!(seconds("1.5h"), Some(5400));
        for bad in ["", "d", "-1d", "1y", "1 d", "1dd", "d1", "1D", "inf", "18446744073709551615w"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
