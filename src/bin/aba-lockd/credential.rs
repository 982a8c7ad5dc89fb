//! The credentials of a call: reads the token in the headers of a request, and creates new tokens.
//!
//! `access` calls [`read_token`] for each call of a service with a token file. REST and gRPC have the same headers.

use crate::error::CallError;
use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write;

/// Carries a token instead of `Authorization`, for example if a proxy uses that header itself.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Carries the secret of a lock, which a create call returned.
const LOCK_SECRET: HeaderName = HeaderName::from_static("x-lock-secret");

/// Maximum number of bytes of a token. A longer one is refused without a digest.
const MAX_TOKEN: usize = 1024;

/// The start of each new token, by which scanners for leaked secrets can find it.
const TOKEN_PREFIX: &str = "abalock_";

/// Returns the token of a call. `None`: the call has none.
///
/// If there is an `X-Api-Key`, `Authorization` is not read. A repeated header is refused, because programs on the way
/// of the call could disagree on the one that counts.
pub(crate) fn read_token(headers: &HeaderMap) -> Result<Option<String>, CallError> {
    let token = match read_header(headers, &API_KEY)?.map(str::trim) {
        Some(token) if !token.is_empty() => Some(token.to_owned()),
        _ => read_header(headers, &header::AUTHORIZATION)?.map(read_authorization).transpose()?.flatten(),
    };
    match token {
        Some(token) if token.len() > MAX_TOKEN => Err(CallError::WrongToken),
        token => Ok(token),
    }
}

/// Returns the digest of the secret of a lock. `None`: the call has none.
pub(crate) fn read_lock_secret(headers: &HeaderMap) -> Result<Option<[u8; 32]>, CallError> {
    let secret = read_header(headers, &LOCK_SECRET)?.map(str::trim);
    Ok(secret.filter(|secret| (1..=MAX_TOKEN).contains(&secret.len())).map(hash_token))
}

fn read_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, CallError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(CallError::BadCredential(format!("the call has more than one header {name}")));
    }
    let text = value.to_str().ok();
    text.map(Some).ok_or_else(|| CallError::BadCredential(format!("the header {name} is not ASCII text")))
}

/// Returns the token in the value of `Authorization`. `None`: it has another scheme, or no token.
fn read_authorization(value: &str) -> Result<Option<String>, CallError> {
    let Some((scheme, rest)) = value.trim().split_once(' ') else { return Ok(None) };
    let rest = rest.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        read_password(rest).ok_or_else(|| {
            CallError::BadCredential(
                "the header authorization does not have the base64 of USER:TOKEN after Basic".to_owned(),
            )
        })?
    } else {
        return Ok(None);
    };
    Ok(Some(token).filter(|token| !token.is_empty()))
}

/// Returns the password of Basic credentials, which is the token. The user name may be any text.
fn read_password(base64: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// Returns a new token of 256 random bits.
pub(crate) fn new_token() -> Result<String, String> {
    Ok(format!("{TOKEN_PREFIX}{}", new_secret()?))
}

/// Returns 256 random bits as text.
pub(crate) fn new_secret() -> Result<String, String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the kernel gives no random bytes".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns the SHA-256 digest of a token or a secret.
///
/// A slow hash, as for passwords, would protect nothing: it makes guesses expensive, but a token of 256 random bits
/// cannot be guessed however fast the hash is. It would only let callers keep the service busy with wrong tokens.
pub(crate) fn hash_token(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("the digest has 32 bytes")
}

/// Formats a digest in hexadecimal.
pub(crate) fn format_digest(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(headers: &[(&'static str, &[u8])]) -> Result<Option<String>, &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        read_token(&map).map_err(|error| error.label())
    }

    #[test]
    fn the_token_is_in_x_api_key_or_in_authorization() {
        let basic = format!("Basic {}", STANDARD.encode("ann:se:cret"));
        for (value, expected) in [
            ("Bearer secret", Ok(Some("secret"))),
            ("bEARER   secret  ", Ok(Some("secret"))),
            (basic.as_str(), Ok(Some("se:cret"))),
            ("basic OnNlY3JldA==", Ok(Some("secret"))),
            ("Bearer", Ok(None)),
            ("Bearer ", Ok(None)),
            ("Bearer\tsecret", Ok(None)),
            ("secret", Ok(None)),
            ("Digest secret", Ok(None)),
            ("", Ok(None)),
            // A user without a password.
            ("Basic YW5uOg==", Ok(None)),
            // No colon, no padding, another alphabet, no base64, and bytes that are not UTF-8.
            ("Basic YW5u", Err("bad_credential")),
            ("Basic OnNlY3JldA", Err("bad_credential")),
            ("Basic Oj8_Pw==", Err("bad_credential")),
            ("Basic secret!", Err("bad_credential")),
            ("Basic Ov8=", Err("bad_credential")),
        ] {
            assert_eq!(
                read(&[("authorization", value.as_bytes())]),
                expected.map(|token| token.map(str::to_owned)),
                "{value}"
            );
        }
        assert_eq!(read(&[("x-api-key", b" key "), ("authorization", b"Bearer other")]), Ok(Some("key".to_owned())));
        assert_eq!(read(&[("x-api-key", b""), ("authorization", b"Bearer other")]), Ok(Some("other".to_owned())));
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn ambiguous_and_unreadable_headers_are_refused() {
        let two: [&[(&str, &[u8])]; 4] = [
            &[("authorization", b"Bearer a"), ("authorization", b"Bearer a")],
            &[("x-api-key", b"a"), ("x-api-key", b"b")],
            &[("authorization", b"Bearer \xe9")],
            &[("x-api-key", b"\xff")],
        ];
        for headers in two {
            assert_eq!(read(headers), Err("bad_credential"), "{headers:?}");
        }
        assert_eq!(read(&[("x-api-key", "a".repeat(1025).as_bytes())]), Err("wrong_token"));
    }

    #[test]
    fn new_tokens_differ() {
        let token = new_token().unwrap();
        assert!(token.starts_with(TOKEN_PREFIX) && token.len() == TOKEN_PREFIX.len() + 43, "{token}");
        assert_ne!(token, new_token().unwrap());
    }
}
