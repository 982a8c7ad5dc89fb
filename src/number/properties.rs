//! Properties of the parsers of numbers, ranges, probes, pools and tags that must hold for any input.

use super::ancestry::Ancestry;
use super::pool::{Pool, Tag};
use super::probe::Probe;
use super::range::{MAX_NUMBERS, NumberRange, parse_number};
use crate::base::names;
use std::path::Path;

/// Checks the properties with `bytes` as each of these words.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn check_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(number) = parse_number(text) {
        assert_eq!(number.to_string(), text);
    }
    if let Some(range) = NumberRange::parse(text) {
        assert!(range.first <= range.last && range.last - range.first < MAX_NUMBERS);
        assert_eq!(NumberRange::parse(&range.to_string()), Some(range));
        assert!(range.contains(range.first) && range.contains(range.last));
        let both = format!("{}-{}", range.first, range.last);
        assert!(text == both || text == range.to_string(), "{text:?} as {range}");
    }
    if let Some(ancestry) = Ancestry::parse(text) {
        assert_eq!(Ancestry::parse(&ancestry.to_string()), Some(ancestry));
    }
    if let Some(probe) = Probe::parse(text) {
        assert_eq!(probe == Probe::NONE, text == "none");
    }
    assert_eq!(Tag::parse(text).is_ok(), names::keeps_rule(text), "{text:?} as a tag");
    if let Ok(pool) = Pool::parse(text) {
        assert_eq!(pool.as_str(), text);
        assert!(names::keeps_rule(text) && text.len() <= 64);
        // `POOL.lock` and `POOL.d` are not names of pools, so no two pools share a file.
        assert!(!text.contains('.'));
        let path = Path::new("/root").join(text);
        assert_eq!((path.parent(), path.file_name()), (Some(Path::new("/root")), Some(text.as_ref())));
    }
}
