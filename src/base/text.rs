//! Texts for messages: shortened text, paths quoted for a shell, and the reasons of system errors.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Shortens a text to `most` characters, with an ellipsis if something was cut.
#[must_use]
pub fn shorten(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// The reason of a system error, without `(os error N)`.
#[must_use]
pub fn format_io_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The next step for a user whose disk is full, or has no room for more files.
pub const HINT_FOR_FULL_DISK: &str = "free some space: find large directories with `du`, many files with `du --inodes`";

/// Returns true if there is no space left on the disk, or in the quota of the user.
#[must_use]
pub fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Quotes a path for bash, on one line. A relative path gets `./` in front, so that it is neither an option nor the
/// name of a lock.
#[must_use]
pub fn quote_path(path: &Path) -> String {
    let path = if path.is_absolute() || path.starts_with(".") || path.starts_with("..") {
        path.to_owned()
    } else {
        Path::new(".").join(path)
    };
    match path.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => shell_words::quote(text).into_owned(),
        None => format!("$'{}'", path.as_os_str().as_bytes().escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_path_is_quoted_for_bash_and_is_neither_an_option_nor_a_name() {
        let quoted = |bytes: &[u8]| quote_path(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"/a/b"), "/a/b");
        assert_eq!(quoted(b"backup"), "./backup");
        assert_eq!(quoted(b"--kill"), "./--kill");
        assert_eq!(quoted(b"./a"), "./a");
        assert_eq!(quoted(b"../a b"), "'../a b'");
        assert_eq!(quoted(b"/it's\n\xff\x1b"), r"$'/it\'s\n\xff\x1b'");
    }
}
