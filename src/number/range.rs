//! Ranges of numbers.

use std::fmt;

/// The most numbers that a range may have.
pub const MAX_NUMBERS: u32 = 1_000_000;

/// Numbers from the first to the last, both of them in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRange {
    /// The lowest.
    pub first: u32,
    /// The highest.
    pub last: u32,
}

impl NumberRange {
    /// Takes `N` or `A-B` as a range. `None` for anything else, for one that runs backwards, and for more numbers than
    /// [`MAX_NUMBERS`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (parse_number(first)?, parse_number(last)?);
        (first <= last && last - first < MAX_NUMBERS).then_some(Self { first, last })
    }

    /// Whether it has this number.
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

/// A number as people write it: digits, without `+` or zeros in front.
#[must_use]
pub fn parse_number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_number_or_two() {
        assert_eq!(NumberRange::parse("5"), Some(NumberRange { first: 5, last: 5 }));
        assert_eq!(NumberRange::parse("5000-7000"), Some(NumberRange { first: 5000, last: 7000 }));
        for bad in ["", "-", "5-", "-5", "7-5", "a", "05", "+5", "1-2-3", "1 - 2", "4294967296", "0-1000000"] {
            assert_eq!(NumberRange::parse(bad), None, "{bad}");
        }
    }
}
