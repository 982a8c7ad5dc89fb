//! The permissions of a caller, and the decision whether they allow a call.
//!
//! A permission is a scope, and the services for which it is valid. `token_file` parses permissions, `access` finds
//! those of the caller, and `lock_manager` asks them about the service and the owner of each lock.

use crate::credential::format_digest;
use crate::error::CallError;
use crate::model::{Lock, ServicePattern};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The right that a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Get and list locks.
    Read,
    /// Create locks, and change those of the caller.
    Write,
    /// Change the locks of all callers. Includes the other scopes.
    Admin,
}

impl Scope {
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// Returns the name in the token file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "lock:read",
            Self::Write => "lock:write",
            Self::Admin => "lock:admin",
        }
    }
}

/// A scope, and the services for which it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) scope: Scope,
    pub(crate) services: ServicePattern,
}

impl Permission {
    /// Parses a permission such as `lock:read`, `lock:write:shop` or `lock:write:team-a/*`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains(|one: char| one.is_whitespace() || one.is_control()) {
            return Err(format!("permission {text:?} contains a blank: write %20"));
        }
        let matches = |scope: &&Scope| {
            text.strip_prefix(scope.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        let Some(scope) = Scope::ALL.iter().find(matches) else {
            return Err(format!("unknown permission {text}: use lock:read, lock:write or lock:admin"));
        };
        let services = match text[scope.name().len()..].strip_prefix(':') {
            None => ServicePattern::Prefix(String::new()),
            Some(pattern) => parse_services(pattern).map_err(|why| format!("permission {text}: {why}"))?,
        };
        Ok(Self { scope: *scope, services })
    }

    fn includes(&self, scope: Scope) -> bool {
        self.scope == scope || self.scope == Scope::Admin
    }
}

/// Parses the name of a service, or a prefix of names with a `*` after it.
fn parse_services(pattern: &str) -> Result<ServicePattern, String> {
    if pattern.is_empty() {
        return Err("no service follows the colon".to_owned());
    }
    let (name, is_prefix) = pattern.strip_suffix('*').map_or((pattern, false), |name| (name, true));
    if name.contains('*') {
        return Err("only the last character may be a *; write %2A for a * in the name of a service".to_owned());
    }
    let name = decode_escapes(name)?;
    Ok(if is_prefix { ServicePattern::Prefix(name) } else { ServicePattern::Exact(name) })
}

/// Replaces each `%` and the two hexadecimal digits after it by their byte.
pub(crate) fn decode_escapes(text: &str) -> Result<String, String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_at_checked(2).filter(|(digits, _)| digits.iter().all(u8::is_ascii_hexdigit));
        let (digits, after) = digits.ok_or("two hexadecimal digits must follow each %")?;
        let digits = digits.iter().filter_map(|digit| char::from(*digit).to_digit(16));
        bytes.push(digits.fold(0, |byte, digit| byte << 4 | u8::try_from(digit).unwrap_or_default()));
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "the escaped bytes are not valid UTF-8".to_owned())
}

/// Identifies the credential of a caller in the token file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CredentialId {
    /// The SHA-256 digest of a token.
    Token([u8; 32]),
    /// The name in a client certificate.
    Certificate(String),
}

/// The owner of tokens or certificates in the token file: the caller of a permitted call.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: Arc<str>,
    pub(crate) permissions: Arc<[Permission]>,
    pub(crate) credential: CredentialId,
    /// The digest of the secret of a lock that the call contains.
    pub(crate) secret: Option<[u8; 32]>,
}

impl Caller {
    fn is_permitted(&self, scope: Scope, service: &str) -> bool {
        let permits = |permission: &Permission| permission.includes(scope) && permission.services.matches(service);
        self.permissions.iter().any(permits)
    }

    fn refuse(&self, scope: Scope, place: &str) -> CallError {
        CallError::NotAllowed(format!("{self} does not permit {}{place}", scope.name()))
    }

