//! The values of a record: quoted as a shell reads them, on one line, and of a limited length.

use std::borrow::Cow;

/// The maximum number of bytes of a value.
pub(super) const MAX_VALUE: usize = 1024;

/// Appends the line of one value to a record.
pub(super) fn put_line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    match on_one_line(value) {
        value if is_one_word(&value) => text.push_str(&value),
        value => text.push_str(&quote(&value)),
    }
    text.push('\n');
}

/// Returns the value in quotes. Each quote character in it takes four bytes, so a value that consists of them is cut further.
fn quote(value: &str) -> Cow<'_, str> {
    let (mut quoted, mut most) = (shell_words::quote(value), value.len());
    while quoted.len() > 2 * MAX_VALUE {
        most /= 2;
        quoted = Cow::Owned(shell_words::quote(&cut(value, most)).into_owned());
    }
    quoted
}

/// Returns true if a record shows this value without a change, and does not become too long because of it.
pub(super) fn is_kept_whole(value: &str) -> bool {
    value.len() <= MAX_VALUE && on_one_line(value) == value && shell_words::quote(value).len() <= MAX_VALUE
}

/// Returns the value without control characters, and not longer than [`MAX_VALUE`] and a sign that it was cut.
pub(super) fn on_one_line(value: &str) -> Cow<'_, str> {
    // Every call reads and writes a record, so the common case is decided by one pass over the bytes.
    if value.len() <= MAX_VALUE && value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(value);
    }
    let plain: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Cow::Owned(if plain.len() > MAX_VALUE { cut(&plain, MAX_VALUE).into_owned() } else { plain })
}

/// Returns at most `most` bytes of the text, and a sign that it was cut.
pub(in crate::lock) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Returns true if a shell needs no quotes around the value.
fn is_one_word(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/@+".contains(&byte);
    !value.is_empty() && value.bytes().all(plain)
}

/// Returns the value as a shell reads it, with several words joined. The two forms that are common are not parsed.
pub(super) fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.is_empty() || is_one_word(quoted) {
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
