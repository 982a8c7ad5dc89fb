//! The reports, and the forms of values and titles that they share.

pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod svg;
pub(crate) mod table;

use crate::row::{Row, Unit};

/// Formats a value with its unit and three digits.
pub(crate) fn format_value(value: f64, unit: Unit) -> String {
    let (value, unit) = match unit {
        Unit::Microseconds if value >= 1e6 => (value / 1e6, "s"),
        Unit::Microseconds if value >= 1e3 => (value / 1e3, "ms"),
        Unit::Microseconds => (value, "µs"),
        Unit::Kibibytes if value >= 1024.0 => (value / 1024.0, "MiB"),
        Unit::Kibibytes => (value, "KiB"),
        Unit::PerSecond => (value, "/s"),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// Formats the name of a row, with its size.
pub(crate) fn format_title(row: &Row) -> String {
    match row.size {
        Some((1, of)) => format!("{}: 1 {}", row.name, of.trim_end_matches('s')),
        Some((size, of)) => format!("{}: {} {of}", row.name, format_thousands(size)),
        None => row.name.clone(),
    }
}

fn format_thousands(number: u32) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
