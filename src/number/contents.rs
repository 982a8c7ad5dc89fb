//! The rows and exclusions of a registry, and their text form.
//!
//! ```text
//! aba-lock-registry 2
//! # number created used place tag directory
//! exclude 6000-6010
//! 5000 1763740000 1763741000 5be01c2f.90d11a7e.07c4ff21 web /home/steve/my\040tree
//! end 1 6f0c2b1e9d7a4853
//! ```
//!
//! The first line contains the version. A file of another version is not read any further. A row contains the number,
//! the times of the reservation and of the last use in seconds since 1970, the [ancestry](super::ancestry) of the
//! directory or `-` (the column `place`), the tag or `-`, and the escaped directory. The last line contains the number
//! of rows and a checksum over all lines before it, which detects truncation and changes by other programs. The
//! checksum is no protection from malice: a process that can write the file can do anything.
//!
//! The contents stay one text, and most lines are never parsed. A row is found by the end of its line, so that ten
//! thousand rows cost little more than ten.

#[cfg(any(test, fuzzing))]
pub mod properties;

use super::checksum::compute_checksum;
use super::escape::escape_path;
use super::pool::Tag;
use super::range::NumberRange;
use super::row::{Row, format_row, parse_row};
use memchr::{memchr_iter, memmem, memrchr};
use std::collections::HashSet;
use std::path::Path;

const MAGIC: &[u8] = b"aba-lock-registry ";
const VERSION: &[u8] = b"2";
const HEAD: &[u8] = b"aba-lock-registry 2\n# number created used place tag directory\n";
const EXCLUDE: &[u8] = b"exclude ";

/// The reason why a registry cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum UnreadableRegistry {
    /// The file has a version that this program does not know. This is its version.
    Version(String),
    /// The file is truncated, or another program changed it.
    Damaged,
}

/// The rows and exclusions of a registry, in memory.
#[derive(Debug)]
pub struct RegistryContents {
    /// All lines except the last one.
    text: Vec<u8>,
    changed: bool,
}

impl Default for RegistryContents {
    fn default() -> Self {
        Self { text: HEAD.to_vec(), changed: false }
    }
}

impl RegistryContents {
    /// Parses the content of a registry file.
    pub fn parse(mut text: Vec<u8>) -> Result<Self, UnreadableRegistry> {
        let rest = text.strip_prefix(MAGIC).ok_or(UnreadableRegistry::Damaged)?;
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(UnreadableRegistry::Damaged)?;
        if &rest[..end] != VERSION {
            // The line of another version may contain more words.
            let version = rest[..end].split(|byte| *byte == b' ').next().unwrap_or_default();
            let is_number = (1..=9).contains(&version.len()) && version.iter().all(u8::is_ascii_digit);
            let text = String::from_utf8_lossy(version).into_owned();
            return Err(if is_number && version != VERSION {
                UnreadableRegistry::Version(text)
            } else {
                UnreadableRegistry::Damaged
            });
        }
        let lines = text.strip_suffix(b"\n").ok_or(UnreadableRegistry::Damaged)?;
        let last = memrchr(b'\n', lines).ok_or(UnreadableRegistry::Damaged)? + 1;
        let sum = compute_checksum(&text[..last]);
        let is_end =
            text[last..].strip_prefix(b"end ").is_some_and(|end| end.ends_with(format!(" {sum:016x}\n").as_bytes()));
        if !is_end {
            return Err(UnreadableRegistry::Damaged);
        }
        text.truncate(last);
        Ok(Self { text, changed: false })
    }

    /// Returns the readable rows and exclusions of a damaged registry, and the number of lines that are unreadable. If
    /// two rows have the same number or the same key, the first one is kept and the second one counts as unreadable.
    #[must_use]
    pub fn recover(text: &[u8]) -> (Self, usize) {
        let (mut excluded, mut rows, mut lost) = (Vec::new(), Vec::new(), 0);
        let (mut ranges, mut numbers, mut keys) = (HashSet::new(), HashSet::new(), HashSet::new());
        let whole = memrchr(b'\n', text).map_or(0, |end| end + 1);
        for line in text[..whole].split(|byte| *byte == b'\n') {
            // An editor may have added carriage returns. No row ends with one, because paths are escaped.
            let line = [line.strip_suffix(b"\r").unwrap_or(line), b"\n"].concat();
            let line = line.as_slice();
            let known = line.starts_with(MAGIC) || line.starts_with(b"#") || line.starts_with(b"end ") || line == b"\n";
            if let Some(range) = parse_exclusion(line) {
                if ranges.insert((range.first, range.last)) {
                    excluded.extend_from_slice(&format_exclusion(range));
                }
            } else if let Some(Row { number, tag, directory, .. }) = parse_row(line) {
                // The keys are compared as bytes, as in `find`: as paths, `/a//b` and `/a/b` would be equal.
                let key = (tag, directory.into_os_string());
                if numbers.contains(&number) || keys.contains(&key) {
                    lost += 1;
                } else {
                    rows.extend_from_slice(line);
                    numbers.insert(number);
                    keys.insert(key);
                }
            } else if !known {
                lost += 1;
            }
        }
        lost += usize::from(whole < text.len());
        (Self { text: [HEAD, &excluded, &rows].concat(), changed: true }, lost)
    }

