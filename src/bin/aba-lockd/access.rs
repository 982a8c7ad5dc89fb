//! Who may ask for what: tokens, and browsers that are sent by somebody else's page.
//!
//! The token file has a line for each token, `NAME SCOPES TOKEN`: a name for the log, `lock:read`, `lock:write` or both with
//! a comma between, and the token itself or `sha256:` and its digest in hexadecimal. Empty lines and lines that begin
//! with `#` do not count. `lock:read` is for looking, `lock:write` for all else.

use crate::model::Problem;
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To look.
    Read,
    /// To change.
    Write,
}

#[derive(Debug)]
struct Bearer {
    name: String,
    scopes: Vec<Scope>,
}

/// Those whom the token file knows, by the digest of their token: so looking for one takes as long, whatever it is.
#[derive(Debug)]
pub(crate) struct Tokens {
    by_digest: HashMap<Vec<u8>, Bearer>,
    /// The file has a token in clear text, and not digests alone.
    pub(crate) has_secrets: bool,
}

/// Who may.
#[derive(Debug)]
pub(crate) struct Access {
    /// `None`: each client that reaches the service is permitted. The tokens change when the file is read again.
    pub(crate) tokens: Option<RwLock<Arc<Tokens>>>,
    /// Other names than loopback's by which we are called.
    pub(crate) hosts: Vec<String>,
    /// Whether we are called by those alone.
    pub(crate) only_those: bool,
}

/// What a request says of where it comes from.
#[derive(Debug, Default)]
pub(crate) struct From<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) fetch_site: Option<&'a str>,
    pub(crate) purpose: Option<&'a str>,
}

impl Tokens {
    /// From the text of a token file. The error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut by_digest, mut has_secrets) = (HashMap::new(), false);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, scopes, token] = words[..] else {
                return Err(format!("line {number} is not NAME SCOPES TOKEN"));
            };
            let scopes = scopes.split(',').map(|scope| match scope {
                "lock:read" => Ok(Scope::Read),
                "lock:write" => Ok(Scope::Write),
                _ => Err(format!("line {number}: {scope} is neither lock:read nor lock:write")),
            });
            let scopes = scopes.collect::<Result<_, _>>()?;
            let key = if let Some(hex) = token.strip_prefix("sha256:") {
                from_hex(hex).ok_or(format!("line {number}: sha256: is followed by 64 hexadecimal digits"))?
            } else {
                has_secrets = true;
                digest(&SHA256, token.as_bytes()).as_ref().to_vec()
            };
            if by_digest.insert(key, Bearer { name: name.to_owned(), scopes }).is_some() {
                return Err(format!("line {number} has a token that is there already"));
            }
        }
        if by_digest.is_empty() {
            return Err("there is no token in it".to_owned());
        }
        Ok(Self { by_digest, has_secrets })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl Access {
    /// Replaces the tokens: from now on the service refuses the old ones.
    pub(crate) fn replace_tokens(&self, new: Arc<Tokens>) {
        if let Some(tokens) = &self.tokens {
            *tokens.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// Who asks, as the token file calls them, if they may.
    pub(crate) fn bearer(&self, authorization: Option<&str>, scope: Scope) -> Result<Option<String>, Problem> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let tokens = Arc::clone(&tokens.read().unwrap_or_else(PoisonError::into_inner));
        let (scheme, token) = authorization.and_then(|value| value.split_once(' ')).ok_or(Problem::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::NoToken);
        }
        let bearer =
            tokens.by_digest.get(digest(&SHA256, token.trim().as_bytes()).as_ref()).ok_or(Problem::WrongToken)?;
        if bearer.scopes.contains(&scope) {
            return Ok(Some(bearer.name.clone()));
        }
        let scope = if scope == Scope::Read { "lock:read" } else { "lock:write" };
        Err(Problem::NotAllowed(format!("the token of {} is not for {scope}", bearer.name)))
    }

    /// Refuses what a browser sends for somebody else's page: a form, a picture or a link that unlocks, and names that
    /// were made to lead here (DNS rebinding). Programs send none of these headers but `Host`.
    pub(crate) fn not_for_another(&self, from: &From, scope: Scope) -> Result<(), Problem> {
        if let (true, Some(host)) = (self.only_those, from.host) {
            let name = without_port(host);
            if !is_local(name) && !self.knows(name) {
                let why = format!("{name} is not a name of this service; start it with --allow-host {name} if it is");
                return Err(Problem::NotAllowed(why));
            }
        }
        if scope == Scope::Read {
            return Ok(());
        }
        let refused = |why: &str| Err(Problem::NotAllowed(format!("{why}; nothing was changed")));
        if from.purpose.is_some_and(|purpose| purpose.to_ascii_lowercase().contains("prefetch")) {
            return refused("this is to be asked for, not fetched beforehand");
        }
        match from.fetch_site {
            None | Some("none" | "same-origin") => (),
            Some(_) => return refused("it is asked for by a page of another site"),
        }
        let Some(origin) = from.origin else { return Ok(()) };
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        // A proxy may have put its own name for us into `Host`.
        let ours = |authority: &str| {
            from.host.is_some_and(|host| authority.eq_ignore_ascii_case(host)) || self.knows(without_port(authority))
        };
        if authority.is_some_and(ours) { Ok(()) } else { refused("it is asked for by a page of another origin") }
    }

    fn knows(&self, name: &str) -> bool {
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // An address was typed, not looked up.
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_by_name_and_scope() {
        let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let text = format!("# of the team\n\nci lock:read,lock:write secret\nboard lock:read {digest}\n");
        let access = Access {
            tokens: Some(RwLock::new(Arc::new(Tokens::parse(&text).unwrap()))),
            hosts: Vec::new(),
            only_those: false,
        };
        let name = |token, scope| access.bearer(token, scope).map(Option::unwrap).map_err(|problem| problem.word());
        assert_eq!(name(Some("Bearer secret"), Scope::Write), Ok("ci".to_owned()));
        assert_eq!(name(Some("bearer test"), Scope::Read), Ok("board".to_owned()));
        assert_eq!(name(Some("Bearer test"), Scope::Write), Err("not_allowed"));
        for none in [None, Some("Bearer"), Some("Basic secret"), Some("secret")] {
            assert_eq!(name(none, Scope::Read), Err("no_token"), "{none:?}");
        }
        assert_eq!(name(Some("Bearer other"), Scope::Read), Err("wrong_token"));
    }

    #[test]
    fn a_token_file_that_is_not_understood_is_refused_with_its_line() {
        for (text, why) in [
            ("", "no token"),
            ("a lock:read", "line 1"),
            ("a lock:read x\nb lock:all y", "line 2"),
            ("a lock:read x\nb lock:read x", "line 2"),
            ("a lock:read sha256:12", "line 1"),
        ] {
            let error = Tokens::parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn local_names_are_loopback_and_addresses() {
        for local in ["localhost", "a.localhost", "127.0.0.1", "[::1]", "10.1.2.3", "LOCALHOST."] {
            assert!(is_local(without_port(&format!("{local}:8080"))) && is_local(without_port(local)), "{local}");
        }
        for other in ["example.org", "localhost.example.org", "127.0.0.1.example.org", ""] {
            assert!(!is_local(other), "{other}");
        }
    }
}
