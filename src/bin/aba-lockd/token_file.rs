//! The token file, which the service reads when it starts and again at SIGHUP.
//!
//! It has one line for each token, `NAME SCOPES TOKEN`: a name for the log; `lock:read` (get and list locks, read
//! metrics), `lock:write` (all other calls), or both with a comma between them; and the token, or `sha256:` and its
//! digest in hexadecimal. Empty lines and lines that begin with `#` are ignored.

use crate::error::StartError;
use crate::{file_mode, report};
use aba_lock::base::text::format_io_error;
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The right that a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Read,
    Write,
}

#[derive(Debug)]
pub(crate) struct TokenOwner {
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
}

/// The owners of the tokens by the digest of their token, so that the time of a lookup does not depend on the token.
#[derive(Debug)]
pub(crate) struct TokenTable {
    by_digest: HashMap<Vec<u8>, TokenOwner>,
    /// True if the file contains a token in clear text.
    has_secrets: bool,
}

impl TokenTable {
    /// Parses a token file. The error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut by_digest, mut has_secrets) = (HashMap::new(), false);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, scopes, token] = words[..] else {
                return Err(format!("line {number}: expected NAME SCOPES TOKEN"));
            };
            let scopes = scopes.split(',').map(|scope| match scope {
                "lock:read" => Ok(Scope::Read),
                "lock:write" => Ok(Scope::Write),
                _ => Err(format!("line {number}: unknown scope {scope}: use lock:read or lock:write")),
            });
            let scopes = scopes.collect::<Result<_, _>>()?;
            let key = if let Some(hex) = token.strip_prefix("sha256:") {
                decode_digest(hex).ok_or(format!("line {number}: sha256: must be followed by 64 hexadecimal digits"))?
            } else {
                has_secrets = true;
                digest(&SHA256, token.as_bytes()).as_ref().to_vec()
            };
            if by_digest.insert(key, TokenOwner { name: name.to_owned(), scopes }).is_some() {
                return Err(format!("line {number}: this token is already in an earlier line"));
            }
        }
        if by_digest.is_empty() {
            return Err("it contains no token".to_owned());
        }
        Ok(Self { by_digest, has_secrets })
    }

    pub(crate) fn find_owner(&self, token: &str) -> Option<&TokenOwner> {
        self.by_digest.get(digest(&SHA256, token.as_bytes()).as_ref())
    }
}

fn decode_digest(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// Reads a token file, and logs a warning if its permissions expose the tokens.
pub(crate) fn read(file: &Path) -> Result<Arc<TokenTable>, StartError> {
    let text = fs::read_to_string(file).map_err(|error| format_io_error(&error));
    let tokens = text.and_then(|text| TokenTable::parse(&text));
    let tokens = tokens.map_err(|why| StartError::new(format!("cannot use token file {}: {why}", file.display())))?;
    if file_mode::is_world_writable(file) {
        report::log_warning(&format!(
            "every user of this machine can add tokens to {}: run `chmod o-w` on the file",
            file.display()
        ));
    }
    if tokens.has_secrets && file_mode::is_world_readable(file) {
        let file = file.display();
        report::log_warning(&format!(
            "every user of this machine can read the tokens in {file}: run `chmod o-r` on the file, or replace the tokens by their digests"
        ));
    }
    Ok(Arc::new(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_token_file_is_refused_with_the_number_of_the_line() {
        for (text, why) in [
            ("", "no token"),
            ("a lock:read", "line 1"),
            ("a lock:read x\nb lock:all y", "line 2"),
            ("a lock:read x\nb lock:read x", "line 2"),
            ("a lock:read sha256:12", "line 1"),
        ] {
            let error = TokenTable::parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