    /// Refuses a caller that has none of the scopes for any service. The error names the first scope.
    pub(crate) fn check_scopes(&self, scopes: &[Scope]) -> Result<(), CallError> {
        let has_scope = |scope: &Scope| self.permissions.iter().any(|permission| permission.includes(*scope));
        match scopes.first() {
            Some(first) if !scopes.iter().any(has_scope) => Err(self.refuse(*first, "")),
            _ => Ok(()),
        }
    }

    /// Refuses a caller that has the scope only for some services.
    pub(crate) fn check_all_services(&self, scope: Scope) -> Result<(), CallError> {
        if self.list_services(scope).is_none() { Ok(()) } else { Err(self.refuse(scope, " for all services")) }
    }

    /// Refuses a caller that has the scope, but not for the service that the call names.
    pub(crate) fn check_service(&self, scope: Scope, service: &str) -> Result<(), CallError> {
        if self.is_permitted(scope, service) {
            Ok(())
        } else {
            Err(self.refuse(scope, &format!(" for service {service}")))
        }
    }

    /// Refuses a caller that has the scope, but not for the service of a lock that the call names by its id. The error
    /// does not reveal the name of the service.
    pub(crate) fn check_lock(&self, scope: Scope, lock: &Lock) -> Result<(), CallError> {
        let is_permitted = self.is_permitted(scope, &lock.key.service);
        if is_permitted { Ok(()) } else { Err(self.refuse(scope, " for the service of this lock")) }
    }

    /// Refuses a caller that may not change this lock: it belongs to another owner. A lock that was created while the
    /// service had no token file has no owner.
    pub(crate) fn check_change(&self, lock: &Lock) -> Result<(), CallError> {
        self.check_lock(Scope::Write, lock)?;
        if self.owns(lock) || self.is_permitted(Scope::Admin, &lock.key.service) {
            return Ok(());
        }
        let secret = if self.secret.is_some() { "; the secret of this call is that of another lock" } else { "" };
        let admin = Scope::Admin.name();
        Err(CallError::NotAllowed(format!(
            "the lock belongs to {}, and {self} does not permit {admin}{secret}",
            lock.origin.name
        )))
    }

    /// Returns true if the caller needs no `lock:admin` to change this lock.
    pub(crate) fn owns(&self, lock: &Lock) -> bool {
        let owner = &lock.origin;
        owner.name.is_empty() || *owner.name == *self.name || self.knows_secret(&owner.secret)
    }

    fn knows_secret(&self, expected: &str) -> bool {
        self.secret.is_some_and(|secret| format_digest(&secret).as_bytes().ct_eq(expected.as_bytes()).into())
    }

