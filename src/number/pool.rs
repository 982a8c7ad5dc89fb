//! The names of pools, and the tags that distinguish the numbers of one directory.

use super::error::NumberError;
use super::range::NumberRange;
use crate::base::names;
use std::fmt;

/// The pool that is used if the caller names none.
pub const PORTS: &str = "ports";

/// The range of the pool `ports` if the caller gives none.
pub const PORT_RANGE: NumberRange = NumberRange { first: 5000, last: 7000 };

/// The name of a pool: 1 to 64 letters, digits, `_` and `-`, and not a leading `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool(String);

impl Pool {
    /// Parses a name. Returns [`NumberError::Pool`] if it is invalid.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(NumberError::Pool { pool: text.to_owned() })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_ports(&self) -> bool {
        self.0 == PORTS
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The purpose of a number within its directory, such as `web`. A tag follows the rule for names of locks, or is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(String);

impl Tag {
    /// Parses a tag. Returns [`NumberError::Tag`] if it is invalid.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        if names::keeps_rule(text) { Ok(Self(text.to_owned())) } else { Err(NumberError::Tag { tag: text.to_owned() }) }
    }

    /// Returns the tag, which may be empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tag as it is written in a registry and in lists: `-` if it is empty.
    #[must_use]
    pub fn as_field(&self) -> &str {
        if self.0.is_empty() { "-" } else { &self.0 }
    }

    pub(super) fn parse_field(word: &str) -> Option<Self> {
        if word == "-" { Some(Self::default()) } else { Self::parse(word).ok() }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_field())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pool_is_a_file_name() {
        for good in ["ports", "GPU_0", "display-1"] {
            assert!(Pool::parse(good).is_ok());
        }
        for bad in ["", "a.lock", "a/b", "..", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(Pool::parse(bad).is_err(), "{bad}");
        }
    }
}
