//! An etcd cluster, and the keys of queues in it. The other files of this folder add operations to [`EtcdCluster`].

use crate::fault::Fault;
use crate::lease::{LeaseOwner, QueueEntry};
use crate::os::random;
use crate::server::etcd::gateway::Gateway;
use crate::server::etcd::json::{decode, read_number};
use crate::settings::Settings;
use aba_lock_protocol::sharing::{Sharing, check_slots};
use serde_json::{Value, json};
use std::time::Duration;

/// A client for a cluster.
pub(crate) struct EtcdCluster {
    pub(super) gateway: Gateway,
    pub(super) prefix: String,
}

impl EtcdCluster {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { gateway: Gateway::new(settings)?, prefix: settings.address.prefix.clone() })
    }

    /// The key of the lease with this number in the queue of a name.
    pub(super) fn queue_key(&self, name: &str, number: u64) -> String {
        format!("{}{name}/{number:x}", self.prefix)
    }

    /// The range of the keys in the queue of a name: the first key, and the first key after them. (`0` follows `/` in
    /// ASCII.)
    pub(super) fn queue_range(&self, name: &str) -> (String, String) {
        (format!("{}{name}/", self.prefix), format!("{}{name}0", self.prefix))
    }

    /// Reads an entry from any key below the prefix. The entries before it decide if it holds the lock.
    pub(super) fn parse_entry(&self, kv: &Value) -> Option<QueueEntry> {
        let id = decode(&kv["key"])?;
        let name = id.strip_prefix(&self.prefix)?.rsplit_once('/')?.0.to_owned();
        let revision = read_number(&kv["create_revision"]);
        let value = parse_value(kv);
        // Other programs, and earlier versions, write no token: theirs is the revision.
        let token = value["token"].as_u64().unwrap_or(revision);
        let (sharing, slot) = parse_sharing(&value);
        let (owner, owner_text) = (LeaseOwner::from_json(&value), None);
        let (left, is_holder, others, held_slots) = (None, false, 0, 0);
        Some(QueueEntry {
            name,
            id,
            token,
            revision,
            owner,
            owner_text,
            left,
            sharing,
            slot,
            is_holder,
            others,
            held_slots,
        })
    }

    /// Reads an entry of the queue of a name. `None`: the key has another use.
    pub(super) fn parse_queue_entry(&self, name: &str, kv: &Value) -> Option<QueueEntry> {
        let is_in_queue = |id: &str| parse_number(id) == Some(read_number(&kv["lease"]));
        self.parse_entry(kv).filter(|entry| entry.name == name && is_in_queue(&entry.id))
    }

    /// Asks for the time that a lease will live without renewal.
    pub(super) fn read_time_left(&mut self, number: u64) -> Result<Option<Duration>, Fault> {
        let left = self.gateway.call("/v3/lease/timetolive", &json!({ "ID": number.to_string() }))?;
        Ok(left.body["TTL"].as_str().and_then(|ttl| ttl.parse().ok()).map(Duration::from_secs))
    }
}

/// Chooses the number of a new lease. It is positive, and even: the odd number after it is for its mark.
pub(super) fn choose_number() -> Result<u64, Fault> {
    let number = random::random_number().map_err(|error| Fault::from_random(&error))?;
    Ok((number & !1).max(2))
}

/// The number of the lease for the mark that goes with a lease of this number.
pub(super) fn mark_number(number: u64) -> u64 {
    number | 1
}

/// Reads the number of the lease from a key in a queue.
pub(super) fn read_lease_number(id: &str) -> Result<u64, Fault> {
    parse_number(id).ok_or_else(|| Fault::from_invalid_id(id))
}

fn parse_number(id: &str) -> Option<u64> {
    u64::from_str_radix(id.rsplit_once('/')?.1, 16).ok().filter(|number| *number > 0 && i64::try_from(*number).is_ok())
}

/// Reads the value of a key as JSON. Null: it is something else.
pub(super) fn parse_value(kv: &Value) -> Value {
    decode(&kv["value"]).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Reads the owner that the value of a key describes.
pub(super) fn parse_owner(kv: &Value) -> Option<LeaseOwner> {
    LeaseOwner::from_json(&parse_value(kv))
}

/// Adds the mode and the slot to the value of a key or a mark. An exclusive lock has neither.
pub(super) fn put_sharing(value: &mut Value, sharing: Sharing, slot: Option<u32>) {
    match sharing {
        Sharing::Exclusive => {}
        Sharing::Shared => value["mode"] = "shared".into(),
        Sharing::Slots(number) => value["slots"] = number.into(),
    }
    if let Some(slot) = slot {
        value["slot"] = slot.into();
    }
}

/// Reads the mode and the slot from the value of a key or a mark.
pub(super) fn parse_sharing(value: &Value) -> (Sharing, Option<u32>) {
    let number = |name: &str| value[name].as_u64().and_then(check_slots);
    match number("slots") {
        Some(slots) => (Sharing::Slots(slots), number("slot")),
        None if value["mode"] == "shared" => (Sharing::Shared, None),
        None => (Sharing::Exclusive, None),
    }
}
