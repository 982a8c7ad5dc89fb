//! Formats and parses the values of locks and waiters in etcd, which are JSON. Times are microseconds since the Unix
//! epoch. All services that share the cluster must understand this format.

use super::rpc::KeyValue;
use crate::error::CallError;
use crate::model::{Lock, LockKey, LockOrigin, Waiter};
use crate::store::lock_json::{parse_lock_members, parse_sharing, parse_time, put_sharing};
use crate::store::origin::{format_origin, parse_origin};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A lock as it is stored.
#[derive(Debug, Clone)]
pub(super) struct StoredLock {
    pub(super) lock: Lock,
    pub(super) token_base: u64,
    /// 0 if the lock has no lease.
    pub(super) lease: i64,
    /// The revision of the last change.
    pub(super) revision: i64,
}

pub(super) fn format_lock(lock: &Lock, token_base: u64) -> Vec<u8> {
    let LockKey { service, environment, resource } = &lock.key;
    let mut value = json!({
        "id": lock.id, "service": service, "environment": environment, "resource": resource, "who": lock.who,
        "eventId": lock.event_id, "created": lock.created.as_microsecond(),
        "ttl": lock.ttl.map(|ttl| u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX)),
        "expires": lock.expires.map(Timestamp::as_microsecond), "base": token_base, "origin": format_origin(&lock.origin),
    });
    put_sharing(&mut value, lock.sharing);
    if let Some(slot) = lock.slot {
        value["slot"] = slot.into();
    }
    value.to_string().into_bytes()
}

/// Parses a lock. Its token is the token base plus the revision at which its key was created.
pub(super) fn parse_lock(found: &KeyValue) -> Result<StoredLock, CallError> {
    try_parse_lock(found).ok_or_else(|| unreadable_key(found))
}

/// Parses the holders of a lock, and returns the oldest one first.
pub(super) fn parse_holders(found: &[KeyValue]) -> Result<Vec<Lock>, CallError> {
    let mut holders =
        found.iter().map(|found| parse_lock(found).map(|stored| stored.lock)).collect::<Result<Vec<_>, _>>()?;
    holders.sort_by_key(|holder| holder.token);
    Ok(holders)
}

fn try_parse_lock(found: &KeyValue) -> Option<StoredLock> {
    let value: Value = serde_json::from_slice(&found.value).ok()?;
    let token_base = value["base"].as_u64()?;
    let token = token_base.checked_add(found.create_revision.unsigned_abs())?;
    // Earlier versions did not write it.
    let origin = value.get("origin").map_or(Some(LockOrigin::default()), |origin| parse_origin(origin.as_str()?))?;
    let lock = Lock { expires: parse_time(&value, "expires"), ..parse_lock_members(&value, token, origin)? };
    Some(StoredLock { lock, token_base, lease: found.lease, revision: found.mod_revision })
}

pub(super) fn format_waiter(waiter: &Waiter) -> Vec<u8> {
    let mut value = json!({"who": waiter.who, "since": waiter.since.as_microsecond()});
    put_sharing(&mut value, waiter.sharing);
    value.to_string().into_bytes()
}

pub(super) fn parse_waiter(found: &KeyValue) -> Option<Waiter> {
    let value: Value = serde_json::from_slice(&found.value).ok()?;
    let since = parse_time(&value, "since")?;
    Some(Waiter { who: value["who"].as_str()?.to_owned(), sharing: parse_sharing(&value)?, since })
}

/// The error for a value that this version does not understand.
pub(super) fn unreadable_key(found: &KeyValue) -> CallError {
    CallError::Fault(format!("etcd: {} holds data that aba-lockd cannot read", String::from_utf8_lossy(&found.key)))
}
