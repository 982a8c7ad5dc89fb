//! The files of code in this repository, and the rule on their length.

use crate::finding::{Finding, Rule};
use std::fs;
use std::path::Path;

const FOLDERS: &[&str] = &["src", "tests", "benches", "shell", "completions", ".ci"];
const ENDINGS: &[&str] = &["rs", "bash", "bats", "c", "h"];
const MOST_LINES: usize = 450;

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Returns the text of a file, by its path in the repository, or `None` if there is no such file.
pub(crate) fn read(file: &str) -> Option<String> {
    fs::read_to_string(root().join(file)).ok()
}

/// Writes a file, by its path in the repository.
#[expect(clippy::disallowed_methods, reason = "no other process reads the file at this time")]
pub(crate) fn write(file: &str, text: &str) {
    let path = root().join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be created");
    fs::write(path, text).expect("the file can be written");
}

/// Returns the sorted paths of all files of code in the repository: those with one of [`ENDINGS`], and those without an
/// ending that begin with `#!`.
pub(crate) fn list() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<String> = FOLDERS.iter().map(ToString::to_string).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).into_iter().flatten().flatten() {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                if name != "target" {
                    folders.push(path);
                }
            } else if match name.rsplit_once('.') {
                Some((_, ending)) => ENDINGS.contains(&ending),
                None => fs::read(entry.path()).is_ok_and(|text| text.starts_with(b"#!")),
            } {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Finds a file of more than [`MOST_LINES`] lines, which holds more than one idea.
pub(crate) fn check_length(file: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    let message = format!("{lines} lines, of at most {MOST_LINES}: split it");
    (lines > MOST_LINES).then(|| Finding::new(Rule::Length, file, MOST_LINES + 1, message))
}

#[test]
fn a_long_file_is_found() {
    assert!(check_length("a.rs", &"//\n".repeat(MOST_LINES)).is_none());
    assert_eq!(
        check_length("a.rs", &"//\n".repeat(451)).expect("too long").to_string(),
        "a.rs:451: Length: 451 lines, of at most 450: split it"
    );
}
