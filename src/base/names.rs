//! The names of locks and the ids of tasks, and the rule for them.
//!
//! A name becomes part of a file name or is the name of a directory, and messages show it. So the rule excludes all
//! characters that have a meaning in a path, on a terminal or in a shell. Each [`LockName`] and each [`TaskId`]
//! keeps the rule.

#[cfg(any(test, fuzzing))]
pub mod properties;

use super::error::ContextError;
use std::fmt;

/// Maximum length of a name, in bytes.
pub const MAX_LEN: usize = 128;

/// Returns true if a text keeps the rule for names ([`NAME_RULE`](super::error::NAME_RULE)).
pub(crate) fn keeps_rule(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@+".contains(&byte);
    let well_begun = !text.starts_with(['.', '-']);
    (1..=MAX_LEN).contains(&text.len()) && well_begun && text.bytes().all(allowed)
}

/// The name of a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockName(String);

impl LockName {
    /// Parses a name. Fails with [`ContextError::LockName`] if it breaks the rule.
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        if keeps_rule(text) { Ok(Self(text.to_owned())) } else { Err(ContextError::LockName { name: text.to_owned() }) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(String);

impl TaskId {
    /// Parses an id. Fails with [`ContextError::TaskId`] if it breaks the rule.
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        if keeps_rule(text) { Ok(Self(text.to_owned())) } else { Err(ContextError::TaskId { id: text.to_owned() }) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<LockName> for TaskId {
    /// Both have the same rule.
    fn from(name: LockName) -> Self {
        Self(name.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_the_rule() {
        for good in ["a", "mirror-save", "A.b_c-d:e@f+g", "0", &"x".repeat(128)] {
            assert_eq!(LockName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "-a", "a/b", "../a", "a b", "a\n", "ä", "a\0", "a*", "~", &"x".repeat(129)] {
            assert!(LockName::parse(bad).is_err(), "{bad:?} was accepted as a name");
            assert!(TaskId::parse(bad).is_err(), "{bad:?} was accepted as an id");
        }
    }
}
