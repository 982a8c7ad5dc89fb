//! The token file, which the service reads when it starts and again at SIGHUP.
//!
//! It has one line for each credential, `NAME HASH PERMISSIONS`: a name for the log, which is also the owner of the
//! locks that the caller creates; `sha256:` and the digest of a token in hexadecimal, or `cert:` and the name in a
//! client certificate; and permissions with commas between them ([`crate::permission`]). Lines with the same name belong
//! to the same owner. Empty lines and lines that begin with `#` are ignored.
//!
//! The older form `NAME PERMISSIONS TOKEN` is accepted as well. Its token is in clear text, or a digest.

use crate::credential::{format_digest, hash_token};
use crate::error::StartError;
use crate::permission::{Caller, CredentialId, Permission, decode_escapes};
use crate::{file_mode, report};
use aba_lock::base::text::format_io_error;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use subtle::{ConditionallySelectable, ConstantTimeEq};

const DIGEST_PREFIX: &str = "sha256:";
const CERTIFICATE_PREFIX: &str = "cert:";

/// The callers by their credentials.
#[derive(Debug)]
pub(crate) struct TokenTable {
    by_digest: Vec<([u8; 32], Caller)>,
    by_certificate: HashMap<String, Caller>,
    /// True if the file contains a token in clear text.
    has_secrets: bool,
}

impl TokenTable {
    /// Parses a token file. The error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self { by_digest: Vec::new(), by_certificate: HashMap::new(), has_secrets: false };
        // Some editors write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut numbers = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let caller = table.parse_line(line).map_err(|why| format!("line {number}: {why}"))?;
            if let Some(earlier) = numbers.insert(caller.credential.clone(), number) {
                let kind = if matches!(caller.credential, CredentialId::Token(_)) { "token" } else { "certificate" };
                return Err(format!("line {number}: this {kind} is already in line {earlier}"));
            }
            match &caller.credential {
                CredentialId::Token(digest) => table.by_digest.push((*digest, caller)),
                CredentialId::Certificate(name) => drop(table.by_certificate.insert(name.clone(), caller)),
            }
        }
        if numbers.is_empty() {
            return Err("it contains no token".to_owned());
        }
        Ok(table)
    }

    fn parse_line(&mut self, line: &str) -> Result<Caller, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_credential = |word: &str| word.starts_with(DIGEST_PREFIX) || word.starts_with(CERTIFICATE_PREFIX);
        let (name, credential, permissions) = match words[..] {
            [name, credential, permissions] if is_credential(credential) => (name, credential, permissions),
            [name, permissions, credential] if permissions.starts_with("lock:") => (name, credential, permissions),
            [_, other, _] if is_digest(other) => return Err(format!("write {DIGEST_PREFIX} before the digest")),
            _ => return Err("expected NAME sha256:DIGEST PERMISSIONS".to_owned()),
        };
        check_name(name)?;
        let permissions = permissions.split(',').map(Permission::parse).collect::<Result<_, _>>()?;
        let credential = if let Some(hex) = credential.strip_prefix(DIGEST_PREFIX) {
            CredentialId::Token(decode_digest(hex)?)
        } else if let Some(subject) = credential.strip_prefix(CERTIFICATE_PREFIX) {
            let subject = decode_escapes(subject)?;
            if subject.is_empty() {
                return Err("the name in the certificate must follow cert:".to_owned());
            }
            CredentialId::Certificate(subject)
        } else {
            self.has_secrets = true;
            CredentialId::Token(hash_token(credential))
        };
        Ok(Caller { name: name.into(), permissions, credential, secret: None })
    }

    /// Returns the caller with this token. The time of the search does not depend on which digests differ in which
    /// bytes.
    pub(crate) fn find_token(&self, token: &str) -> Option<&Caller> {
        self.find_digest(&hash_token(token))
    }

    fn find_digest(&self, digest: &[u8; 32]) -> Option<&Caller> {
        let mut found = u64::MAX;
        for (index, (known, _)) in (0..).zip(&self.by_digest) {
            found.conditional_assign(&index, known.ct_eq(digest));
        }
        usize::try_from(found).ok().and_then(|index| self.by_digest.get(index)).map(|(_, caller)| caller)
    }

    /// Returns the caller with a client certificate of this name.
    pub(crate) fn find_certificate(&self, name: &str) -> Option<&Caller> {
        self.by_certificate.get(name)
    }

    /// Returns the caller with this credential.
    pub(crate) fn find_credential(&self, credential: &CredentialId) -> Option<&Caller> {
        match credential {
            CredentialId::Token(digest) => self.find_digest(digest),
            CredentialId::Certificate(name) => self.find_certificate(name),
        }
    }
}