    /// Returns true if the contents were changed after they were read.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    fn set_text(&mut self, text: Vec<u8>) {
        self.changed |= text != self.text;
        self.text = text;
    }

    /// Returns the content of the file, with the last line.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let rows = self.lines().filter(|line| is_row(line)).count();
        let mut bytes = Vec::with_capacity(self.text.len() + 64);
        bytes.extend_from_slice(&self.text);
        bytes.extend_from_slice(format!("end {rows} {:016x}\n", compute_checksum(&self.text)).as_bytes());
        bytes
    }

    /// Returns all lines, including their line feeds.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        memchr_iter(b'\n', &self.text).map(move |end| {
            let line = &self.text[begin..=end];
            begin = end + 1;
            line
        })
    }

    /// Returns the row of a key.
    #[must_use]
    pub fn find(&self, tag: &Tag, directory: &Path) -> Option<Row> {
        self.find_line(tag, directory).and_then(|(begin, end)| parse_row(&self.text[begin..end]))
    }

    /// Returns the start and the end of the line of a key.
    fn find_line(&self, tag: &Tag, directory: &Path) -> Option<(usize, usize)> {
        let mut key = format!(" {} ", tag.as_field()).into_bytes();
        key.extend_from_slice(&escape_path(directory));
        key.push(b'\n');
        let mut lines = memmem::find_iter(&self.text, &key).map(|at| {
            let begin = memrchr(b'\n', &self.text[..at]).map_or(0, |end| end + 1);
            (begin, at + key.len())
        });
        // A comment may end like a row.
        lines.find(|(begin, _)| is_row(&self.text[*begin..]))
    }

    /// Returns all reserved numbers, or `None` if a line is invalid. The other fields of the rows are not parsed.
    #[must_use]
    pub fn numbers(&self) -> Option<Vec<u32>> {
        self.lines().filter(|line| is_row(line)).map(parse_row_number).collect()
    }

    /// Returns all rows in the order of their lines, or `None` if a line is invalid.
    #[must_use]
    pub fn rows(&self) -> Option<Vec<Row>> {
        self.lines().filter(|line| is_row(line)).map(parse_row).collect()
    }

    /// Returns the ranges that are never handed out.
    #[must_use]
    pub fn exclusions(&self) -> Vec<NumberRange> {
        self.lines().filter_map(parse_exclusion).collect()
    }

    /// Adds a row, or replaces the row with the same key.
    pub fn insert(&mut self, row: &Row) {
        let (begin, end) = self.find_line(&row.tag, &row.directory).unwrap_or((self.text.len(), self.text.len()));
        self.text.splice(begin..end, format_row(row));
        self.changed = true;
    }

    /// Removes the rows for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&Row) -> bool) {
        let kept = self.lines().filter(|line| parse_row(line).is_none_or(|row| keep(&row)));
        let kept = kept.flatten().copied().collect();
        self.set_text(kept);
    }

    /// Adds an exclusion. Returns false if it already exists.
    pub fn add_exclusion(&mut self, range: NumberRange) -> bool {
        if self.exclusions().contains(&range) {
            return false;
        }
        // Exclusions are written before the rows, where a person sees them.
        let before: usize = self.lines().take_while(|line| !is_row(line)).map(<[u8]>::len).sum();
        self.text.splice(before..before, format_exclusion(range));
        self.changed = true;
        true
    }

    /// Removes an exclusion. Returns false if it does not exist.
    pub fn remove_exclusion(&mut self, range: NumberRange) -> bool {
        let there = self.exclusions().contains(&range);
        let kept = self.lines().filter(|line| parse_exclusion(line) != Some(range));
        let kept = kept.flatten().copied().collect();
        self.set_text(kept);
        there
    }
}

fn format_exclusion(range: NumberRange) -> Vec<u8> {
    format!("exclude {range}\n").into_bytes()
}

