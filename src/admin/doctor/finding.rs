//! Findings.

use crate::store::error::StoreError;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Worth to know; locks work all the same.
    Note,
    /// Locks do not work as they should, or somebody is kept from them; or what was asked for beside them is not done.
    Wrong,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: one of a few words, which stay.
    pub check: &'static str,
    /// How good or bad it is.
    pub level: Level,
    /// What was found: a sentence.
    pub found: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn new(check: &'static str, level: Level, found: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), hint: None }
    }

    pub(super) fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Fine, found)
    }

    pub(super) fn note(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Note, found)
    }

    pub(super) fn wrong(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Wrong, found)
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// How a variable that leads nowhere is told.
    pub(super) fn from_store_error(check: &'static str, error: &StoreError) -> Self {
        let finding = Self::wrong(check, error.to_string());
        match error.hint() {
            Some(hint) => finding.hint(hint),
            None => finding.hint("set it to a directory of yours on a local disk"),
        }
    }
}

/// Who is told of the findings.
pub(super) type Report<'a> = &'a mut dyn FnMut(Finding);