    /// Returns the services for which the caller has the scope. `None`: all services.
    pub(crate) fn list_services(&self, scope: Scope) -> Option<Vec<ServicePattern>> {
        let permissions = self.permissions.iter().filter(|permission| permission.includes(scope));
        let services: Vec<_> = permissions.map(|permission| permission.services.clone()).collect();
        let all = ServicePattern::Prefix(String::new());
        (!services.contains(&all)).then_some(services)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.credential, CredentialId::Token(_)) { "token" } else { "certificate" };
        write!(f, "the {kind} of {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::hash_token;
    use crate::model::{LockKey, LockOrigin, LockRequest};
    use aba_lock_protocol::sharing::Sharing;
    use jiff::Timestamp;

    fn new_caller(name: &str, permissions: &[&str]) -> Caller {
        let permissions = permissions.iter().map(|text| Permission::parse(text).unwrap()).collect();
        Caller { name: name.into(), permissions, credential: CredentialId::Token([0; 32]), secret: None }
    }

    fn new_lock(service: &str, owner: &str, secret: &str) -> Lock {
        let origin = LockOrigin { name: owner.to_owned(), secret: secret.to_owned(), info: String::new() };
        let key = LockKey { service: service.to_owned(), environment: String::new(), resource: String::new() };
        let (who, event_id, sharing) = ("ann".to_owned(), String::new(), Sharing::Exclusive);
        let request = LockRequest { key, who, event_id, ttl: None, wait: None, sharing, origin };
        request.to_lock("7".to_owned(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_permission_names_a_scope_and_services() {
        let all = ServicePattern::Prefix(String::new());
        let parse = |text| Permission::parse(text).map(|permission| (permission.scope, permission.services));
        assert_eq!(parse("lock:read"), Ok((Scope::Read, all.clone())));
        assert_eq!(parse("lock:admin:*"), Ok((Scope::Admin, all)));
        assert_eq!(parse("lock:write:a:b"), Ok((Scope::Write, ServicePattern::Exact("a:b".to_owned()))));
        assert_eq!(parse("lock:write:team%20a/*"), Ok((Scope::Write, ServicePattern::Prefix("team a/".to_owned()))));
        assert_eq!(parse("lock:read:%2a"), Ok((Scope::Read, ServicePattern::Exact("*".to_owned()))));
        for (text, why) in [
            ("lock:all", "unknown permission"),
            ("lock:reader", "unknown permission"),
            ("Lock:read", "unknown permission"),
            ("", "unknown permission"),
            ("lock:read:", "no service"),
            ("lock:read:a*b", "only the last"),
            ("lock:read:**", "only the last"),
            ("lock:read:%2", "hexadecimal"),
            ("lock:read:%+1", "hexadecimal"),
            ("lock:read:%ff", "UTF-8"),
            ("lock:read:a b", "%20"),
            ("lock:read\nx lock:admin", "%20"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_scope_is_valid_for_the_services_of_its_permission() {
        let caller = new_caller("ci", &["lock:read", "lock:write:shop", "lock:write:team/*"]);
        for (scope, service, expected) in [
            (Scope::Read, "anything", true),
            (Scope::Write, "shop", true),
            (Scope::Write, "shopping", false),
            (Scope::Write, "team/", true),
            (Scope::Write, "team/a", true),
            (Scope::Write, "team", false),
            (Scope::Write, "", false),
            (Scope::Admin, "shop", false),
        ] {
            assert_eq!(caller.check_service(scope, service).is_ok(), expected, "{scope:?} {service}");
        }
        assert!(caller.list_services(Scope::Read).is_none() && caller.check_all_services(Scope::Read).is_ok());
        assert_eq!(caller.list_services(Scope::Write).unwrap().len(), 2);
        let error = caller.check_all_services(Scope::Write).unwrap_err();
        assert_eq!(error.to_string(), "the token of ci does not permit lock:write for all services");
    }

    #[test]
    fn only_the_owner_the_secret_or_an_administrator_may_change_a_lock() {
        let digest = format_digest(&hash_token("s"));
        let lock = new_lock("shop", "ann", &digest);
        let ann = new_caller("ann", &["lock:write"]);
        let bob = new_caller("bob", &["lock:write"]);
        assert!(ann.check_change(&lock).is_ok());
        let error = bob.check_change(&lock).unwrap_err();
        assert_eq!(error.to_string(), "the lock belongs to ann, and the token of bob does not permit lock:admin");
        let with_secret = |secret| Caller { secret: Some(hash_token(secret)), ..bob.clone() };
        assert!(with_secret("s").check_change(&lock).is_ok());
        for wrong in ["", "t", digest.as_str()] {
            assert!(with_secret(wrong).check_change(&lock).is_err(), "{wrong}");
        }
        // A lock without a secret is not released by an empty one.
        assert!(with_secret("").check_change(&new_lock("shop", "ann", "")).is_err());
        assert!(new_caller("root", &["lock:admin:shop"]).check_change(&lock).is_ok());
        assert!(new_caller("root", &["lock:admin:other", "lock:write"]).check_change(&lock).is_err());
        // Neither the ownership nor the secret replaces the permission for the service.
        assert!(new_caller("ann", &["lock:write:other"]).check_change(&lock).is_err());
        assert!(bob.check_change(&new_lock("shop", "", "")).is_ok());
    }
}
