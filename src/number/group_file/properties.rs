//! Properties of the parser of group files that must hold for any input.

use super::parse_group;
use crate::base::names;
use crate::number::group::{NumberGroup, WantedNumber};
use crate::number::pool::Pool;
use crate::number::variable::{has_special_meaning, is_variable_name};
use std::collections::HashSet;
use std::fmt::Write as _;

/// Checks the properties with `bytes` as a group file, and as a list of tags.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn check_group_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse_group(text) {
        Ok((base, wants)) => {
            check_that_all_words_are_known(text, base, &wants);
            check_other_notations(text, base, &wants);
            check_variables(&NumberGroup { pool: ports_pool(), base, wants, require: false });
        }
        Err((line, what)) => {
            assert!((1..=text.lines().count().max(1)).contains(&line), "line {line}: {what}");
            // The description is printed, and any user may have written the file.
            assert!(!what.chars().any(char::is_control), "{what:?}");
        }
    }
    if let Ok(group) = NumberGroup::from_tags(&ports_pool(), text) {
        let tags: Vec<&str> = group.wants.iter().map(|want| want.tag.as_str()).collect();
        assert_eq!(tags.join(","), text);
        assert!(group.wants.iter().zip(0..).all(|(want, at)| want.offset == at));
        assert_eq!(tags.iter().collect::<HashSet<_>>().len(), tags.len());
        check_variables(&group);
    }
}

/// Parses a valid group and checks nothing else, so that the time of the parser can be measured.
#[cfg(test)]
pub(crate) fn parse_only(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("a text");
    let group = match parse_group(text) {
        Ok((base, wants)) => NumberGroup { pool: ports_pool(), base, wants, require: false },
        Err(_) => NumberGroup::from_tags(&ports_pool(), text).expect("a group file or tags"),
    };
    assert_eq!(group.variables().expect("all variables are valid").len(), group.wants.len());
}

fn ports_pool() -> Pool {
    Pool::parse("ports").expect("a pool")
}

/// Each word outside of comments was understood.
fn check_that_all_words_are_known(text: &str, base: Option<u32>, wants: &[WantedNumber]) {
    let mut known: HashSet<String> =
        ["reservations", "services", "base", "offset", "preferred", "env", "---"].map(str::to_owned).into();
    let mut numbers: HashSet<u32> = base.into_iter().collect();
    for want in wants {
        known.insert(want.tag.to_string());
        known.extend(want.variable.clone());
        numbers.extend(want.preferred);
        numbers.insert(want.offset);
    }
    known.extend(numbers.iter().map(u32::to_string));
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let line = line.split(" #").next().unwrap_or_default();
        for word in line.split([' ', ':', '{', '}', ',', '"', '\'', '\r']).filter(|word| !word.is_empty()) {
            assert!(known.contains(word), "{word:?} was ignored");
        }
    }
}

/// The same group in other notations is parsed to the same result.
fn check_other_notations(text: &str, base: Option<u32>, wants: &[WantedNumber]) {
    let mut block = "reservations:\n  services:\n".to_owned();
    for want in wants {
        let WantedNumber { tag, offset, .. } = want;
        let _ = write!(block, "    {tag}:\n      offset: {offset}\n");
        if let Some(number) = want.preferred {
            let _ = writeln!(block, "      preferred: {number}");
        }
        if let Some(name) = &want.variable {
            let _ = writeln!(block, "      env: {name}");
        }
    }
    if let Some(base) = base {
        let _ = writeln!(block, "  base: {base}");
    }
    let read = parse_group(&block);
    assert_eq!(read.as_ref().map(|(base, wants)| (*base, &wants[..])), Ok((base, wants)), "{block}");
    let windows = text.replace("\r\n", "\n").replace('\n', "\r\n");
    assert_eq!(
        parse_group(&windows).map(|(base, wants)| (base, wants == *read.expect("it was parsed above").1)),
        Ok((base, true))
    );
}

fn check_variables(group: &NumberGroup) {
    assert!(!group.wants.is_empty());
    let (mut tags, mut offsets) = (HashSet::new(), HashSet::new());
    for want in &group.wants {
        assert!(names::keeps_rule(want.tag.as_str()), "{:?}", want.tag);
        assert!(tags.insert(&want.tag), "{} twice", want.tag);
        assert!(offsets.insert(want.offset), "offset {} twice", want.offset);
    }
    let Ok(names) = group.variables() else { return };
    assert_eq!(names.len(), group.wants.len());
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    for name in names {
        let bytes = name.as_bytes();
        assert!(bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'), "{name:?}");
        assert!(!bytes[0].is_ascii_digit() && is_variable_name(&name) && !has_special_meaning(&name), "{name:?}");
    }
}
