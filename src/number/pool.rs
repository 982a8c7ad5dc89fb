//! Pools and tags.

use super::error::NumberError;
use super::range::NumberRange;
use crate::base::names;
use std::fmt;

/// The pool that is meant where none is named.
pub const PORTS: &str = "ports";

/// The numbers of that pool where no range is given.
pub const PORT_RANGE: NumberRange = NumberRange { first: 5000, last: 7000 };

/// The name of a pool: letters, digits, `_` and `-`, not beginning with `-`; at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool(String);

impl Pool {
    /// Takes `text` as a name. [`NumberError::Pool`] when it is none.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(NumberError::Pool { pool: text.to_owned() })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its numbers are ports.
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

/// What a directory calls one of its numbers: as the name of a lock, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(String);

impl Tag {
    /// Takes `text` as a tag. [`NumberError::Tag`] when it is none.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        if names::keeps_rule(text) { Ok(Self(text.to_owned())) } else { Err(NumberError::Tag { tag: text.to_owned() }) }
    }

    /// The tag as text; empty where there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the registry has it: `-` where there is none.
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
    fn a_pool_is_a_file_name_and_no_path() {
        for good in ["ports", "GPU_0", "display-1"] {
            assert!(Pool::parse(good).is_ok());
        }
        for bad in ["", "a.lock", "a/b", "..", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(Pool::parse(bad).is_err(), "{bad}");
        }
    }
}
