//! Formats and parses the locks of the history, in both stores: JSON without secrets. Times are microseconds since the Unix
//! epoch.

use super::lock_json::{parse_lock_members, parse_time, put_sharing};
use crate::model::{LockKey, LockOrigin};
use crate::past_lock::{EndCause, EndKind, PastLock};
use serde_json::{Value, json};

pub(super) fn format_past_lock(PastLock { lock, end }: &PastLock) -> String {
    let LockKey { service, environment, resource } = &lock.key;
    let mut value = json!({
        "id": lock.id, "service": service, "environment": environment, "resource": resource, "who": lock.who,
        "eventId": lock.event_id, "created": lock.created.as_microsecond(), "token": lock.token,
        "owner": lock.origin.name, "end": end.cause.kind.name(), "by": end.cause.by, "ended": end.at.as_microsecond(),
    });
    if let Some(ttl) = lock.ttl {
        value["ttl"] = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX).into();
    }
    if let Some(slot) = lock.slot {
        value["slot"] = slot.into();
    }
    put_sharing(&mut value, lock.sharing);
    value.to_string()
}

/// Parses a lock of the history. `None`: this version does not understand it.
pub(super) fn parse_past_lock(text: &[u8]) -> Option<PastLock> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let origin = LockOrigin { name: text("owner")?, ..LockOrigin::default() };
    let lock = parse_lock_members(&value, value["token"].as_u64()?, origin)?;
    let cause = EndCause { kind: EndKind::parse(&text("end")?)?, by: text("by")? };
    Some(PastLock { lock, end: cause.at(parse_time(&value, "ended")?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LockRequest;
    use aba_lock_protocol::sharing::Sharing;
    use jiff::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_past_lock_survives_the_store_without_its_secret() {
        let [service, environment, resource] = ["web \"1\"", "", "db"].map(str::to_owned);
        let origin = LockOrigin { name: "ci".to_owned(), secret: "00ff".to_owned(), info: "{\"a\":1}".to_owned() };
        for (sharing, slot, ttl) in [
            (Sharing::Exclusive, None, None),
            (Sharing::Shared, None, Some(Duration::from_millis(1500))),
            (Sharing::Slots(3), Some(2), None),
        ] {
            let key =
                LockKey { service: service.clone(), environment: environment.clone(), resource: resource.clone() };
            let (who, event_id, origin) = ("ann".to_owned(), "7".to_owned(), origin.clone());
            let request = LockRequest { key, who, event_id, ttl, wait: None, sharing, origin };
            let mut lock = request.to_lock("id".to_owned(), Timestamp::UNIX_EPOCH);
            (lock.slot, lock.token) = (slot, 9);
            for kind in [EndKind::Released, EndKind::Forced, EndKind::Expired, EndKind::TakenBack, EndKind::Moved] {
                let cause = EndCause { kind, by: "root".to_owned() };
                let past = PastLock::new(&lock, cause.at(Timestamp::from_microsecond(17).unwrap()));
                let text = format_past_lock(&past);
                assert!(!text.contains("00ff") && !text.contains("{\\\"a"), "{text}");
                let read = parse_past_lock(text.as_bytes()).unwrap();
                assert_eq!(format!("{read:?}"), format!("{past:?}"));
            }
        }
        for unreadable in ["", "{}", r#"{"id":"a"}"#] {
            assert!(parse_past_lock(unreadable.as_bytes()).is_none(), "{unreadable}");
        }
    }
}
