//! The mark of a holder: who may believe in a lease that etcd has ended already.
//!
//! A lease may end before its time: a leader that was stopped and goes on may revoke leases that others have renewed
//! meanwhile. A holder with a keeper therefore has a mark from before it claims until it has given its lease back: the key
//! `NAME!holder`, under a second lease that lasts twice as long. Whoever is first in the queue and finds the mark of
//! another waits until it is gone. The name of a lock has no `!` in it, so no key of a queue is in the way, and neither is what
//! others call `NAME`; and what stands there and is not certainly a mark of ours is neither changed nor overlooked.
//!
//! What has to hold: **the mark outlasts the belief**. The holder ends at `good + ttl` of its own clock, and `good` moves only
//! when the mark was renewed after it.
//!
//! | what happens | the mark | why nobody else claims too early |
//! |---|---|---|
//! | the holder gives its lease back | is deleted with its key | it has ended, or let go |
//! | holder and keepers are killed, or cut off | ends by itself at the last renewal + 2 ttl | the belief ended at the last `good` + ttl, and `good` was before that renewal |
//! | a leader that was stopped ends the lease too early, within 2 ttl | lives, as it has time left for that leader too | the courier hears of it at its next renewal, or the keeper ends the script at `good + ttl`: both before the mark ends |
//! | the same after more than 2 ttl | lives: at the first renewal after the election the courier saw another term than the mark was made in, and moved it to a new lease, of which the old leader knows nothing; hearing of it, it gives it its full time | as above |
//! | the same, and the courier has renewed nothing since the election | may be ended too | nothing was renewed, so `good + ttl` has passed |
//! | a deposed leader answers the renewal of the mark | its full time from the election on | the read between the two renewals is confirmed by a majority, so the election came after `good` |
//! | nothing: it was made before its term was known | moves at the first renewal | a leader that knows of it from the first day must be stopped for 2 ttl to end it |
//! | we are stopped between becoming first and the mark | is not made | its transaction asks for our key, which goes with the lease |
//! | the answer to that is lost | is ours | asked again, the comparison fails, and to look shows it |
//! | somebody deletes it | is made anew at the next renewal | until then as if there were none |
//!
//! So after a crash the name is free when twice the time has passed, whether somebody waits for it or not. Programs other than
//! ours know nothing of the mark, and claim at once.

use super::gateway::{count, decoded, encoded};
use crate::server::Fault;
use serde_json::{Value, json};

/// What stands behind the name.
const BEHIND: &str = "!holder";

/// The mark of a holder.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// The key of the holder in the queue.
    pub(super) holder: String,
    /// The term of the leader before its lease was made; 0 if it is not known.
    pub(super) term: u64,
    /// The number of its lease.
    pub(super) lease: u64,
    pub(super) revision: u64,
}

/// The key of the mark of a holder with this key in the queue; it ends in a `/` and a number.
pub(super) fn key(holder: &str) -> String {
    format!("{}{BEHIND}", holder.rsplit_once('/').map_or(holder, |(name, _)| name))
}

/// What is at that key. `Err`: something that is no mark.
pub(super) fn read(holder: &str, kv: &Value) -> Result<Option<Mark>, Fault> {
    if kv.is_null() {
        return Ok(None);
    }
    let key = key(holder);
    Mark::of(&key, kv).map(Some).ok_or_else(|| Fault::Failed {
        what: format!("the key {key} in etcd is in the way: it is no mark of a holder"),
        hint: Some(
            "delete it, or give the locks a prefix of their own, such as etcd://127.0.0.1:2379/locks".to_owned(),
        ),
    })
}

/// The name of which this is a mark, as it stands in the keys of its queue, and the mark. `None`: it is none of ours.
pub(super) fn found(kv: &Value) -> Option<(String, Mark)> {
    let key = decoded(&kv["key"])?;
    Some((key.strip_suffix(BEHIND)?.to_owned(), Mark::of(&key, kv)?))
}

impl Mark {
    fn of(key: &str, kv: &Value) -> Option<Self> {
        let value: Value = serde_json::from_str(&decoded(&kv["value"])?).ok()?;
        let holder = value["holder"].as_str()?.to_owned();
        // Without a lease it would not end.
        let lease = Some(count(&kv["lease"])).filter(|lease| *lease != 0)?;
        let is_ours = value["of"] == json!("aba-lock") && self::key(&holder) == key;
        let (term, revision) = (value["term"].as_u64()?, count(&kv["mod_revision"]));
        is_ours.then_some(Self { holder, term, lease, revision })
    }
}

/// Its beginning, which only the mark of this holder has; what comes behind that is a comma.
fn beginning(holder: &str) -> String {
    format!("{{\"holder\":{}", Value::from(holder))
}

pub(super) fn text(holder: &str, term: u64) -> String {
    format!("{},\"of\":\"aba-lock\",\"term\":{term}}}", beginning(holder))
}

/// An operation that deletes the mark of this holder, and nobody else's.
pub(super) fn delete(holder: &str) -> Value {
    let (key, begin) = (encoded(&key(holder)), beginning(holder));
    let (least, past) = (encoded(&format!("{begin},")), encoded(&format!("{begin}-")));
    json!({ "request_txn": {
        "compare": [
            { "key": key, "target": "VALUE", "result": "GREATER", "value": least },
            { "key": key, "target": "VALUE", "result": "LESS", "value": past },
        ],
        "success": [{ "request_delete_range": { "key": key } }],
    } })
}
