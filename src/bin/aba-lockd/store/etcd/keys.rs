//! The names of the keys in etcd, all with the prefix `aba-lockd/`:
//!
//! | key | value |
//! |---|---|
//! | `l/NAME/lock` | the lock, as JSON; bound to a lease if it has a time to live |
//! | `l/NAME/q/ID` | a waiter; bound to the lease of the service to which it is connected |
//! | `i/ID` | NAME of the lock with this id; bound to the same lease as the lock |
//! | `s/SERVICE` | the epoch key of a running service, of which only the revision matters; bound to the lease of the service |
//! | `base` | the token base |
//! | `check` | written by health checks |
//!
//! NAME is the service, the environment and the resource of the lock, with a comma between them. In each, a byte that
//! is neither a letter nor a digit is written as `%` and two hexadecimal digits.

use crate::model::LockKey;
use std::fmt::Write;

pub(super) const LOCKS: &[u8] = b"aba-lockd/l/";
pub(super) const IDS: &[u8] = b"aba-lockd/i/";
pub(super) const EPOCHS: &[u8] = b"aba-lockd/s/";
pub(super) const TOKEN_BASE: &[u8] = b"aba-lockd/base";
pub(super) const CHECK: &[u8] = b"aba-lockd/check";

/// Returns NAME of a lock.
pub(super) fn encode_name(key: &LockKey) -> String {
    let mut text = String::new();
    for (at, part) in [&key.service, &key.environment, &key.resource].into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02x}");
            }
        }
    }
    text
}

pub(super) fn lock_key(name: &str) -> Vec<u8> {
    [LOCKS, name.as_bytes(), b"/lock"].concat()
}

/// Returns the prefix of all queue entries of a lock.
pub(super) fn queue_prefix(name: &str) -> Vec<u8> {
    [LOCKS, name.as_bytes(), b"/q/"].concat()
}

pub(super) fn queue_entry_key(name: &str, id: &str) -> Vec<u8> {
    [&*queue_prefix(name), id.as_bytes()].concat()
}

pub(super) fn id_key(id: &str) -> Vec<u8> {
    [IDS, id.as_bytes()].concat()
}

pub(super) fn epoch_key(service: &str) -> Vec<u8> {
    [EPOCHS, service.as_bytes()].concat()
}

/// Returns NAME of a key below `l/`, and true if it is the key of the lock itself.
pub(super) fn parse_lock_key(key: &[u8]) -> Option<(&str, bool)> {
    let rest = std::str::from_utf8(key.strip_prefix(LOCKS)?).ok()?;
    let (name, kind) = rest.split_once('/')?;
    Some((name, kind == "lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_locks_have_different_keys() {
        let name = |service: &str, environment: &str, resource: &str| {
            let [service, environment, resource] = [service, environment, resource].map(str::to_owned);
            encode_name(&LockKey { service, environment, resource })
        };
        let names = [
            name("a", "b", "c"),
            name("a,b", "", "c"),
            name("a", "b,c", ""),
            name("a/b", "", "c"),
            name("a%2fb", "", "c"),
        ];
        for (at, one) in names.iter().enumerate() {
            assert!(names[at + 1..].iter().all(|other| other != one), "{one}");
            assert_eq!(parse_lock_key(&lock_key(one)), Some((one.as_str(), true)));
            assert_eq!(parse_lock_key(&queue_entry_key(one, "x")), Some((one.as_str(), false)));
        }
    }
}
