//! Formats and parses the mode of a lock in the JSON that the stores keep.

use aba_lock_protocol::sharing::{Sharing, check_slots};
use serde_json::Value;

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
