//! The history of a walk: a file to which each actor appends what it did, one write a line, so that lines never mix and
//! their order is that in which they were written.
//!
//! A line is `NANOSECONDS ACTOR VERB WORDS...`; the time is of the monotonic clock, for people: the order counts. The
//! verbs are those that [`crate::checker`] knows.

use crate::kernel;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The history, open for one more line.
pub(crate) struct Journal(File);

impl Journal {
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::options().append(true).create(true).open(path).unwrap())
    }

    /// Appends a line.
    pub(crate) fn note(&self, actor: &str, what: &str) {
        let line = format!("{} {actor} {what}\n", kernel::monotonic());
        assert_eq!((&self.0).write(line.as_bytes()).unwrap(), line.len(), "a line of the history was cut");
    }
}
