//! One row of a registry: a number that is reserved for a key, and the text line that stores it. `contents` calls the
//! functions that format and parse a line.

use super::ancestry::Ancestry;
use super::escape::{escape_path, unescape_path};
use super::pool::Tag;
use super::range::parse_number;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A number that is reserved for a key, which is the directory and the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub number: u32,
    /// The time of the reservation, in seconds since 1970.
    pub created: u64,
    /// The time of the last request for the number, in seconds since 1970.
    pub used: u64,
    /// The ancestry of the directory at the time of the last request.
    pub ancestry: Ancestry,
    pub tag: Tag,
    pub directory: PathBuf,
}

pub(super) fn format_row(row: &Row) -> Vec<u8> {
    let Row { number, created, used, ancestry, tag, .. } = row;
    let mut line = format!("{number} {created} {used} {ancestry} {} ", tag.as_field()).into_bytes();
    line.extend_from_slice(&escape_path(&row.directory));
    line.push(b'\n');
    line
}

/// Parses a line. Returns `None` if [`format_row`] would not write exactly this line, because a damaged line could look
/// like the valid row of another directory.
pub(super) fn parse_row(text: &[u8]) -> Option<Row> {
    let row = parse_row_fields(text)?;
    (format_row(&row) == text).then_some(row)
}

fn parse_row_fields(line: &[u8]) -> Option<Row> {
    let mut words = line.strip_suffix(b"\n")?.split(|byte| *byte == b' ');
    let mut word = || words.next();
    let text = |word: Option<&'_ [u8]>| word.and_then(|word| std::str::from_utf8(word).ok().map(str::to_owned));
    let number = parse_number(&text(word())?)?;
    let created = text(word())?.parse().ok()?;
    let used = text(word())?.parse().ok()?;
    let ancestry = Ancestry::parse(&text(word())?)?;
    let tag = Tag::parse_field(&text(word())?)?;
    let directory = unescape_path(word()?)?;
    (words.next().is_none() && directory.is_absolute()).then_some(Row {
        number,
        created,
        used,
        ancestry,
        tag,
        directory,
    })
}

/// Returns the current time in seconds since 1970.
#[must_use]
pub fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
