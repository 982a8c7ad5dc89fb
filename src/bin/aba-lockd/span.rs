//! Time spans as people and programs write them: `"90s"`, `"30m"`, `90`, `0.5`.

use serde_json::Value;
use std::time::Duration;

/// Nothing here lasts longer: about ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Nor less long, but for 0. It would have passed before anybody is told; or it is taken for 0, which is without an end.
const SHORTEST: Duration = Duration::from_millis(1);

/// The span in a member of a JSON object. Nothing, if it is not there, null, empty or 0.
pub(crate) fn in_json(value: Option<&Value>) -> Result<Option<Duration>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => parse(text).ok_or(()).and_then(checked),
        Some(Value::Number(number)) => exact(number.as_f64().ok_or(())?).ok_or(()).and_then(checked),
        Some(_) => Err(()),
    }
}

/// Not longer than anything lasts, nor shorter; nothing if it is 0.
pub(crate) fn checked(span: Duration) -> Result<Option<Duration>, ()> {
    match span {
        Duration::ZERO => Ok(None),
        span if (SHORTEST..=LONGEST).contains(&span) => Ok(Some(span)),
        _ => Err(()),
    }
}

/// So many seconds: what is more than nothing does not become nothing.
fn exact(seconds: f64) -> Option<Duration> {
    let span = Duration::try_from_secs_f64(seconds).ok()?;
    (seconds <= 0.0 || !span.is_zero()).then_some(span)
}

/// `1.5`, `90s`, `500ms`, `30m`, `2h`, `7d`. Seconds if there is no unit.
fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let unit = UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1.0));
    // `f64` also reads `inf`, `nan` and `1e9`: digits and a point are what a person means.
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    exact(number.parse::<f64>().ok()? * seconds)
}

/// As in the JSON form of Google's `Duration`: `90s`, `0.5s`.
pub(crate) fn text(span: Duration) -> String {
    format!("{}s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_are_numbers_and_texts_with_units() {
        let seconds = |value| in_json(Some(&value)).map(|span| span.map(|span| span.as_secs_f64()));
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
            assert_eq!(seconds(bad.clone()), Err(()), "{bad}");
        }
    }

    #[test]
    fn what_is_next_to_nothing_is_no_span_and_above_all_not_without_an_end() {
        for bad in [json!("0.0000000001"), json!(1e-9), json!(1e-300), json!("0.9ms"), json!("0.0009s")] {
            assert_eq!(in_json(Some(&bad)), Err(()), "{bad}");
        }
        assert_eq!(checked(Duration::from_nanos(1)), Err(()));
        assert_eq!(in_json(Some(&json!("1ms"))), Ok(Some(Duration::from_millis(1))));
    }

    #[test]
    fn a_span_is_shown_as_it_is_read() {
        for span in [Duration::from_secs(90), Duration::from_millis(500)] {
            assert_eq!(in_json(Some(&json!(text(span)))), Ok(Some(span)));
        }
    }
}
