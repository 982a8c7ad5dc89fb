//! Properties of names, which hold for any input. The fuzz targets and the property tests call them.

use super::{LockName, TaskId};
use crate::store;
use std::path::Path;

/// Checks the properties.
///
/// # Panics
///
/// If a property is violated.
pub fn hold(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The rule, written a second time after the text of the message.
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
    // The name in a file name keeps the rule.
    if let Some(name) = store::name_of(Path::new(text)) {
        let file = text.rsplit('/').find(|part| !part.is_empty() && *part != ".");
        assert_eq!(Some(format!("aba-{name}.lock").as_str()), file);
    }
}

/// Checks that the name is exactly one component of a path.
fn stays_below(name: &str) {
    let root = Path::new("/root");
    let path = root.join(name);
    assert_eq!(path.parent(), Some(root), "{name:?}");
    assert_eq!(path.file_name(), Some(name.as_ref()), "{name:?}");
}