/// Returns true if a line is a row, judging by its start.
fn is_row(line: &[u8]) -> bool {
    !(line.starts_with(EXCLUDE) || line.starts_with(b"#") || line.starts_with(MAGIC))
}

/// Parses the number of a row. Returns `None` if it is invalid.
fn parse_row_number(line: &[u8]) -> Option<u32> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    let digits = |number: u32, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if end == 0 { None } else { line[..end].iter().try_fold(0, digits) }
}

fn parse_exclusion(line: &[u8]) -> Option<NumberRange> {
    let range = line.strip_prefix(EXCLUDE)?.strip_suffix(b"\n")?;
    NumberRange::parse(std::str::from_utf8(range).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::ancestry::Ancestry;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    fn make_row(number: u32, tag: &str, directory: &[u8]) -> Row {
        let tag = if tag.is_empty() { Tag::default() } else { Tag::parse(tag).unwrap() };
        let directory = PathBuf::from(OsString::from_vec(directory.to_vec()));
        Row { number, created: 1, used: 2, ancestry: Ancestry::parse("0000000a.ffffffff").unwrap(), tag, directory }
    }

    #[test]
    fn any_directory_can_be_written_and_read_again() {
        let mut contents = RegistryContents::default();
        let all: Vec<u8> = std::iter::once(b'/').chain(1..=255).collect();
        let directories: [&[u8]; 7] = [b"/", b"/a b", b"/a\nb\tc", b"/\xff\xfe", "/ä ö".as_bytes(), b"/a\\040b", &all];
        for (at, directory) in (0_u32..).zip(directories) {
            contents.insert(&make_row(at, "", directory));
            contents.insert(&make_row(100 + at, "web", directory));
        }
        let again = RegistryContents::parse(contents.to_bytes()).unwrap();
        assert_eq!(again.to_bytes(), contents.to_bytes());
        for (at, directory) in (0_u32..).zip(directories) {
            assert_eq!(
                again.find(&Tag::default(), &make_row(0, "", directory).directory),
                Some(make_row(at, "", directory))
            );
        }
        assert_eq!(again.rows().unwrap().len(), 14);
        assert_eq!(again.find(&Tag::default(), Path::new("/b")), None);
    }

    #[test]
    fn truncation_and_changes_are_detected_at_every_byte() {
        let mut contents = RegistryContents::default();
        for number in 0..5 {
            contents.insert(&make_row(number, "t", format!("/home/{number}").as_bytes()));
        }
        contents.add_exclusion(NumberRange { first: 6, last: 9 });
        let whole = contents.to_bytes();
        assert!(RegistryContents::parse(whole.clone()).is_ok());
        for end in 0..whole.len() {
            assert!(RegistryContents::parse(whole[..end].to_vec()).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for change in [1, 0x20, 0x80] {
                let mut other = whole.clone();
                other[at] ^= change;
                // The number of rows in the last line is not checked: it is only for people.
                let count = whole.len() - 19;
                assert!(RegistryContents::parse(other).is_err() || at == count, "changed at {at} of {}", whole.len());
            }
        }
    }

    #[test]
    fn readable_rows_of_a_damaged_registry_are_recovered_once() {
        let mut contents = RegistryContents::default();
        contents.add_exclusion(NumberRange { first: 6, last: 9 });
        for number in 0..5 {
            contents.insert(&make_row(number, "t", format!("/home/{number}").as_bytes()));
        }
        let mut text = contents.to_bytes();
        text.truncate(text.len() - 35);
        text.extend_from_slice(b"\n2 1 2 - t /other\n9 1 2 - t /home/1\n\0\0\0\n7 1 2 - t /cut");
        let (found, lost) = RegistryContents::recover(&text);
        assert_eq!(found.numbers().unwrap(), [0, 1, 2, 3]);
        assert_eq!(found.exclusions(), [NumberRange { first: 6, last: 9 }]);
        assert_eq!(lost, 5);
    }

    #[test]
    fn another_version_is_distinguished_from_damage() {
        let find_error = |text: &[u8]| RegistryContents::parse(text.to_vec()).err();
        assert_eq!(find_error(b"aba-lock-registry 1 x\n"), Some(UnreadableRegistry::Version("1".into())));
        assert_eq!(find_error(b"aba-lock-registry 12\nnew\n"), Some(UnreadableRegistry::Version("12".into())));
        for damaged in
            [&b""[..], b"\0\0\0", b"aba-lock-registry x\n", b"aba-lock-registry 2 \n", b"aba-lock-registry 2\n"]
        {
            assert_eq!(find_error(damaged), Some(UnreadableRegistry::Damaged));
        }
    }
}
