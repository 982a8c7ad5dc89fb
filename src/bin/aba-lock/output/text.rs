//! Formats words and values for messages.

use aba_lock::base::environment::SYSTEM_ROOT;
use aba_lock::base::target::Kind;
use aba_lock::base::text::{quote_path, shorten};
use aba_lock::store::name_of;

use aba_lock::os::RangeLock;
use std::path::Path;

/// The maximum number of characters of a command line in a message.
const MAX_COMMAND: usize = 120;

/// Formats a command line, cut to about one line of a terminal.
pub(crate) fn format_command(text: &str) -> String {
    if text.is_empty() {
        return "command unknown".to_owned();
    }
    shorten(&escape_controls(text), MAX_COMMAND)
}

/// The maximum number of characters of a key in a table, which leaves room for the other columns.
const MAX_KEY: usize = 40;

/// Formats the text of a key for a table.
pub(crate) fn format_key(text: &str) -> String {
    shorten(&escape_controls(text), MAX_KEY)
}

/// Replaces control characters in text from other processes or files, which could otherwise control the terminal.
pub(crate) fn escape_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Describes a file that should be a regular file. `kind` is its type.
pub(crate) fn describe_file_type(kind: &str) -> String {
    format!("it is a {kind}, not a regular file")
}

/// Formats the part of a file that a lock covers. The text is empty for the whole file.
pub(crate) fn format_range(range: &RangeLock) -> String {
    match (range.start, range.len) {
        (0, 0) => String::new(),
        (start, 0) => format!(" from byte {start}"),
        (start, len) => format!(" at bytes {start} to {}", start.saturating_add(len - 1)),
    }
}

pub(crate) fn spell_number(number: usize) -> String {
    const WORDS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let word = number.checked_sub(1).and_then(|at| WORDS.get(at));
    word.map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

pub(crate) fn spell_ordinal(place: usize) -> String {
    const WORDS: [&str; 10] =
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
    if let Some(word) = place.checked_sub(1).and_then(|at| WORDS.get(at)) {
        return (*word).to_owned();
    }
    let end = match (place % 10, place % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{place}{end}")
}

/// Formats the arguments of `aba-lock status` that name this lock: a file needs `--file`, because its label may be that
/// of a named lock.
pub(crate) fn format_target(kind: Kind, label: &str, path: &Path) -> String {
    match kind {
        // The label of a key is its text, so the name is read from the path.
        Kind::Named => {
            let name = name_of(path).map_or_else(|| label.to_owned(), |name| name.to_string());
            if path.starts_with(SYSTEM_ROOT) { format!("--system {name}") } else { name }
        }
        // The label is the path as the user wrote it.
        Kind::Users if !label.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) => {
            format!("--file {}", quote_path(Path::new(label)))
        }
        Kind::Users | Kind::Beside => format!("--file {}", quote_path(path)),
    }
}
