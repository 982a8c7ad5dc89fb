//! The mark of a holder: a second key that outlasts the holder's belief that it holds the lock.
//!
//! etcd may end a lease before its time: a leader that was stopped and continues may revoke leases that were renewed at
//! another leader. So a holder with a keeper also has a mark, from its claim until it has given its lease back. The
//! mark is the key `NAME!holder`, under a second lease that lasts twice as long. A waiter that is first in the queue
//! and finds the mark of another holder waits until the mark is gone. The name of a lock contains no `!`, so the key of
//! a mark is never a key in a queue, nor the `NAME` of another lock. If that key exists but is not certainly a mark, it
//! is neither changed nor ignored.
//!
//! The invariant: **the mark outlasts the belief**. The holder ends at `renewed_at + ttl` on its own clock, and
//! `renewed_at` moves only after the mark was renewed.
//!
//! | event | the mark | why no other process claims too early |
//! |---|---|---|
//! | the holder gives its lease back | is deleted with its key | the holder has ended, or has released the lock |
//! | holder and keepers are killed or cut off | ends by itself, 2 ttl after the last renewal | the belief ended at the last `renewed_at` + ttl, and `renewed_at` was before that renewal |
//! | a leader that was stopped ends the lease too early, within 2 ttl | lives, because that leader knows of time left for it | the courier learns of it at its next renewal, or the keeper ends the script at `renewed_at + ttl`: both before the mark ends |
//! | such a leader ends the lease after more than 2 ttl | lives: at the first renewal after the election, the courier saw a new term, and moved the mark to a new lease, which the old leader does not know; when that leader learns of it, it grants the full time | as above |
//! | such a leader ends the lease after more than 2 ttl, and the courier has renewed nothing since the election | may be ended, too | nothing was renewed, so `renewed_at + ttl` has passed |
//! | a deposed leader answers the renewal of the mark | keeps its full time from the election on | a majority confirms the read between the two renewals, so the election came after `renewed_at` |
//! | the mark was made before its term was known | moves at the first renewal | a leader that knows it from the beginning must be stopped for 2 ttl to end it |
//! | we are stopped after we became first, and before we make the mark | is not made | its transaction compares our key, which is deleted with the lease |
//! | the answer to that transaction is lost | is ours | the second transaction fails its comparison, and a read shows our mark |
//! | a user deletes the mark | is made again at the next renewal | until then, nothing prevents it |
//!
//! A holder that shares the lock has a mark of its own, `NAME!share-` and the number of its lease. An exclusive caller waits until
//! there is none. A caller that shares waits for the mark of an exclusive holder, and counts the marks of holders with slots
//! that have lost their keys.
//!
//! So after a crash the name is free after twice the time to live, with or without waiters. Other programs do not know
//! the mark, and claim at once.

use crate::fault::Fault;
use crate::lease::QueueEntry;
use crate::server::etcd::cluster::{parse_sharing, put_sharing};
use crate::server::etcd::json::{decode, encode, read_number};
use aba_lock_protocol::sharing::Sharing;
use serde_json::{Value, json};

/// The suffix after the name, in the key of a mark.
const SUFFIX: &str = "!holder";

/// The part after the name, in the key of a mark of a holder that shares the lock. The number of its lease follows.
const SHARE: &str = "!share-";

/// The mark of a holder.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// The key of the holder in the queue.
    pub(super) holder: String,
    /// The term of the leader before the lease of the mark was created; 0 if it is unknown.
    pub(super) term: u64,
    /// The number of the lease of the mark.
    pub(super) lease: u64,
    /// The revision of the last change of the mark.
    pub(super) revision: u64,
    pub(super) sharing: Sharing,
    pub(super) slot: Option<u32>,
}

impl Mark {
    /// Returns the key of the mark for a holder with this key in the queue, which ends with `/` and a number.
    pub(super) fn key(holder: &str) -> String {
        format!("{}{SUFFIX}", holder.rsplit_once('/').map_or(holder, |(name, _)| name))
    }

    /// Returns the key of the mark for a holder in this mode.
    pub(super) fn key_for(holder: &str, sharing: Sharing) -> String {
        match (sharing, holder.rsplit_once('/')) {
            (Sharing::Shared | Sharing::Slots(_), Some((name, number))) => format!("{name}{SHARE}{number}"),
            _ => Self::key(holder),
        }
    }

