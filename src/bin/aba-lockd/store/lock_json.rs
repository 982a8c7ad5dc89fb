//! Formats and parses the parts of a lock that are the same in all JSON that the stores keep. Times are microseconds since the
//! Unix epoch.

use crate::model::{Lock, LockKey, LockOrigin};
use aba_lock_protocol::sharing::{Sharing, check_slots};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Parses the members of a lock that are the same in all formats. The lock has this token and this origin, and does not expire.
pub(super) fn parse_lock_members(value: &Value, token: u64, origin: LockOrigin) -> Option<Lock> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    Some(Lock {
        id: text("id")?,
        key: LockKey { service: text("service")?, environment: text("environment")?, resource: text("resource")? },
        who: text("who")?,
        event_id: text("eventId")?,
        created: parse_time(value, "created")?,
        ttl: value["ttl"].as_u64().map(Duration::from_micros),
        expires: None,
        token,
        sharing: parse_sharing(value)?,
        slot: value["slot"].as_u64().and_then(check_slots),
        origin,
        queue: Vec::new(),
    })
}

pub(super) fn parse_time(value: &Value, name: &str) -> Option<Timestamp> {
    value[name].as_i64().and_then(|micros| Timestamp::from_microsecond(micros).ok())
}

/// Adds the mode, which is absent in the values of exclusive locks, as in those of earlier versions.
pub(super) fn put_sharing(value: &mut Value, sharing: Sharing) {
    match sharing {
        Sharing::Exclusive => (),
        Sharing::Shared => value["mode"] = "shared".into(),
        Sharing::Slots(number) => value["slots"] = number.into(),
    }
}

pub(super) fn parse_sharing(value: &Value) -> Option<Sharing> {
    match (value.get("mode"), value.get("slots")) {
        (None, None) => Some(Sharing::Exclusive),
        (Some(mode), None) => (mode == "shared").then_some(Sharing::Shared),
        (_, Some(slots)) => slots.as_u64().and_then(check_slots).map(Sharing::Slots),
    }
}
