//! What is kept in etcd, all below `aba-lockd/`:
//!
//! | key | value |
//! |---|---|
//! | `l/KEY/lock` | the lock of that key, as JSON; bound to a lease if it has a time to live |
//! | `l/KEY/q/ID` | somebody who waits for it; bound to the lease of the service that they asked |
//! | `i/ID` | KEY, of the lock with that id; bound to the same lease as the lock |
//! | `s/SERVICE` | the seal of a service that runs: its revision counts; bound to the lease of the service |
//! | `base` | what tokens count from |
//! | `check` | written to see whether that works |
//!
//! KEY is the service, the environment and the resource, each with what is no letter or digit as `%` and two digits, and a
//! `,` between them.

use super::wire::rpc::KeyValue;
use crate::model::{Lock, LockKey, Waiter};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

pub(super) const LOCKS: &[u8] = b"aba-lockd/l/";
pub(super) const IDS: &[u8] = b"aba-lockd/i/";
pub(super) const SEALS: &[u8] = b"aba-lockd/s/";
pub(super) const BASE: &[u8] = b"aba-lockd/base";
pub(super) const CHECK: &[u8] = b"aba-lockd/check";

/// A lock as it is kept, and where.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) lock: Lock,
    pub(super) base: u64,
    pub(super) lease: i64,
    pub(super) revision: i64,
}

pub(super) fn of(key: &LockKey) -> String {
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

pub(super) fn lock(key: &str) -> Vec<u8> {
    [LOCKS, key.as_bytes(), b"/lock"].concat()
}

pub(super) fn queue(key: &str) -> Vec<u8> {
    [LOCKS, key.as_bytes(), b"/q/"].concat()
}

pub(super) fn place(key: &str, id: &str) -> Vec<u8> {
    [&*queue(key), id.as_bytes()].concat()
}

pub(super) fn id(id: &str) -> Vec<u8> {
    [IDS, id.as_bytes()].concat()
}

pub(super) fn seal(service: &str) -> Vec<u8> {
    [SEALS, service.as_bytes()].concat()
}

/// KEY of a key below `l/`, and whether that is the lock itself.
pub(super) fn split(key: &[u8]) -> Option<(&str, bool)> {
    let rest = std::str::from_utf8(key.strip_prefix(LOCKS)?).ok()?;
    let (key, what) = rest.split_once('/')?;
    Some((key, what == "lock"))
}

pub(super) fn write(lock: &Lock, base: u64) -> Vec<u8> {
    let LockKey { service, environment, resource } = &lock.key;
    let value = json!({
        "id": lock.id, "service": service, "environment": environment, "resource": resource, "who": lock.who,
        "eventId": lock.event_id, "created": lock.created.as_microsecond(),
        "ttl": lock.ttl.map(|ttl| u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX)),
        "expires": lock.expires.map(Timestamp::as_microsecond), "base": base,
    });
    value.to_string().into_bytes()
}

/// The token is what counts from the base to when the key came to be.
pub(super) fn read(found: &KeyValue) -> Option<Kept> {
    let value: Value = serde_json::from_slice(&found.value).ok()?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let time = |name: &str| value[name].as_i64().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let base = value["base"].as_u64()?;
    let lock = Lock {
        id: text("id")?,
        key: LockKey { service: text("service")?, environment: text("environment")?, resource: text("resource")? },
        who: text("who")?,
        event_id: text("eventId")?,
        created: time("created")?,
        ttl: value["ttl"].as_u64().map(Duration::from_micros),
        expires: time("expires"),
        token: base.checked_add(found.create_revision.unsigned_abs())?,
        queue: Vec::new(),
    };
    Some(Kept { lock, base, lease: found.lease, revision: found.mod_revision })
}

pub(super) fn write_waiting(waiting: &Waiter) -> Vec<u8> {
    json!({"who": waiting.who, "since": waiting.since.as_microsecond()}).to_string().into_bytes()
}

pub(super) fn read_waiting(found: &KeyValue) -> Option<Waiter> {
    let value: Value = serde_json::from_slice(&found.value).ok()?;
    let since = Timestamp::from_microsecond(value["since"].as_i64()?).ok()?;
    Some(Waiter { who: value["who"].as_str()?.to_owned(), since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_keys_are_kept_in_different_places() {
        let key = |service: &str, environment: &str, resource: &str| {
            of(&LockKey {
                service: service.to_owned(),
                environment: environment.to_owned(),
                resource: resource.to_owned(),
            })
        };
        let keys =
            [key("a", "b", "c"), key("a,b", "", "c"), key("a", "b,c", ""), key("a/b", "", "c"), key("a%2fb", "", "c")];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[at + 1..].iter().all(|other| other != one), "{one}");
            assert_eq!(split(&lock(one)), Some((one.as_str(), true)));
            assert_eq!(split(&place(one, "x")), Some((one.as_str(), false)));
        }
    }
}