    /// Returns the range of the marks of the holders that share a lock, for any key in its queue: the first key, and the
    /// first key after them. (`.` follows `-` in ASCII.)
    pub(super) fn share_range(any_key: &str) -> (String, String) {
        let name = any_key.rsplit_once('/').map_or(any_key, |(name, _)| name);
        (format!("{name}{SHARE}"), format!("{name}{}.", SHARE.trim_end_matches('-')))
    }

    /// Reads the mark of a holder that shares the lock from its key.
    pub(super) fn read_share(kv: &Value) -> Option<Self> {
        Self::parse(&decode(&kv["key"])?, kv)
    }

    /// Reads the mark from the key for this holder. Returns `None` if the key does not exist, and fails if the key is
    /// not a mark.
    pub(super) fn read(holder: &str, kv: &Value) -> Result<Option<Self>, Fault> {
        if kv.is_null() {
            return Ok(None);
        }
        let key = Self::key(holder);
        Self::parse(&key, kv).map(Some).ok_or_else(|| Fault::Failed {
            what: format!("cannot acquire the lease: the key {key} in etcd was not written by aba-lock"),
            hint: Some(
                "delete the key, or give the locks a prefix of their own, such as etcd://127.0.0.1:2379/locks"
                    .to_owned(),
            ),
        })
    }

    /// Reads a mark from any key. Returns the name of the lock with the prefix, and the mark. `None`: the key is not a
    /// mark.
    pub(super) fn read_any(kv: &Value) -> Option<(String, Self)> {
        let key = decode(&kv["key"])?;
        let name = key.strip_suffix(SUFFIX).or_else(|| Some(key.rsplit_once(SHARE)?.0))?.to_owned();
        Some((name, Self::parse(&key, kv)?))
    }

    fn parse(key: &str, kv: &Value) -> Option<Self> {
        let value: Value = serde_json::from_str(&decode(&kv["value"])?).ok()?;
        let holder = value["holder"].as_str()?.to_owned();
        // A mark without a lease would never end.
        let lease = Some(read_number(&kv["lease"])).filter(|lease| *lease != 0)?;
        let (sharing, slot) = parse_sharing(&value);
        let is_ours = value["of"] == json!("aba-lock") && Self::key_for(&holder, sharing) == key;
        let (term, revision) = (value["term"].as_u64()?, read_number(&kv["mod_revision"]));
        is_ours.then_some(Self { holder, term, lease, revision, sharing, slot })
    }

    /// The entry for a holder that has a mark, but no key in the queue any more.
    pub(super) fn to_entry(&self, name: &str) -> QueueEntry {
        let owner_text = Some(format!("{}, which lost its lease and may not have noticed yet", self.holder));
        QueueEntry {
            name: name.to_owned(),
            id: self.holder.clone(),
            token: 0,
            revision: 0,
            owner: None,
            owner_text,
            left: None,
            sharing: self.sharing,
            slot: self.slot,
            is_holder: true,
            others: 0,
            held_slots: 0,
        }
    }

    /// Returns the value of the mark.
    pub(super) fn format_value(holder: &str, term: u64, sharing: Sharing, slot: Option<u32>) -> String {
        if sharing == Sharing::Exclusive {
            return format!("{},\"of\":\"aba-lock\",\"term\":{term}}}", value_start(holder));
        }
        let mut value = json!({ "holder": holder, "of": "aba-lock", "term": term });
        put_sharing(&mut value, sharing, slot);
        value.to_string()
    }

    /// Returns an operation that deletes the mark of this holder, if it shares the lock. Its key has the number of the lease,
    /// so it cannot be the mark of another.
    pub(super) fn delete_share_operation(holder: &str) -> Value {
        json!({ "request_delete_range": { "key": encode(&Self::key_for(holder, Sharing::Shared)) } })
    }

    /// Returns an operation that deletes the mark of this holder, but not the mark of another.
    pub(super) fn delete_operation(holder: &str) -> Value {
        let (key, start) = (encode(&Self::key(holder)), value_start(holder));
        // `-` follows `,` in ASCII.
        let (least, past) = (encode(&format!("{start},")), encode(&format!("{start}-")));
        json!({ "request_txn": {
            "compare": [
                { "key": key, "target": "VALUE", "result": "GREATER", "value": least },
                { "key": key, "target": "VALUE", "result": "LESS", "value": past },
            ],
            "success": [{ "request_delete_range": { "key": key } }],
        } })
    }
}

/// Returns the start of the value, which is different for each holder. A comma follows it.
fn value_start(holder: &str) -> String {
    format!("{{\"holder\":{}", Value::from(holder))
}
