//! Properties of the changes of `.env` files that must hold for any input.

use super::{parse_setting, set_variables};
use std::collections::HashMap;

/// Checks the properties with `bytes` as the content of a file.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn check_dotenv(bytes: &[u8]) {
    let ours = [("WEB_PORT".to_owned(), 5000), ("DB_PORT".to_owned(), 5001)];
    let new = set_variables(bytes, &ours);
    // A second call changes nothing. Otherwise, the file would grow with each call.
    let again = set_variables(&new, &ours);
    assert_eq!(again.escape_ascii().to_string(), new.escape_ascii().to_string());
    // Without variables, only a missing line ending is added.
    assert_eq!(set_variables(bytes, &[]).strip_prefix(bytes).map(<[u8]>::trim_ascii), Some(&b""[..]));

    let (old_lines, new_lines) = (lines(bytes), lines(&new));
    let is_ours = |line: &[u8]| parse_setting(line).is_some_and(|(name, _)| name == b"WEB_PORT" || name == b"DB_PORT");
    // The other lines stay the same, and in order. Only the last one may get a line ending.
    let theirs = |lines: &[&[u8]]| -> Vec<Vec<u8>> {
        let lines = lines.iter().filter(|line| !is_ours(line));
        lines.map(|line| [line.strip_suffix(b"\n").unwrap_or(line), b"\n"].concat()).collect()
    };
    let (mut old_theirs, new_theirs) = (theirs(&old_lines), theirs(&new_lines));
    let with_end = old_lines.last().filter(|last| !last.ends_with(b"\n")).map(|last| [last, &b"\r\n"[..]].concat());
    if let Some(last) = old_theirs.last_mut()
        && with_end.is_some()
        && new_theirs.last() == with_end.as_ref()
    {
        last.splice(last.len() - 1.., *b"\r\n");
    }
    let mut old = old_theirs.iter();
    for line in &new_theirs {
        assert!(old.any(|old| old == line), "{} is new", line.escape_ascii());
    }
    // Only the continuation of a replaced value may be removed, and only if it contains no setting and no comment.
    let meant = |lines: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
        let is_meant = |line: &Vec<u8>| parse_setting(line).is_some() || line.trim_ascii_start().starts_with(b"#");
        lines.into_iter().filter(is_meant).collect()
    };
    let ours_in_quotes = old_lines.iter().any(|line| {
        is_ours(line)
            && parse_setting(line).is_some_and(|(_, value)| b"\"'`".contains(value.trim_ascii().first().unwrap_or(&0)))
    });
    assert!(old_theirs.len() == new_theirs.len() || ours_in_quotes, "a line was removed");
    assert_eq!(meant(old_theirs), meant(new_theirs));

    // Without quotes, each line that sets a variable has its number, and there is one for each variable.
    if !new.iter().any(|byte| b"\"'`".contains(byte)) {
        let mut found: HashMap<&[u8], usize> = HashMap::new();
        for (name, value) in new_lines.iter().filter_map(|line| parse_setting(line)) {
            if let Some((_, number)) = ours.iter().find(|(ours, _)| ours.as_bytes() == name) {
                assert_eq!(end(value), number.to_string().as_bytes());
                *found.entry(name).or_default() += 1;
            }
        }
        assert_eq!(found.len(), 2);
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Removes the line ending.
fn end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
