//! The decision whether a call is permitted: by its token or client certificate, and by the page that sent it.
//!
//! Both APIs identify the caller of each call. A page of another site can make a browser send requests, so REST also checks
//! the headers with which browsers report where a request comes from.

use crate::credential;
use crate::error::CallError;
use crate::permission::{Caller, Scope};
use crate::token_file::TokenTable;
use axum::http::HeaderMap;
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

    fn tokens(&self) -> Option<Arc<TokenTable>> {
        self.tokens.as_ref().map(|tokens| Arc::clone(&tokens.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Returns the caller, if it has one of the scopes for at least one service. `None`: the service has no token file.
    ///
    /// A client certificate counts only if the call has no token.
    pub(crate) fn identify_caller(
        &self,
        headers: &HeaderMap,
        certificate: Option<&str>,
        scopes: &[Scope],
    ) -> Result<Option<Caller>, CallError> {
        let Some(tokens) = self.tokens() else { return Ok(None) };
        let caller = match credential::read_token(headers)? {
            Some(token) => tokens.find_token(&token).ok_or(CallError::WrongToken)?,
            None => certificate.and_then(|name| tokens.find_certificate(name)).ok_or(CallError::NoToken)?,
        };
        caller.check_scopes(scopes)?;
        Ok(Some(Caller { secret: credential::read_lock_secret(headers)?, ..caller.clone() }))
    }

    /// Refuses a caller whose credential or permission was removed from the token file during its call.
    pub(crate) fn check_again(&self, caller: Option<&Caller>, scope: Scope, service: &str) -> Result<(), CallError> {
        let (Some(caller), Some(tokens)) = (caller, self.tokens()) else { return Ok(()) };
        tokens.find_credential(&caller.credential).ok_or(CallError::WrongToken)?.check_service(scope, service)
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
    use axum::http::header;

    #[test]
    fn a_call_with_a_token_or_a_certificate_has_the_permissions_of_its_line() {
        let text = "ci lock:read,lock:write secret\nbuild cert:build lock:read\n";
        let access = AccessPolicy {
            tokens: Some(RwLock::new(Arc::new(TokenTable::parse(text).unwrap()))),
            allowed_hosts: Vec::new(),
            checks_host: false,
        };
        let name = |token: Option<&str>, certificate, scope| {
            let headers = token.map(|token| (header::AUTHORIZATION, token.parse().unwrap())).into_iter().collect();
            let caller = access.identify_caller(&headers, certificate, &[scope]);
            caller.map(|caller| caller.unwrap().name.to_string()).map_err(|error| error.label())
        };
        assert_eq!(name(Some("Bearer secret"), None, Scope::Write), Ok("ci".to_owned()));
        assert_eq!(name(Some("Bearer secret"), None, Scope::Admin), Err("not_allowed"));
        assert_eq!(name(Some("Bearer secret"), Some("build"), Scope::Read), Ok("ci".to_owned()));
        assert_eq!(name(None, Some("build"), Scope::Read), Ok("build".to_owned()));
        assert_eq!(name(None, Some("build"), Scope::Write), Err("not_allowed"));
        assert_eq!(name(None, Some("other"), Scope::Read), Err("no_token"));
        assert_eq!(name(None, None, Scope::Read), Err("no_token"));
        // A certificate does not replace a token that is wrong.
        assert_eq!(name(Some("Bearer other"), Some("build"), Scope::Read), Err("wrong_token"));
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