/// Refuses a name that would break its line, or the log.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('#') || name.contains(|one: char| one.is_whitespace() || one.is_control()) {
        return Err("a name may not be empty, begin with #, or contain blanks or control characters".to_owned());
    }
    Ok(())
}

/// Formats the line for a token. The permissions have commas between them.
pub(crate) fn format_line(name: &str, token: &str, permissions: &str) -> String {
    format!("{name} {DIGEST_PREFIX}{} {permissions}", format_digest(&hash_token(token)))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn decode_digest(hex: &str) -> Result<[u8; 32], String> {
    if !is_digest(hex) {
        return Err("sha256: must be followed by 64 hexadecimal digits".to_owned());
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|error| error.to_string())?;
    }
    // For example, the variable with the token was not set in `printf %s "$TOKEN" | sha256sum`.
    if digest == hash_token("") {
        return Err("this is the digest of an empty token".to_owned());
    }
    Ok(digest)
}

/// Reads a token file, and logs a warning if its permissions expose the tokens, or a line has no effect.
/// `asks_for_certificates`: the service asks its clients for certificates.
pub(crate) fn read(file: &Path, asks_for_certificates: bool) -> Result<Arc<TokenTable>, StartError> {
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
    if !asks_for_certificates && let Some(caller) = tokens.by_certificate.values().next() {
        report::log_warning(&format!(
            "the line of {} in {} has no effect: only with --tls-client-ca does the service ask for certificates",
            caller.name,
            file.display()
        ));
    }
    Ok(Arc::new(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 digest of `test`.
    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn both_forms_of_a_line_are_accepted() {
        let text = format!(
            "\u{feff}# of the team\r\n\r\nci lock:read,lock:write secret\r\nboard lock:read sha256:{DIGEST}\n\
             \tbuild\tcert:build%201\tlock:admin:shop*\nci sha256:{} lock:write\n",
            DIGEST.replace('9', "A")
        );
        let table = TokenTable::parse(&text).unwrap();
        let name = |caller: Option<&Caller>| caller.map(|caller| caller.name.to_string());
        assert_eq!(name(table.find_token("secret")).as_deref(), Some("ci"));
        assert_eq!(name(table.find_token("test")).as_deref(), Some("board"));
        assert_eq!(name(table.find_token("tes")), None);
        assert_eq!(name(table.find_certificate("build 1")).as_deref(), Some("build"));
        assert_eq!(name(table.find_certificate("build%201")), None);
        assert!(table.has_secrets);
    }

    #[test]
    fn an_invalid_token_file_is_refused_with_the_number_of_the_line() {
        let empty = format_digest(&hash_token(""));
        for (text, why) in [
            ("", "no token"),
            ("# only a comment\n", "no token"),
            ("a lock:read", "line 1: expected NAME"),
            ("a lock:read x\nb lock:all y", "line 2: unknown permission lock:all"),
            ("a lock:read x\n\nb lock:read x", "line 3: this token is already in line 1"),
            ("a lock:read sha256:12", "line 1: sha256: must"),
            (&format!("a lock:read sha256:{}", "é".repeat(32)), "line 1: sha256: must"),
            (&format!("a sha256:{DIGEST} lock:read lock:write"), "line 1: expected NAME"),
            (&format!("a {DIGEST} lock:read"), "line 1: write sha256: before"),
            (&format!("a sha256:{DIGEST} lock:read,"), "line 1: unknown permission"),
            (&format!("a sha256:{DIGEST} lock:read:"), "line 1: permission lock:read:: no service"),
            (&format!("a sha256:{empty} lock:read"), "line 1: this is the digest of an empty token"),
            ("a cert: lock:read", "line 1: the name in the certificate"),
            ("a cert:x lock:read\nb cert:x lock:read", "line 2: this certificate is already in line 1"),
            ("a\u{1b}[2J lock:read x", "line 1: a name may not"),
        ] {
            let error = TokenTable::parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_formatted_line_is_valid() {
        let table = TokenTable::parse(&format_line("ci", "secret", "lock:read,lock:write:shop")).unwrap();
        assert_eq!(table.find_token("secret").unwrap().permissions.len(), 2);
        for name in ["", "#a", "a b", "a\nb", "a\rb", "a\u{2028}b", "a\0"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("ann@example.org").is_ok());
    }
}
