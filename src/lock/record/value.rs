//! Values of a record: quoting, and limits to their length.

use std::borrow::Cow;

/// The most bytes of a command line or a remark that are kept.
pub(super) const MAX_VALUE: usize = 1024;

pub(super) fn put_line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    match on_one_line(value) {
        value if is_one_word(&value) => text.push_str(&value),
        value => text.push_str(&quoted(&value)),
    }
    text.push('\n');
}

/// A value as it stands behind its key. Each quote in it takes four bytes: one that is made of them is cut further.
fn quoted(value: &str) -> Cow<'_, str> {
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

/// A value that keeps the form of a line a key: no control characters, and of a bounded length.
pub(super) fn on_one_line(value: &str) -> Cow<'_, str> {
    // Each call reads and writes a record, so what nearly all values are is told by one look at their bytes.
    if value.len() <= MAX_VALUE && value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(value);
    }
    let plain: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Cow::Owned(if plain.len() > MAX_VALUE { cut(&plain, MAX_VALUE).into_owned() } else { plain })
}

fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Whether a shell takes it as it is.
fn is_one_word(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/@+".contains(&byte);
    !value.is_empty() && value.bytes().all(plain)
}

/// The words of a value as one, as a shell reads them. The two forms in which nearly all are written need no more than a look.
pub(super) fn unquoted(quoted: &str) -> Option<Cow<'_, str>> {
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
    fn what_is_unquoted_by_a_look_is_what_a_shell_reads() {
        for quoted in [
            "a", "", "''", "'a b'", "'", "'''", "'a'b'", "'a\\'", "a b", "#a", "'#a'", "'é'", "\"a\"", "a\\ b",
            "'a' 'b'",
        ] {
            let words = shell_words::split(quoted).ok().map(|words| words.concat());
            assert_eq!(unquoted(quoted).map(Cow::into_owned), words, "{quoted}");
        }
    }
}
