//! Rows of a registry.

use super::ancestry::Place;
use super::escape::{escaped, unescaped};
use super::pool::Tag;
use super::range::number;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A number that is kept for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The number.
    pub number: u32,
    /// When it was given, in seconds since 1970.
    pub created: u64,
    /// When it was last asked for, in seconds since 1970.
    pub used: u64,
    /// Where the directory was then.
    pub place: Place,
    /// The tag.
    pub tag: Tag,
    /// The directory.
    pub directory: PathBuf,
}

pub(super) fn line(row: &Row) -> Vec<u8> {
    let Row { number, created, used, place, tag, .. } = row;
    let mut line = format!("{number} {created} {used} {place} {} ", tag.word()).into_bytes();
    line.extend_from_slice(&escaped(&row.directory));
    line.push(b'\n');
    line
}

/// The row in a line, if it is one as we write it: what was changed may still look like one, of another directory.
pub(super) fn row(text: &[u8]) -> Option<Row> {
    let row = row_like(text)?;
    (line(&row) == text).then_some(row)
}

fn row_like(line: &[u8]) -> Option<Row> {
    let mut words = line.strip_suffix(b"\n")?.split(|byte| *byte == b' ');
    let mut word = || words.next();
    let text = |word: Option<&'_ [u8]>| word.and_then(|word| std::str::from_utf8(word).ok().map(str::to_owned));
    let number = number(&text(word())?)?;
    let created = text(word())?.parse().ok()?;
    let used = text(word())?.parse().ok()?;
    let place = Place::parse(&text(word())?)?;
    let tag = Tag::of_word(&text(word())?)?;
    let directory = unescaped(word()?)?;
    (words.next().is_none() && directory.is_absolute()).then_some(Row { number, created, used, place, tag, directory })
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
