//! The result of one check, as `doctor` prints it.

use crate::store::error::StoreError;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Fine,
    /// Locks work, but the user should know this.
    Note,
    /// Locks do not work as they should, a user cannot acquire them, or a configured feature such as the event log does
    /// not work.
    Wrong,
}

impl Level {
    /// Returns the word that the output contains.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The subject of the check. Scripts may compare it, so it does not change.
    pub check: &'static str,
    pub level: Level,
    /// The result, as a sentence.
    pub found: String,
    /// The next step for the user, if something is wrong.
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

    /// Creates the finding for a variable that names no usable directory.
    pub(super) fn from_store_error(check: &'static str, error: &StoreError) -> Self {
        let finding = Self::wrong(check, error.to_string());
        match error.hint() {
            Some(hint) => finding.hint(hint),
            None => finding.hint("set it to the absolute path of a writable directory on a local disk"),
        }
    }
}

/// The callback that receives each finding.
pub(super) type Report<'a> = &'a mut dyn FnMut(Finding);
