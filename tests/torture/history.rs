//! The history of a walk: a file to which each actor appends what it did.
//!
//! A line is `NANOSECONDS ACTOR VERB WORDS...`, with the verbs that [`crate::checker`] documents. Each line is one write(2)
//! in append mode, so lines never mix, and their order is the order in which they were written. The checker uses the order
//! alone; the time, of the monotonic clock, is for people.

use crate::kernel;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A history that is open for appending.
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
