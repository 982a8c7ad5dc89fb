//! Time spans as the lock service reads and writes them: `"90s"`, `"1h30m"`, `90`, `0.5`.

use aba_lock::base::duration::parse_span;
use serde_json::Value;
use std::time::Duration;

/// The longest span, about ten years.
pub const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The shortest span other than 0. A shorter one would have passed before the answer arrives, or would be rounded to 0,
/// which means that there is no limit.
const SHORTEST: Duration = Duration::from_millis(1);

/// The error for a value that is not a span, or is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidSpan;

/// Reads the span in a member of a JSON object. `None`: the member is missing, null, empty or 0.
pub fn read_json(value: Option<&Value>) -> Result<Option<Duration>, InvalidSpan> {
    let span = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => parse_span(text),
        Some(Value::Number(number)) => number.as_f64().and_then(from_seconds),
        Some(_) => None,
    };
    check(span.ok_or(InvalidSpan)?)
}

/// Checks that a span is within the limits. `None`: it is 0.
pub fn check(span: Duration) -> Result<Option<Duration>, InvalidSpan> {
    match span {
        Duration::ZERO => Ok(None),
        span if (SHORTEST..=LONGEST).contains(&span) => Ok(Some(span)),
        _ => Err(InvalidSpan),
    }
}

/// Returns this number of seconds, unless it is positive and would be rounded to 0.
fn from_seconds(seconds: f64) -> Option<Duration> {
    let span = Duration::try_from_secs_f64(seconds).ok()?;
    (seconds <= 0.0 || !span.is_zero()).then_some(span)
}

/// Formats a span like the JSON form of Google's `Duration`: `90s`, `0.5s`.
#[must_use]
pub fn format(span: Duration) -> String {
    format!("{}s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_are_numbers_and_texts_with_units() {
        let seconds = |value| read_json(Some(&value)).map(|span| span.map(|span| span.as_secs_f64()));
        assert_eq!(seconds(json!("90s")), Ok(Some(90.0)));
        assert_eq!(seconds(json!("30m")), Ok(Some(1800.0)));
        assert_eq!(seconds(json!("1.5h")), Ok(Some(5400.0)));
        assert_eq!(seconds(json!("250ms")), Ok(Some(0.25)));
        assert_eq!(seconds(json!("7")), Ok(Some(7.0)));
        assert_eq!(seconds(json!(0.5)), Ok(Some(0.5)));
        for nothing in [json!(null), json!(""), json!(0), json!("0s")] {
            assert_eq!(seconds(nothing), Ok(None));
        }
        for bad in
            [json!("s"), json!("-1s"), json!(-1), json!("1e3"), json!("soon"), json!([]), json!("9999d9"), json!(1e300)]
        {
            assert_eq!(seconds(bad.clone()), Err(InvalidSpan), "{bad}");
        }
    }

    #[test]
    fn a_positive_span_that_would_be_rounded_to_zero_is_invalid() {
        for bad in [json!("0.0000000001"), json!(1e-9), json!(1e-300), json!("0.9ms"), json!("0.0009s")] {
            assert_eq!(read_json(Some(&bad)), Err(InvalidSpan), "{bad}");
        }
        assert_eq!(check(Duration::from_nanos(1)), Err(InvalidSpan));
        assert_eq!(read_json(Some(&json!("1ms"))), Ok(Some(Duration::from_millis(1))));
    }

    #[test]
    fn a_formatted_span_parses_to_the_same_span() {
        for span in [Duration::from_secs(90), Duration::from_millis(500)] {
            assert_eq!(read_json(Some(&json!(format(span)))), Ok(Some(span)));
        }
    }
}
