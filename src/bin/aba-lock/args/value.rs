//! Parsers of the values of options.

use aba_lock::base::duration;
use aba_lock::base::environment::ColourChoice;
use aba_lock::lock::kill;
use aba_lock::lock::request::Coalescing;
use aba_lock::os::Priority;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::time::Duration;

pub(crate) fn parse_signal(text: &str) -> Result<i32, &'static str> {
    kill::parse_signal(text).ok_or("not a signal that ends a process, such as TERM, INT or 9")
}

pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    duration::parse_span(text).ok_or_else(|| format!("not {}", duration::TIME_RULE))
}

pub(crate) fn coalescing() -> impl TypedValueParser<Value = Coalescing> {
    let parse = |text: String| if text == "strict" { Coalescing::Strict } else { Coalescing::Started };
    PossibleValuesParser::new(["started", "strict"]).map(parse)
}

/// The parser of `--color`.
pub(crate) fn colour_choice() -> impl TypedValueParser<Value = ColourChoice> {
    PossibleValuesParser::new(["auto", "always", "never"]).map(|text: String| match text.as_str() {
        "always" => ColourChoice::Always,
        "never" => ColourChoice::Never,
        _ => ColourChoice::Auto,
    })
}

/// The parser of `--priority`.
pub(crate) fn priority() -> impl TypedValueParser<Value = Priority> {
    let levels = Priority::ALL.map(Priority::as_str);
    PossibleValuesParser::new(levels).map(|text: String| Priority::parse(&text).unwrap_or(Priority::Normal))
}

/// Parses a number of days, such as `30`, `30d` or `4w`.
pub(crate) fn parse_days(text: &str) -> Result<u32, &'static str> {
    const DAY: u64 = 24 * 3600;
    // A number without a unit is not in seconds here.
    let number = text.parse().ok();
    let span = || duration::parse_span(text).filter(|span| span.subsec_nanos() == 0 && span.as_secs() % DAY == 0);
    let days = number.or_else(|| u32::try_from(span()?.as_secs() / DAY).ok());
    days.ok_or("not a number of days, such as 30 or 30d")
}
