//! Numbers as C programs read them: whole numbers (strtol(3)), seconds (strtod(3)), and sizes (`strtosize` of
//! util-linux).
//!
//! Only the options of `flock` are read so, because scripts rely on what flock(1) accepts. A process that locks a range
//! of bytes excludes another only if both read the same text as the same number.

use std::ffi::OsStr;
use std::time::Duration;

/// The maximum time of a wait, in the way of flock(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// A time for which a timer can be set.
    After(Duration),
    /// A time for which no timer can be set: negative, not a number, or more seconds than the system counts.
    Impossible,
}

/// Removes the blanks that strtol(3) and strtod(3) allow before a number.
fn trim_blanks(value: &OsStr) -> Option<&str> {
    let text = value.to_str()?;
    Some(text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']))
}

/// Parses a whole number as strtol(3) does.
pub(super) fn parse_integer(value: &OsStr) -> Option<i32> {
    // The standard library accepts `+7`, `-7` and leading zeros, and C accepts nothing else with base 10.
    trim_blanks(value)?.parse().ok()
}

/// Parses seconds as strtod(3) does. Fractions of a microsecond are dropped, as by flock(1).
pub(super) fn parse_timeout(value: &OsStr) -> Option<Timeout> {
    let seconds = parse_float(trim_blanks(value)?)?;
    let micros = (seconds.fract() * 1e6).trunc();
    let whole = seconds.trunc();
    // The first number of seconds that does not fit is 2^63.
    if !(0.0..9_223_372_036_854_775_808.0).contains(&whole) || micros < 0.0 {
        return Some(Timeout::Impossible);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are checked above")]
    Some(Timeout::After(Duration::from_secs(whole as u64) + Duration::from_micros(micros as u64)))
}

fn parse_float(text: &str) -> Option<f64> {
    let (minus, rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => parse_hexadecimal(&rest[2..])?,
        // A second sign.
        [b'+' | b'-', ..] => return None,
        // `get`, because the third byte may be in the middle of a character.
        _ if rest.len() > 3 && rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("nan")) => {
            return parse_nan_payload(&rest[3..]);
        }
        _ => rest.parse().ok()?,
    };
    Some(if minus { -value } else { value })
}

/// Parses the part of `nan(1)` after `nan`, which C allows.
fn parse_nan_payload(text: &str) -> Option<f64> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(f64::NAN)
}

/// Parses a hexadecimal number of C such as `0x1.8p3`, without the `0x`.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once(['p', 'P']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(part.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let below = i32::try_from(part.len()).ok()?.checked_mul(4)?;
    Some(value * 2.0_f64.powi(exponent.checked_sub(below)?))
}

/// Parses a number of bytes as `strtosize` of util-linux does: `4096`, `0x1000`, `010000` (octal), `4K`, `4KiB` (times
/// 1024), `4KB` (times 1000), `1.5M`, and so on with G, T, P and E. A fraction without a unit is refused.
///
/// A number of up to 64 bits is returned, because flock(1) leaves it to the kernel to refuse an offset that no file can
/// have (status 65). Only more than 64 bits are no number (status 64).
pub(super) fn parse_size(value: &OsStr) -> Option<u64> {
    let text = trim_blanks(value)?;
    let text = text.strip_prefix('+').unwrap_or(text);
    let (whole, rest) = match text.as_bytes() {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => split_number(&text[2..], 16)?,
        [b'0', ..] => split_number(text, 8)?,
        _ => split_number(text, 10)?,
    };
    if rest.is_empty() {
        return Some(whole);
    }
    let (zeros, fraction, suffix) = match rest.strip_prefix('.') {
        None => (0, 0, rest),
        Some(decimals) => {
            let digits = decimals.trim_start_matches('0');
            let (fraction, suffix) = match digits.as_bytes() {
                [b'1'..=b'9', ..] => split_number(digits, 10)?,
                _ => (0, digits),
            };
            (decimals.len() - digits.len(), fraction, suffix)
        }
    };
    let (letter, base) = match suffix.as_bytes() {
        [letter] | [letter, b'i', b'B' | b'b'] => (letter, 1024_u64),
        [letter, b'B' | b'b'] => (letter, 1000),
        _ => return None,
    };
    // Every number of zettabytes is too large.
    let power = b"KMGTPE".iter().position(|known| *known == letter.to_ascii_uppercase())?;
    let unit = base.checked_pow(u32::try_from(power).ok()? + 1)?;
    whole.checked_mul(unit)?.checked_add(compute_fraction(unit, zeros, fraction)?)
}

