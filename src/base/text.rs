//! Text in messages: shortened, quoted for a shell, and the reasons of system errors.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A text of so many characters at most, and a sign that it was cut if it was.
#[must_use]
pub fn shorten(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// The system's reason without `(os error N)`, as a person would say it.
#[must_use]
pub fn format_io_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A path as bash reads it, on one line. One that is not absolute begins with `./`: so it is no option, and no name.
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
    fn a_path_is_quoted_as_bash_reads_it_and_is_no_option_and_no_name() {
        let quoted = |bytes: &[u8]| quote_path(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"/a/b"), "/a/b");
        assert_eq!(quoted(b"backup"), "./backup");
        assert_eq!(quoted(b"--kill"), "./--kill");
        assert_eq!(quoted(b"./a"), "./a");
        assert_eq!(quoted(b"../a b"), "'../a b'");
        assert_eq!(quoted(b"/it's\n\xff\x1b"), r"$'/it\'s\n\xff\x1b'");
    }
}
