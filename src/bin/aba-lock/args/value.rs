//! Parsers of the values of options.

use aba_lock::base::duration;
use aba_lock::lock::kill;
use std::time::Duration;

pub(crate) fn parse_signal(text: &str) -> Result<i32, &'static str> {
    kill::parse_signal(text).ok_or("not a signal that ends a process, such as TERM, INT or 9")
}

pub(crate) fn parse_span(text: &str) -> Result<Duration, &'static str> {
    duration::parse_span(text).ok_or("not a time span such as 30s, 10m, 2h, 7d or 2w")
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, &'static str> {
    duration::parse_seconds(text).ok_or("not a number of seconds, such as 60")
}
