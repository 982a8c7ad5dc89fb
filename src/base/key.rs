//! Keys: any text as the name of a lock or the id of a task (`--key`), such as a URL, a path or a command line.
//!
//! The name is a readable prefix of the text, a `+`, and the first 40 hexadecimal digits of its SHA-256. So two texts never
//! share a name, and every program can compute the digits: `printf %s TEXT | sha256sum | cut -c 1-40`. The text itself is in
//! the holder record. The name says nothing about the user or the machine, so all users of a directory share the lock.

use super::error::ContextError;
use super::names::LockName;
use hmac_sha256::Hash;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// The number of bytes of the digest that are in the name: 160 bits.
const DIGEST_LEN: usize = 20;

/// The maximum length of the readable prefix.
const MAX_PREFIX: usize = 40;

/// A text as the name of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockKey {
    name: LockName,
    text: String,
}

impl LockKey {
    /// Derives the name from the bytes of `text`. Fails with [`ContextError::EmptyKey`] if there are none.
    pub fn parse(text: &OsStr) -> Result<Self, ContextError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(ContextError::EmptyKey);
        }
        let mut name = derive_prefix(bytes);
        name.push('+');
        for byte in &Hash::hash(bytes)[..DIGEST_LEN] {
            let _ = write!(name, "{byte:02x}");
        }
        Ok(Self { name: LockName::parse(&name)?, text: format_key(bytes) })
    }

    #[must_use]
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// The text on one line. If it has control characters or is not UTF-8, it is in the form `$'...'`, which bash reads.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Returns true if the name has the form of one that was derived from a text.
#[must_use]
pub fn is_derived(name: &str) -> bool {
    let end = name.len().checked_sub(2 * DIGEST_LEN + 1).and_then(|begin| name.as_bytes().get(begin..));
    end.is_some_and(|end| end[0] == b'+' && end[1..].iter().all(|byte| b"0123456789abcdef".contains(byte)))
}

/// Returns the readable beginning of the name: the letters, digits and some signs of the text, with `-` for all others.
fn derive_prefix(bytes: &[u8]) -> String {
    let mut prefix = String::new();
    for byte in bytes {
        let is_kept = byte.is_ascii_alphanumeric() || (b"._@".contains(byte) && !prefix.is_empty());
        match is_kept {
            true => prefix.push(char::from(*byte)),
            false if prefix.is_empty() || prefix.ends_with('-') => {}
            false => prefix.push('-'),
        }
        if prefix.len() == MAX_PREFIX {
            break;
        }
    }
    let prefix = prefix.trim_end_matches('-');
    if prefix.is_empty() { "key".to_owned() } else { prefix.to_owned() }
}

fn format_key(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("$'") && !text.chars().any(char::is_control) => text.to_owned(),
        _ => quote_for_bash(bytes),
    }
}

fn quote_for_bash(bytes: &[u8]) -> String {
    let mut quoted = "$'".to_owned();
    let escape = |bytes: &[u8], quoted: &mut String| {
        for byte in bytes {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '\\' => quoted.extend(['\\', character]),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                _ if character.is_control() => escape(character.encode_utf8(&mut [0; 4]).as_bytes(), &mut quoted),
                _ => quoted.push(character),
            }
        }
        escape(chunk.invalid(), &mut quoted);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn parse(bytes: &[u8]) -> LockKey {
        LockKey::parse(OsStr::from_bytes(bytes)).unwrap()
    }

    #[test]
    fn a_name_has_a_readable_prefix_and_the_digits_of_sha256sum() {
        let name = |text: &str| parse(text.as_bytes()).name().to_string();
        assert_eq!(
            name("https://example.org/a b?c=1"),
            "https-example.org-a-b-c-1+2abe41fe3e253c998875b92921a4fc7434e73931"
        );
        assert_eq!(name("abc"), "abc+ba7816bf8f01cfea414140de5dae2223b00361a3");
        assert!(name("/").starts_with("key+") && name("..-a").starts_with("a+") && name("é").starts_with("key+"));
        assert_eq!(name(&"x".repeat(5000)).len(), MAX_PREFIX + 1 + 2 * DIGEST_LEN);
        assert!(LockKey::parse(OsStr::new("")).is_err());
        for text in ["abc", "/", "é"] {
            let name = name(text);
            assert!(is_derived(&name) && !is_derived(&name[1..].replace('+', "-")) && !is_derived(&format!("{name}g")));
        }
        assert!(!is_derived("") && !is_derived("a+b") && !is_derived(&"+".repeat(80)));
    }

    #[test]
    fn texts_that_differ_have_other_names() {
        let texts = ["a", "a ", " a", "A", "a\n", "a\0", "a/", "a-", "a+", "a+b", "a b", "a-b", "é", "e\u{301}"];
        let names: HashSet<String> = texts.iter().map(|text| parse(text.as_bytes()).name().to_string()).collect();
        assert_eq!(names.len(), texts.len());
    }

    #[test]
    fn a_text_is_shown_as_it_is_or_as_bash_reads_it() {
        for plain in ["a b", "it's", "é\\n", "https://h/?a=b&c"] {
            assert_eq!(parse(plain.as_bytes()).text(), plain);
        }
        let quoted = |bytes: &[u8]| parse(bytes).text().to_owned();
        assert_eq!(quoted(b"a\n\t'\\b"), r"$'a\n\t\'\\b'");
        assert_eq!(quoted("\x1b[2Jé\u{85}".as_bytes()), r"$'\x1b[2Jé\xc2\x85'");
        assert_eq!(quoted(b"\xffa"), r"$'\xffa'");
        assert_eq!(quoted(b"$'a'"), r"$'$\'a\''");
    }
}
