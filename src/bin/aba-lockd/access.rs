//! The decision whether a call is permitted: by its token, and by the page that sent it.
//!
//! Both APIs check the token of each call. A page of another site can make a browser send requests, so REST also checks
//! the headers with which browsers report where a request comes from.

use crate::error::CallError;
use crate::token_file::{Scope, TokenTable};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Debug)]
pub(crate) struct AccessPolicy {
    /// `None`: each client that reaches the service is permitted. Replaced when the token file is read again.
    pub(crate) tokens: Option<RwLock<Arc<TokenTable>>>,
    /// Names of the service, in addition to those of the loopback interface.
    pub(crate) allowed_hosts: Vec<String>,
    /// True if calls to any other name are refused.
    pub(crate) checks_host: bool,
}

/// The headers that say where a request comes from.
#[derive(Debug, Default)]
pub(crate) struct RequestOrigin<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) fetch_site: Option<&'a str>,
    pub(crate) purpose: Option<&'a str>,
}

impl AccessPolicy {
    /// Replaces the tokens. The service refuses the old ones from now on.
    pub(crate) fn replace_tokens(&self, new: Arc<TokenTable>) {
        if let Some(tokens) = &self.tokens {
            *tokens.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// Returns the name of the token in the token file, if the token permits the call.
    pub(crate) fn check_token(&self, authorization: Option<&str>, scope: Scope) -> Result<Option<String>, CallError> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        let tokens = Arc::clone(&tokens.read().unwrap_or_else(PoisonError::into_inner));
        let (scheme, token) = authorization.and_then(|value| value.split_once(' ')).ok_or(CallError::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(CallError::NoToken);
        }
        let owner = tokens.find_owner(token.trim()).ok_or(CallError::WrongToken)?;
        if owner.scopes.contains(&scope) {
            return Ok(Some(owner.name.clone()));
        }
        let scope = if scope == Scope::Read { "lock:read" } else { "lock:write" };
        Err(CallError::NotAllowed(format!("the token of {} does not permit {scope}", owner.name)))
    }

    /// Refuses requests that a browser sends for a page of another site: a form, an image or a link that unlocks, or a
    /// page whose host name resolves to this service (DNS rebinding). Other programs send none of these headers but
    /// `Host`.
    pub(crate) fn check_origin(&self, request: &RequestOrigin, scope: Scope) -> Result<(), CallError> {
        if let (true, Some(host)) = (self.checks_host, request.host) {
            let name = strip_port(host);
            if !is_local_host(name) && !self.is_allowed_host(name) {
                let why = format!(
                    "{name} is not a known name of this service; to allow it, start the service with --allow-host {name}"
                );
                return Err(CallError::NotAllowed(why));
            }
        }
        if scope == Scope::Read {
            return Ok(());
        }
        let refuse = |why: &str| Err(CallError::NotAllowed(format!("{why}; nothing was changed")));
        if request.purpose.is_some_and(|purpose| purpose.to_ascii_lowercase().contains("prefetch")) {
            return refuse("the request is only a prefetch of a browser");
        }
        match request.fetch_site {
            None | Some("none" | "same-origin") => (),
            Some(_) => return refuse("the request comes from a page of another site"),
        }
        let Some(origin) = request.origin else { return Ok(()) };
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        // A proxy may send its own name for the service in `Host`, so the allowed names count as well.
        let is_own = |authority: &str| {
            request.host.is_some_and(|host| authority.eq_ignore_ascii_case(host))
                || self.is_allowed_host(strip_port(authority))
        };
        if authority.is_some_and(is_own) { Ok(()) } else { refuse("the request comes from a page of another origin") }
    }

    fn is_allowed_host(&self, name: &str) -> bool {
        self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_local_host(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // An address cannot be the result of DNS rebinding: no name was resolved.
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_permits_the_calls_of_its_scopes() {
        let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let text = format!("# of the team\n\nci lock:read,lock:write secret\nboard lock:read {digest}\n");
        let access = AccessPolicy {
            tokens: Some(RwLock::new(Arc::new(TokenTable::parse(&text).unwrap()))),
            allowed_hosts: Vec::new(),
            checks_host: false,
        };
        let name = |token, scope| access.check_token(token, scope).map(Option::unwrap).map_err(|error| error.label());
        assert_eq!(name(Some("Bearer secret"), Scope::Write), Ok("ci".to_owned()));
        assert_eq!(name(Some("bearer test"), Scope::Read), Ok("board".to_owned()));
        assert_eq!(name(Some("Bearer test"), Scope::Write), Err("not_allowed"));
        for none in [None, Some("Bearer"), Some("Basic secret"), Some("secret")] {
            assert_eq!(name(none, Scope::Read), Err("no_token"), "{none:?}");
        }
        assert_eq!(name(Some("Bearer other"), Scope::Read), Err("wrong_token"));
    }

    #[test]
    fn local_names_are_loopback_names_and_addresses() {
        for local in ["localhost", "a.localhost", "127.0.0.1", "[::1]", "10.1.2.3", "LOCALHOST."] {
            assert!(is_local_host(strip_port(&format!("{local}:8080"))) && is_local_host(strip_port(local)), "{local}");
        }
        for other in ["example.org", "localhost.example.org", "127.0.0.1.example.org", ""] {
            assert!(!is_local_host(other), "{other}");
        }
    }
}
