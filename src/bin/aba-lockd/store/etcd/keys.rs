//! The names of the keys in etcd, all with the prefix `aba-lockd/`:
//!
//! | key | value |
//! |---|---|
//! | `l/NAME/lock` | the exclusive lock, as JSON; bound to a lease if it has a time to live |
//! | `l/NAME/h/ID` | a lock that is shared, or has a slot; in the same form |
//! | `l/NAME/q/ID` | a waiter; bound to the lease of the service to which it is connected |
//! | `i/ID` | NAME of the lock with this id, followed by `/h` if it is not exclusive; bound to the same lease as the lock |
//! | `k/TIME/ID` | a lock that has ended, as an entry of the history; TIME is the end in microseconds, with leading zeros |
//! | `s/SERVICE` | the epoch key of a running service, of which only the revision matters; bound to the lease of the service |
//! | `base` | the token base |
//! | `check` | written by health checks |
//!
//! NAME is the service, the environment and the resource of the lock, with a comma between them. In each, a byte that
//! is neither a letter nor a digit is written as `%` and two hexadecimal digits.

use super::request::end_of_prefix;
use super::rpc::RangeRequest;
use crate::model::LockKey;
use crate::permission::decode_escapes;
use aba_lock_protocol::sharing::Sharing;
use jiff::Timestamp;
use std::fmt::Write;

pub(super) const LOCKS: &[u8] = b"aba-lockd/l/";
/// Next to [`LOCKS`], so that one watch reports the end of a lock with its entry in the history.
pub(super) const HISTORY: &[u8] = b"aba-lockd/k/";
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

/// Returns the key of a lock from its NAME. `None`: no service writes such a name.
pub(super) fn decode_name(name: &str) -> Option<LockKey> {
    let mut parts = name.split(',').map(|part| decode_escapes(part).ok());
    let mut next = || parts.next().flatten();
    Some(LockKey { service: next()?, environment: next()?, resource: next()? })
}

/// Returns the key of an entry in the history.
pub(super) fn history_key(ended: Timestamp, id: &str) -> Vec<u8> {
    [HISTORY, format!("{:020}/{id}", ended.as_microsecond()).as_bytes()].concat()
}

/// Returns the range of the keys to watch: those of locks, of waiters and of the history.
pub(super) fn watched_range() -> RangeRequest {
    RangeRequest { key: HISTORY.to_vec(), range_end: end_of_prefix(LOCKS), ..Default::default() }
}

/// The end of the value of an id key, if the lock is not exclusive.
const SHARER: &str = "/h";

/// A key below `l/NAME/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockKeyKind {
    /// The key of a lock, in any mode.
    Holder,
    /// The key of a waiter.
    QueueEntry,
}

/// Returns the key of a lock.
pub(super) fn holder_key(name: &str, id: &str, sharing: Sharing) -> Vec<u8> {
    match sharing {
        Sharing::Exclusive => [LOCKS, name.as_bytes(), b"/lock"].concat(),
        Sharing::Shared | Sharing::Slots(_) => [LOCKS, name.as_bytes(), b"/h/", id.as_bytes()].concat(),
    }
}

/// Returns the range of the keys of all holders of a lock. In the order of the keys, `h/ID` and `lock` are before `q/ID`.
pub(super) fn holders_range(name: &str) -> RangeRequest {
    let key = [LOCKS, name.as_bytes(), b"/h/"].concat();
    RangeRequest { key, range_end: queue_prefix(name), ..Default::default() }
}

/// Returns the value of the id key of a lock.
pub(super) fn format_place(name: &str, sharing: Sharing) -> Vec<u8> {
    let suffix = if sharing == Sharing::Exclusive { "" } else { SHARER };
    [name, suffix].concat().into_bytes()
}

/// Reads the value of an id key: NAME, and the key of the lock.
pub(super) fn parse_place(place: &[u8], id: &str) -> Option<(String, Vec<u8>)> {
    let place = std::str::from_utf8(place).ok()?;
    Some(match place.strip_suffix(SHARER) {
        Some(name) => (name.to_owned(), holder_key(name, id, Sharing::Shared)),
        None => (place.to_owned(), holder_key(place, id, Sharing::Exclusive)),
    })
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

/// Returns NAME of a key below `l/`, and the kind of the key.
pub(super) fn parse_lock_key(key: &[u8]) -> Option<(&str, LockKeyKind)> {
    let rest = std::str::from_utf8(key.strip_prefix(LOCKS)?).ok()?;
    let (name, kind) = rest.split_once('/')?;
    let is_holder = kind == "lock" || kind.starts_with("h/");
    Some((name, if is_holder { LockKeyKind::Holder } else { LockKeyKind::QueueEntry }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::past_lock::parse_history_place;

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
            for sharing in [Sharing::Exclusive, Sharing::Shared, Sharing::Slots(2)] {
                let key = holder_key(one, "x", sharing);
                assert_eq!(parse_lock_key(&key), Some((one.as_str(), LockKeyKind::Holder)));
                assert_eq!(parse_place(&format_place(one, sharing), "x"), Some((one.clone(), key.clone())));
                let range = holders_range(one);
                assert!(range.key <= key && key < range.range_end, "{key:?}");
            }
            let entry = queue_entry_key(one, "x");
            assert_eq!(parse_lock_key(&entry), Some((one.as_str(), LockKeyKind::QueueEntry)));
            assert!(entry >= holders_range(one).range_end);
            let watched = watched_range();
            for key in [&entry, &holder_key(one, "x", Sharing::Exclusive), &history_key(Timestamp::UNIX_EPOCH, "x")] {
                assert!(watched.key <= *key && *key < watched.range_end, "{key:?}");
            }
            assert_eq!(decode_name(one).map(|key| encode_name(&key)).as_ref(), Some(one));
        }
        let place = history_key(Timestamp::UNIX_EPOCH, "x").split_off(HISTORY.len());
        assert_eq!(parse_history_place(std::str::from_utf8(&place).unwrap()), Some(0));
        assert_eq!(parse_history_place("99999999999999999999/x"), Some(u64::MAX));
        assert!(
            ["", "7", "7/x", "0000000000000000000x/"].into_iter().all(|place| parse_history_place(place).is_none())
        );
    }
}
