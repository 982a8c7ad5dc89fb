//! The parser of group files.
//!
//! ```yaml
//! reservations:
//!   base: 5000            # optional: the number to start at, if possible
//!   services:
//!     web:
//!       offset: 0         # from the base; the default is one more than that of the previous service
//!       preferred: 5080   # optional
//!       env: WEB_PORT     # the default is derived from the tag
//!     db: {offset: 1}
//! ```
//!
//! Only this subset of YAML is accepted, and everything else is an error with its line. A parser of all of YAML would
//! silently accept a mistyped key, an anchor or a second document, and a shell may evaluate the result.

#[cfg(any(test, fuzzing))]
pub mod properties;

use super::error::NumberError;
use super::group::{NumberGroup, WantedNumber};
use super::pool::{Pool, Tag};
use super::range::parse_number;
use super::variable::{has_special_meaning, is_variable_name};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The maximum size of a group file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads a group file.
pub fn read_group_file(pool: &Pool, path: &Path) -> Result<NumberGroup, NumberError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        // The start of a larger file would be a different group.
        Ok(len) if len as u64 > MAX_FILE => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        read => read,
    });
    read.map_err(|source| NumberError::Read { path: path.to_owned(), source })?;
    let fail = |(line, what)| NumberError::GroupFile { path: path.to_owned(), line, what };
    let (base, wants) = parse_group(&text).map_err(fail)?;
    Ok(NumberGroup { pool: pool.clone(), base, wants, require: false })
}

/// The number of an invalid line, and the description of its error.
type LineError = (usize, String);

struct GroupLine<'a> {
    number: usize,
    indent: usize,
    key: &'a str,
    value: &'a str,
}

/// Parses a group file. Returns its base and its numbers.
fn parse_group(text: &str) -> Result<(Option<u32>, Vec<WantedNumber>), LineError> {
    if text.starts_with('\u{feff}') {
        return Err((1, "the file begins with a byte order mark: remove it".to_owned()));
    }
    let mut reader = GroupReader::default();
    for (line, at) in text.lines().zip(1..) {
        if let Some(line) = parse_line(line, at)? {
            reader.read_line(&line)?;
        }
    }
    if reader.wants.is_empty() {
        return Err((text.lines().count().max(1), "`reservations` contains no `services`".to_owned()));
    }
    let mut offsets = HashSet::new();
    for (want, line) in reader.wants.iter().zip(&reader.lines) {
        if !offsets.insert(want.offset) {
            return Err((*line, format!("{} has the same offset as another service: {}", want.tag, want.offset)));
        }
    }
    Ok((reader.base, reader.wants))
}

/// Splits a line into its parts. Returns `None` for a blank line and for a comment.
fn parse_line(line: &str, at: usize) -> Result<Option<GroupLine<'_>>, LineError> {
    let fail = |what: &str| Err((at, what.to_owned()));
    let text = line.trim_end_matches(['\r', ' ']);
    let rest = text.trim_start_matches(' ');
    if rest.is_empty() || rest.starts_with('#') || (at == 1 && text == "---") {
        return Ok(None);
    }
    if rest.contains('\t') {
        return fail("a tab: indent with spaces");
    }
    let rest = rest.split(" #").next().unwrap_or(rest).trim_end_matches(' ');
    let Some((key, value)) = rest.split_once(':') else { return fail("expected a key and a colon") };
    if !(value.is_empty() || value.starts_with(' ')) {
        return fail("expected a space after the colon");
    }
    Ok(Some(GroupLine {
        number: at,
        indent: text.len() - text.trim_start_matches(' ').len(),
        key: strip_quotes(key),
        value: value.trim_matches(' '),
    }))
}

