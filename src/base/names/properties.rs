//! What holds of names, for any bytes.

use super::{LockName, TaskId};
use crate::store;
use std::path::Path;

/// Checks that it does.
///
/// # Panics
///
/// Where it does not.
pub fn hold(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The rule again, in the words of its sentence.
    let letters = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain("._-:@+".chars());
    let letters: String = letters.collect();
    let begins = text.chars().next().is_some_and(|first| first != '.' && first != '-');
    let is_name = begins && text.len() <= 128 && text.chars().all(|letter| letters.contains(letter));

    let name = LockName::parse(text);
    assert_eq!(name.is_ok(), is_name, "{text:?} as a name");
    assert_eq!(TaskId::parse(text).is_ok(), is_name, "{text:?} as an id");
    if let Ok(name) = name {
        assert_eq!(name.as_str(), text);
        assert_eq!(name.to_string(), text);
        stays_below(text);
        // The file leads back to the name, and fits into a directory.
        let file = format!("aba-{name}.lock");
        stays_below(&file);
        assert!(file.len() < 255 - "-journal".len());
        assert_eq!(store::name_of(&Path::new("/root").join(&file)), Some(name));
    }
    // And a file that seems to be of a name has one that keeps the rule.
    if let Some(name) = store::name_of(Path::new(text)) {
        let file = text.rsplit('/').find(|part| !part.is_empty() && *part != ".");
        assert_eq!(Some(format!("aba-{name}.lock").as_str()), file);
    }
}

/// As a part of a path it is one more step down, and nothing else.
fn stays_below(name: &str) {
    let root = Path::new("/root");
    let path = root.join(name);
    assert_eq!(path.parent(), Some(root), "{name:?}");
    assert_eq!(path.file_name(), Some(name.as_ref()), "{name:?}");
}
