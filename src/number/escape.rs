//! Paths as text in registries and lock files. Control characters and backslashes, and in a path that is not UTF-8 also
//! the bytes above 0x7f, are written as a backslash and three octal digits, as in `/proc/mounts`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Returns a path as one word: blanks are escaped, too.
pub(super) fn escape_path(path: &Path) -> Cow<'_, [u8]> {
    escape_path_from(b'!', path)
}

/// Returns a path as text of one line, in which blanks are not escaped.
pub(super) fn escape_path_in_line(path: &Path) -> String {
    String::from_utf8_lossy(&escape_path_from(b' ', path)).into_owned()
}

/// Parses the text of [`escape_path_in_line`].
pub(super) fn unescape_path_in_line(text: &str) -> Option<PathBuf> {
    unescape_path(text.as_bytes())
}

fn escape_path_from(lowest: u8, path: &Path) -> Cow<'_, [u8]> {
    let bytes = path.as_os_str().as_bytes();
    let is_text = std::str::from_utf8(bytes).is_ok();
    let plain = |byte: u8| byte >= lowest && byte != b'\\' && byte != 0x7f && (is_text || byte < 0x80);
    if bytes.iter().all(|byte| plain(*byte)) {
        return Cow::Borrowed(bytes);
    }
    let mut word = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if plain(*byte) {
            word.push(*byte);
        } else {
            let mut octal = String::new();
            let _ = write!(octal, "\\{byte:03o}");
            word.extend_from_slice(octal.as_bytes());
        }
    }
    Cow::Owned(word)
}

pub(super) fn unescape_path(word: &[u8]) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        if *byte == b'\\' {
            let octal = std::str::from_utf8(rest.get(..3)?).ok()?;
            bytes.push(u8::from_str_radix(octal, 8).ok()?);
            rest = &rest[3..];
        } else {
            bytes.push(*byte);
        }
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}