/// Removes quotes around a word. The callers check the word.
fn strip_quotes(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

/// The state of the parser: the group so far, and the nesting of the current line.
#[derive(Default)]
struct GroupReader {
    /// The indentation of each open level: `reservations`, its keys, the services, and the keys of one service.
    indents: Vec<usize>,
    /// The keys of each open level.
    seen: Vec<HashSet<String>>,
    /// True if the last line had no value, so that the next line may be indented further.
    opens: bool,
    base: Option<u32>,
    in_services: bool,
    wants: Vec<WantedNumber>,
    /// The line of each of `wants`.
    lines: Vec<usize>,
}

impl GroupReader {
    fn read_line(&mut self, line: &GroupLine) -> Result<(), LineError> {
        let GroupLine { number: at, indent, key, value } = *line;
        let fail = |what: String| Err((at, what));
        if self.opens && self.indents.last().is_some_and(|last| indent > *last) || self.indents.is_empty() {
            self.indents.push(indent);
            self.seen.push(HashSet::new());
        }
        while self.indents.last().is_some_and(|last| indent < *last) {
            self.indents.pop();
            self.seen.pop();
        }
        if self.indents.last() != Some(&indent) {
            return fail("the indentation does not match that of a line above".to_owned());
        }
        if !self.seen.last_mut().is_some_and(|seen| seen.insert(key.to_owned())) {
            return fail(format!("duplicate key {key:?}"));
        }
        self.opens = value.is_empty();
        match (self.indents.len(), key) {
            (1, "reservations") | (2, "services") if value.is_empty() => {
                self.in_services = key == "services";
                Ok(())
            }
            (2, "base") => {
                self.in_services = false;
                self.base = Some(parse_digits(at, key, value)?);
                Ok(())
            }
            (3, tag) if self.in_services => self.read_service(at, tag, value),
            (4, field) if self.in_services => self.read_field(at, field, value),
            _ => fail(format!("unknown key {key:?}")),
        }
    }

    fn read_service(&mut self, at: usize, tag: &str, value: &str) -> Result<(), LineError> {
        let tag = Tag::parse(tag).map_err(|error| (at, error.to_string()))?;
        let offset = self.wants.last().map_or(Some(0), |want| want.offset.checked_add(1));
        let offset = offset.ok_or_else(|| (at, "the offset is too large".to_owned()))?;
        self.wants.push(WantedNumber { tag, offset, ..WantedNumber::default() });
        self.lines.push(at);
        if value.is_empty() {
            return Ok(());
        }
        let inner = value.strip_prefix('{').and_then(|value| value.strip_suffix('}'));
        let Some(inner) = inner else { return Err((at, format!("expected `{{offset: N, ...}}`, found {value:?}"))) };
        let inner = inner.trim_matches(' ');
        if inner.is_empty() {
            return Ok(());
        }
        let mut seen = HashSet::new();
        for pair in inner.strip_suffix(',').unwrap_or(inner).split(',').map(|pair| pair.trim_matches(' ')) {
            let Some((key, value)) = pair.split_once(": ") else {
                return Err((at, format!("expected a key and a value, found {pair:?}")));
            };
            if !seen.insert(key) {
                return Err((at, format!("duplicate key {key:?}")));
            }
            self.read_field(at, key, value.trim_start_matches(' '))?;
        }
        Ok(())
    }

    fn read_field(&mut self, at: usize, key: &str, value: &str) -> Result<(), LineError> {
        let Some(want) = self.wants.last_mut() else { return Err((at, format!("unknown key {key:?}"))) };
        match key {
            "offset" => want.offset = parse_digits(at, key, value)?,
            "preferred" => want.preferred = Some(parse_digits(at, key, value)?),
            "env" => {
                let name = strip_quotes(value);
                if !is_variable_name(name) {
                    return Err((
                        at,
                        format!(
                            "invalid variable {name:?}: a name is letters, digits and _, not starting with a digit"
                        ),
                    ));
                }
                if has_special_meaning(name) {
                    return Err((at, NumberError::TakenVariable { name: name.to_owned() }.to_string()));
                }
                want.variable = Some(name.to_owned());
            }
            _ => return Err((at, format!("unknown key {key:?}"))),
        }
        Ok(())
    }
}

fn parse_digits(at: usize, key: &str, value: &str) -> Result<u32, LineError> {
    parse_number(value).ok_or_else(|| (at, format!("{key} is {value:?}, which is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# ports\nreservations:\n  base: 5000\n\n  services:\n    web:\n      offset: 0\n      preferred: 5080 # if it can be\n      env: WEB\n    db: {offset: 4, env: \"DB\"}\n    'cache':\n";

    #[test]
    fn a_group_file_is_parsed() {
        let (base, wants) = parse_group(WHOLE).unwrap();
        assert_eq!(base, Some(5000));
        let got: Vec<_> =
            wants.iter().map(|w| (w.tag.as_str(), w.offset, w.preferred, w.variable.as_deref())).collect();
        assert_eq!(got, [("web", 0, Some(5080), Some("WEB")), ("db", 4, None, Some("DB")), ("cache", 5, None, None)]);
        assert_eq!(parse_group(&WHOLE.replace('\n', "\r\n")).unwrap().1, wants);
        let narrow = "---\nreservations:\n services:\n  a:\n   offset: 1\n base: 7\n";
        assert_eq!(parse_group(narrow).unwrap().0, Some(7));
        let braces = "reservations:\n  services:\n    a: {}\n    b: { offset: 3 , }\n";
        assert_eq!(parse_group(braces).unwrap().1.iter().map(|want| want.offset).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn other_yaml_is_rejected_with_its_line() {
        for (line, text) in [
            (1, ""),
            (1, "project: x\n"),
            (2, "reservations:\n  ports: 1\n"),
            (2, "reservations:\n\tservices:\n"),
            (3, "reservations:\n  services:\n    a b:\n"),
            (3, "reservations:\n  services:\n    $(x):\n"),
            (4, "reservations:\n  services:\n    a:\n      env: x;y\n"),
            (4, "reservations:\n  services:\n    a:\n      env: $(x)\n"),
            (4, "reservations:\n  services:\n    a:\n      offset: 1.5\n"),
            (4, "reservations:\n  services:\n    a:\n      offset: -1\n"),
            (4, "reservations:\n  services:\n    a:\n      port: 1\n"),
            (4, "reservations:\n  services:\n    a:\n    a:\n"),
            (4, "reservations:\n  services:\n    a:\n     - 1\n"),
            (4, "reservations:\n  services:\n    a:\n   b:\n"),
            (3, "reservations:\n  services:\n    a: &x\n"),
            (3, "reservations:\n  services:\n    a: {offset: 1, offset: 2}\n"),
            (3, "reservations:\n  services:\n    a: {offset:1}\n"),
            (3, "reservations:\n  services:\n    a: {offset: 1,, preferred: 2}\n"),
            (3, "reservations:\n  services:\n    a: {offset: 1, \u{b}}\n"),
            (3, "reservations:\n  services:\n    a: {,}\n"),
            (4, "reservations:\n  services:\n    a: {offset: 1}\n    b: {offset: 1}\n"),
            (2, "reservations:\n---\nreservations:\n"),
            (3, "reservations:\n  base: 1\n    x: 1\n"),
        ] {
            assert_eq!(parse_group(text).map_err(|(line, _)| line), Err(line), "{text:?}");
        }
    }

    #[test]
    fn every_parsed_variable_is_a_valid_name() {
        // A generator with a fixed seed, so that every run tests the same texts.
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let pieces = [
            "$(x)", "`x`", ";", "\n", "'", "\"", " ", "=", "a", "B_1", "{", "}", ",", ":", "env: ", "#", "\\", "\r",
            "ä", "&", "-", "0",
        ];
        let pool = Pool::parse("ports").unwrap();
        let mut read = 0;
        for _ in 0..30_000 {
            let mut pieces_text = String::new();
            for _ in 0..random(6) {
                pieces_text.push_str(pieces[random(pieces.len())]);
            }
            let text = match random(4) {
                0 => format!("reservations:\n  services:\n    {pieces_text}:\n"),
                1 => format!("reservations:\n  services:\n    a:\n      env: {pieces_text}\n"),
                2 => format!("reservations:\n  services:\n    a: {{env: {pieces_text}}}\n"),
                _ => WHOLE.replacen("WEB", &pieces_text, 1),
            };
            if let Ok((base, wants)) = parse_group(&text) {
                let group = NumberGroup { pool: pool.clone(), base, wants, require: false };
                for name in group.variables().unwrap_or_default() {
                    read += 1;
                    assert!(
                        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                        "{name:?}"
                    );
                    assert!(!name.as_bytes()[0].is_ascii_digit(), "{name:?}");
                }
            }
        }
        assert!(read > 500, "{read}");
    }
}
