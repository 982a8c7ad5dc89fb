//! Quotes, shortens and parses the values of a record. A value is on one line, has a limited length, and is quoted as for a
//! shell, so that a script can read the record.
//!
//! `format` and `draft` call these functions for every record.

use crate::os::proc::process;
use std::borrow::Cow;

/// The maximum number of bytes of a value.
pub(super) const MAX_VALUE: usize = 1024;

/// Appends the line `KEY=VALUE` to the text of a record.
pub(super) fn put_line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    if value.len() <= MAX_VALUE && process::is_plain_word(value) {
        text.push_str(value);
    } else {
        text.push_str(&quote(&on_one_line(value)));
    }
    text.push('\n');
}

/// The maximum number of bytes of a key with its quotes: together with the other values, it must fit into a record.
const MAX_KEY: usize = 512;

/// Appends the line of a key, which is cut until it fits.
pub(super) fn put_key(text: &mut String, key: &str) {
    let mut most = MAX_KEY - "''…".len();
    while shell_words::quote(&cut(key, most)).len() > MAX_KEY {
        most /= 2;
    }
    put_line(text, "key", &cut(key, most));
}

/// Returns the value in quotes. A quote character takes four bytes then, so a value with many of them is cut until it fits.
fn quote(value: &str) -> Cow<'_, str> {
    // The common case is a command line with arguments. The other function takes four times as long for it.
    if value.contains(' ') && !value.contains('\'') && value.len() <= MAX_VALUE {
        return Cow::Owned(["'", value, "'"].concat());
    }
    let (mut quoted, mut most) = (shell_words::quote(value), value.len());
    while quoted.len() > 2 * MAX_VALUE {
        most /= 2;
        quoted = Cow::Owned(shell_words::quote(&cut(value, most)).into_owned());
    }
    quoted
}

/// Returns true if this value appears in a record unchanged: it is short, and has no control characters.
pub(super) fn is_kept_whole(value: &str) -> bool {
    value.len() <= MAX_VALUE && on_one_line(value) == value && shell_words::quote(value).len() <= MAX_VALUE
}

/// Returns the value with control characters replaced by spaces. A value of more than [`MAX_VALUE`] bytes is cut.
pub(super) fn on_one_line(value: &str) -> Cow<'_, str> {
    // Every call reads and writes a record, so the common case is decided by one pass over the bytes.
    if value.len() <= MAX_VALUE && value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(value);
    }
    let plain: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Cow::Owned(if plain.len() > MAX_VALUE { cut(&plain, MAX_VALUE).into_owned() } else { plain })
}

/// Returns the text, or at most its first `most` bytes followed by `…`.
pub(in crate::lock) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Parses a quoted value of a record. Other users can write to the file, so characters that control a terminal are removed.
pub(super) fn read_value(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.len() <= MAX_VALUE && process::is_plain_word(quoted) {
        return Some(Cow::Borrowed(quoted));
    }
    Some(match unquote(quoted)? {
        Cow::Borrowed(value) => on_one_line(value),
        Cow::Owned(value) => Cow::Owned(on_one_line(&value).into_owned()),
    })
}

/// Parses a quoted value as a shell would. Several words are joined. The two common forms, a plain word and one pair of single
/// quotes, are recognized without the parser.
pub(super) fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.is_empty() || process::is_plain_word(quoted) {
        return Some(Cow::Borrowed(quoted));
    }
    let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    if let Some(inner) = inner.filter(|inner| !inner.contains('\'')) {
        return Some(Cow::Borrowed(inner));
    }
    Some(Cow::Owned(shell_words::split(quoted).ok()?.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_as_shell_words_does() {
        for value in ["", "a b", "a", "a'b", "a 'b", "a\nb", "a\nb c", "é é", "é", "a,b", "a=b", "~", " "] {
            assert_eq!(quote(value), shell_words::quote(value), "{value}");
        }
    }

    #[test]
    fn a_value_is_unquoted_as_a_shell_reads_it() {
        for quoted in [
            "a", "", "''", "'a b'", "'", "'''", "'a'b'", "'a\\'", "a b", "#a", "'#a'", "'é'", "\"a\"", "a\\ b",
            "'a' 'b'",
        ] {
            let words = shell_words::split(quoted).ok().map(|words| words.concat());
            assert_eq!(unquote(quoted).map(Cow::into_owned), words, "{quoted}");
        }
    }
}
