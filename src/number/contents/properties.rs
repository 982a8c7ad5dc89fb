//! Properties of the registry format that must hold for any input.

use super::{HEAD, RegistryContents, is_row, parse_exclusion};
use crate::number::ancestry::Ancestry;
use crate::number::checksum::compute_checksum;
use crate::number::escape::{escape_path_in_line, unescape_path_in_line};
use crate::number::pool::Tag;
use crate::number::range::NumberRange;
use crate::number::row::{Row, format_row, parse_row};
use crate::properties::{somewhere, values};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Checks the properties with `bytes` as a registry, as its lines, and as the values of its rows.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn check_registry(bytes: &[u8]) {
    if let Ok(contents) = RegistryContents::parse(bytes.to_vec()) {
        check_that_text_is_kept(&contents, bytes);
    }
    // The lines with a correct checksum: another version of this program may have written them.
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).collect();
    let text = [HEAD, &lines.concat()].concat();
    let with_checksum = [&text[..], format!("end 0 {:016x}\n", compute_checksum(&text)).as_bytes()].concat();
    let contents = RegistryContents::parse(with_checksum.clone()).expect("the checksum is correct");
    check_that_text_is_kept(&contents, &with_checksum);
    check_changes(contents, bytes);

    check_recovery(bytes);
    check_recovery(&with_checksum);
    check_values(bytes);
}

/// Contents that are written again are the same, also with unknown lines. Valid rows are formatted to the lines that
/// they were parsed from.
fn check_that_text_is_kept(contents: &RegistryContents, bytes: &[u8]) {
    let again = contents.to_bytes();
    let end = |bytes: &[u8]| bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    assert_eq!(again[..end(&again)], bytes[..end(bytes)]);
    assert_eq!(RegistryContents::parse(again.clone()).expect("it is valid").to_bytes(), again);
    let lines = || contents.lines().filter(|line| is_row(line));
    if let Some(rows) = contents.rows() {
        assert_eq!(rows.iter().flat_map(format_row).collect::<Vec<u8>>(), lines().collect::<Vec<_>>().concat());
        // The numbers that are read without parsing the rows are those of the rows.
        assert_eq!(contents.numbers(), Some(rows.iter().map(|row| row.number).collect()));
        let mut keys = HashSet::new();
        for row in rows.iter().take(64) {
            assert!(row.directory.is_absolute());
            if keys.insert(key(row)) {
                assert_eq!(contents.find(&row.tag, &row.directory).as_ref(), Some(row));
            }
        }
    }
}

/// Each change affects one line.
fn check_changes(mut contents: RegistryContents, bytes: &[u8]) {
    let before = contents.to_bytes();
    let Some(rows) = contents.rows() else { return };
    let excluded = contents.exclusions();
    let number = u32::try_from(somewhere(bytes, 1 << 31)).unwrap_or(0);
    let new = Row { number, ..make_row(b"web", b"new", number) };
    let had = contents.find(&new.tag, &new.directory);
    contents.insert(&new);
    assert!(contents.is_changed());
    assert_eq!(contents.find(&new.tag, &new.directory), Some(new.clone()));
    let others =
        |rows: Vec<Row>| rows.into_iter().filter(|row| *row != new && Some(row) != had.as_ref()).collect::<Vec<_>>();
    assert_eq!(others(contents.rows().expect("the rows are still valid")), others(rows));
    assert_eq!(contents.exclusions(), excluded);
    if had.is_none() {
        contents.retain(|row| *row != new);
        assert_eq!(contents.to_bytes(), before);
    }
    let range = NumberRange { first: number / 2, last: number / 2 + 5 };
    assert_eq!(contents.add_exclusion(range), !excluded.contains(&range));
    assert!(contents.exclusions().contains(&range));
    if !excluded.contains(&range) {
        assert!(contents.remove_exclusion(range));
        assert_eq!(contents.exclusions(), excluded);
    }
}

/// Each line of a damaged registry is recovered, counted as lost, or irrelevant. No number and no key is recovered
/// twice.
fn check_recovery(bytes: &[u8]) {
    let (contents, lost) = RegistryContents::recover(bytes);
    let rows = contents.rows().expect("only valid rows are recovered");
    assert_eq!(RegistryContents::parse(contents.to_bytes()).expect("it is valid").rows(), Some(rows.clone()));
    let mut numbers: HashSet<u32> = HashSet::new();
    assert!(rows.iter().all(|row| numbers.insert(row.number)), "a number is there twice");
    let mut keys = HashSet::new();
    assert!(rows.iter().all(|row| keys.insert(key(row))), "a key is there twice");

    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (mut seen, mut excluded) = (0, HashSet::new());
    for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = [line.strip_suffix(b"\r").unwrap_or(line), b"\n"].concat();
        if let Some(range) = parse_exclusion(&line) {
            excluded.insert((range.first, range.last));
        } else if parse_row(&line).is_some() || !is_irrelevant(&line) {
            seen += 1;
        }
    }
    assert_eq!(rows.len() + lost, seen + usize::from(whole < bytes.len()), "a line is lost and not counted");
    assert_eq!(contents.exclusions().iter().map(|range| (range.first, range.last)).collect::<HashSet<_>>(), excluded);
    assert_eq!(contents.exclusions().len(), excluded.len());
}

fn is_irrelevant(line: &[u8]) -> bool {
    [&b"aba-lock-registry "[..], b"#", b"end "].iter().any(|begin| line.starts_with(begin)) || line == b"\n"
}

/// Every directory and every tag can be written and read again.
fn check_values(bytes: &[u8]) {
    let mut contents = RegistryContents::default();
    let mut rows: Vec<Row> = Vec::new();
    for (number, value) in (0_u32..64).zip(values(bytes)) {
        let row = make_row(&value[..value.len().min(100)], &value, number);
        rows.retain(|other| key(other) != key(&row));
        contents.insert(&row);
        rows.push(row);

        let directory = &rows[rows.len() - 1].directory;
        let text = escape_path_in_line(directory);
        assert!(!text.chars().any(|letter| letter.is_ascii_control()), "{text:?}");
        assert_eq!(unescape_path_in_line(&text).as_ref(), Some(directory));
    }
    let again = RegistryContents::parse(contents.to_bytes()).expect("it is valid");
    for row in &rows {
        assert_eq!(again.find(&row.tag, &row.directory).as_ref(), Some(row));
    }
    let mut found = again.rows().expect("all rows are valid");
    found.sort_by_key(|row| row.number);
    rows.sort_by_key(|row| row.number);
    assert_eq!(found, rows);
    assert_eq!(RegistryContents::recover(&contents.to_bytes()).1, 0);
}

/// Keys are compared as bytes: as paths, `/a//b` and `/a/b` would be equal.
fn key(row: &Row) -> (&Tag, &OsStr) {
    (&row.tag, row.directory.as_os_str())
}

fn make_row(tag: &[u8], directory: &[u8], number: u32) -> Row {
    let tag = std::str::from_utf8(tag).ok().and_then(|tag| Tag::parse(tag).ok()).unwrap_or_default();
    let directory = PathBuf::from(OsString::from_vec([b"/", directory].concat()));
    let ancestry = Ancestry::parse(&format!("{number:08x}")).expect("it is valid");
    Row { number, created: u64::from(number), used: u64::MAX, ancestry, tag, directory }
}