/// Splits a text into the number at its beginning and the rest. `None`: there is no number, or it has more than 64
/// bits.
fn split_number(text: &str, radix: u32) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    Some((u64::from_str_radix(&text[..end], radix).ok()?, &text[end..]))
}

/// Returns the bytes of a decimal fraction of a unit, computed with the same integer divisions as in util-linux.
///
/// They are inexact (`1.7K` is 2048, not 1740). But two processes exclude each other only if both lock the same bytes,
/// so what matters is that a script with flock(1) and one with this command read one text as one number.
fn compute_fraction(unit: u64, zeros: usize, mut fraction: u64) -> Option<u64> {
    let mut divisor: u64 = 10;
    while divisor < fraction {
        add_decimal_place(&mut divisor, &mut fraction);
    }
    for _ in 0..zeros {
        add_decimal_place(&mut divisor, &mut fraction);
    }
    let mut bytes: u64 = 0;
    while fraction > 0 {
        let parts = divisor.checked_div(fraction % 10).unwrap_or(0);
        bytes = bytes.checked_add(unit.checked_div(parts).unwrap_or(0))?;
        fraction /= 10;
        divisor /= 10;
    }
    Some(bytes)
}

/// Makes the divisor of the last decimal place ten times as large, or drops that place where the divisor cannot grow.
fn add_decimal_place(divisor: &mut u64, fraction: &mut u64) {
    match divisor.checked_mul(10) {
        Some(longer) => *divisor = longer,
        None => *fraction /= 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<Timeout> {
        parse_timeout(OsStr::new(text))
    }

    #[test]
    fn times_are_read_as_c_reads_them() {
        let after = |seconds| Some(Timeout::After(Duration::from_secs_f64(seconds)));
        for (text, value) in
            [("1", 1.0), (".5", 0.5), ("5.", 5.0), ("1e1", 10.0), ("0x10", 16.0), ("0x1.8p3", 12.0), (" +1", 1.0)]
        {
            assert_eq!(seconds(text), after(value), "{text}");
        }
        for text in ["0", "-0", "0.0000009", "-0.0000001", "1e-400"] {
            assert_eq!(seconds(text), Some(Timeout::After(Duration::ZERO)), "{text}");
        }
        for text in ["-1", "-0.5", "inf", "-infinity", "nan", "NaN(1_a)", "1e400", "9.3e18"] {
            assert_eq!(seconds(text), Some(Timeout::Impossible), "{text}");
        }
        for text in [
            "",
            " ",
            "1 ",
            "1x",
            "1,5",
            "--1",
            "+-1",
            ".",
            "0x",
            "0xp1",
            "0x1.8.1",
            "1_0",
            "nan(",
            "e1",
            "\u{661}",
            "\u{e9}\u{e9}",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert!(matches!(seconds("9e18"), Some(Timeout::After(_))));
    }

    #[test]
    fn sizes_are_read_as_util_linux_reads_them() {
        let size = |text: &str| parse_size(OsStr::new(text));
        // Each value is what `ul_parse_size` of util-linux 2.42 returned.
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            (" +4096", 4096),
            ("0x10", 16),
            ("0XfF", 255),
            ("0x10K", 16384),
            ("0x1e", 30),
            ("010", 8),
            ("00", 0),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("4Kib", 4096),
            ("4KB", 4000),
            ("4kb", 4000),
            ("2M", 2 << 20),
            ("1.5K", 1536),
            ("1.5KB", 1500),
            ("1.5KiB", 1536),
            ("1.K", 1024),
            ("1.0K", 1024),
            ("0.5M", 524_288),
            ("0.25G", 268_435_455),
            ("0.05KB", 50),
            ("1.7K", 2048),
            ("1.123456K", 1149),
            ("0x1.5K", 1536),
            ("7E", 7 << 60),
            ("8E", 1 << 63),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(value), "{text}");
        }
        for text in [
            "",
            " ",
            "K",
            "-1",
            "-0",
            "+-1",
            "+ 1",
            ".5K",
            "1.5",
            "1.",
            "1.KK",
            "1.5KB4",
            "4KIB",
            "4Ki",
            "4B",
            "4 K",
            "08",
            "0x",
            "0xg",
            "1,5K",
            "1.5.5K",
            "16E",
            "15.99E",
            "18446744073709551616",
            "20000000T",
            "1Z",
            "\u{661}K",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
