//! The doctor: looks at everything that a lock depends on here, and says of each thing that it is fine, or what is wrong
//! and how to mend it.
//!
//! Looking changes nothing: it takes no lock that another could want, and makes no file that stays. Whether locks shut
//! out is tried on a file without a name. What cannot be looked at is a finding, too: no check ends the others.
//!
//! The findings are told one by one, in an order in which what can hang (a dead server) comes late: where it hangs,
//! the last line tells what came before.

mod around;
mod files;
mod installed;
mod locking;
mod mounts;
mod root;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use mounts::properties as mounts_properties;

use std::path::Path;

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
    fn new(check: &'static str, level: Level, found: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), hint: None }
    }

    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Fine, found)
    }

    fn note(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Note, found)
    }

    fn wrong(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Wrong, found)
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// What this helper has in it, to be compared with what is installed.
#[derive(Debug)]
pub struct Ours {
    /// Its version.
    pub version: &'static str,
    /// The shell library.
    pub library: &'static str,
    /// The completions: the shell, where they are installed below a directory for data, and what is there.
    pub completions: [(&'static str, &'static str, &'static str); 3],
}

/// What the caller says of the shell library that it uses.
#[derive(Debug, Clone, Copy)]
pub struct Library<'a> {
    /// Where it is.
    pub path: Option<&'a Path>,
    /// Which version the calling script has sourced.
    pub sourced: Option<&'a str>,
}

/// Who is told of the findings.
type Tell<'a> = &'a mut dyn FnMut(Finding);

/// Looks at everything, and tells of each finding at once.
pub fn examine(ours: &Ours, library: Library, tell: Tell) {
    installed::helper(ours, tell);
    installed::library(ours, library, tell);
    installed::completions(ours, tell);
    around::environment(tell);
    around::limits(tell);
    around::proc(tell);
    root::examine(tell);
}
