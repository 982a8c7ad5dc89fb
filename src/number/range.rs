//! Ranges of numbers, and the one parser of numbers that are read from files and arguments.

use std::fmt;

/// The maximum count of numbers in a range.
pub const MAX_NUMBERS: u32 = 1_000_000;

/// An inclusive range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRange {
    pub first: u32,
    pub last: u32,
}

impl NumberRange {
    /// Parses `N` or `A-B`. Returns `None` for any other text, for a range that runs backwards, and for a range of more
    /// than [`MAX_NUMBERS`] numbers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (parse_number(first)?, parse_number(last)?);
        (first <= last && last - first < MAX_NUMBERS).then_some(Self { first, last })
    }

    #[must_use]
    pub fn contains(self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

impl fmt::Display for NumberRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Parses a decimal number. Returns `None` for a sign, for leading zeros, and for a number that does not fit.
#[must_use]
pub fn parse_number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_number_or_two() {
        assert_eq!(NumberRange::parse("5"), Some(NumberRange { first: 5, last: 5 }));
        assert_eq!(NumberRange::parse("5000-7000"), Some(NumberRange { first: 5000, last: 7000 }));
        for bad in ["", "-", "5-", "-5", "7-5", "a", "05", "+5", "1-2-3", "1 - 2", "4294967296", "0-1000000"] {
            assert_eq!(NumberRange::parse(bad), None, "{bad}");
        }
    }
}
