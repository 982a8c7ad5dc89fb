//! Fencing tokens of leases in etcd.
//!
//! The token follows the rule of the lock service's SQLite store, so that a lock can move from one server to the other, and its
//! tokens still grow: it is the last token plus one, but at least the clock, in microseconds since 1970. The last token of a name
//! is the value of the key `NAME!token`, which the holder writes when it is granted the lock, together with its own key:
//!
//! 1. It reads `NAME!token`, and its own key.
//! 2. One transaction writes the new token into both, if neither has changed.
//! 3. If the transaction fails, another holder of a shared lock has taken a token: the holder goes to 1. If the answer is lost,
//!    its own key shows the token.
//!
//! If the holder is killed before step 2, no process has the token. If it is frozen there until its lease has ended, the
//! transaction fails, because its key is gone.
//!
//! The counter is needed only while a clock may show less, so its key is under a lease of 31 days, which is replaced once
//! a day. A cluster that is restored from a copy, or a new one, continues with the clock.
//!
//! Earlier versions used the create revision of the key as the token, which is far smaller. While a machine has such a
//! version, its tokens are smaller than those of the others, so all machines must be updated before tokens can be compared.

use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest};
use crate::server::etcd::cluster::{EtcdCluster, choose_number, parse_value, put_sharing, read_lease_number};
use crate::server::etcd::json::{decode, encode, get_operation, put_operation, read_number};
use crate::server::lease_server::WaitObserver;
use aba_lock_protocol::code::{NOT_FOUND, OK};
use serde_json::{Value, json};

/// The suffix after the name, in the key of the counter.
const SUFFIX: &str = "!token";

/// The time to live of a counter, in seconds, and the age after which it gets a new lease, in microseconds.
const COUNTER_TTL: u64 = 31 * 24 * 3600;
const COUNTER_AGE: u64 = 24 * 3600 * 1_000_000;

/// Returns the key of the counter, for any key in the queue of a name.
pub(super) fn counter_key(any_key: &str) -> String {
    format!("{}{SUFFIX}", any_key.rsplit_once('/').map_or(any_key, |(name, _)| name))
}

/// Returns the value of a key in a queue. A waiter has no token yet.
pub(super) fn format_entry(lease: &Lease, request: &LeaseRequest, token: Option<u64>) -> String {
    let mut value = request.owner.to_json();
    put_sharing(&mut value, lease.sharing, lease.slot);
    if let Some(token) = token {
        value["token"] = token.into();
    }
    value.to_string()
}

/// The last token of a name.
struct Counter {
    token: u64,
    /// The revision of the last change. 0: there is no counter.
    revision: u64,
}

impl Counter {
    /// Reads the key of the counter. Fails if it is not a counter.
    fn read(key: &str, kv: &Value) -> Result<Self, Fault> {
        if kv.is_null() {
            return Ok(Self { token: 0, revision: 0 });
        }
        let token = decode(&kv["value"]).and_then(|text| text.parse().ok()).filter(|token| *token < u64::MAX / 4);
        let revision = read_number(&kv["mod_revision"]);
        token.map(|token| Self { token, revision }).ok_or_else(|| Fault::Failed {
            what: format!("cannot acquire the lease: the key {key} in etcd was not written by aba-lock"),
            hint: Some(
                "delete the key, or give the locks a prefix of their own, such as etcd://127.0.0.1:2379/locks"
                    .to_owned(),
            ),
        })
    }
}

impl EtcdCluster {
    /// Takes the next token for a lease that was granted, and writes the slot of the lease into its key. `known` is the key of
    /// the counter, if it was just read.
    pub(super) fn take_token(
        &mut self,
        lease: &mut Lease,
        request: &LeaseRequest,
        mut known: Option<Value>,
        observer: &mut dyn WaitObserver,
    ) -> Result<(), Fault> {
        let key = counter_key(&lease.id);
        let number = read_lease_number(&lease.id)?;
        let mut counter_lease = None;
        loop {
            let kv = match known.take() {
                Some(kv) => kv,
                None => match self.read_counter(lease, request, &key, observer)? {
                    (_, Some(token)) => {
                        lease.token = token;
                        return Ok(());
                    }
                    (kv, None) => kv,
                },
            };
            let counter = Counter::read(&key, &kv)?;
            let now = jiff::Timestamp::now().as_microsecond().unsigned_abs();
            let token = now.max(counter.token + 1);
            let put_counter = if counter.revision > 0 && counter.token + COUNTER_AGE > now {
                json!({ "request_put": { "key": encode(&key), "value": encode(&token.to_string()), "ignore_lease": true } })
            } else {
                let number = match counter_lease {
                    Some(number) => number,
                    None => *counter_lease.insert(self.grant_counter_lease(request, observer)?),
                };
                put_operation(&key, &token.to_string(), number)
            };
            let put_own = put_operation(&lease.id, &format_entry(lease, request, Some(token)), number);
            let body = json!({
                "compare": [
                    { "key": encode(&lease.id), "target": "CREATE", "create_revision": lease.revision.to_string() },
                    { "key": encode(&key), "target": "MOD", "mod_revision": counter.revision.to_string() },
                ],
                "success": [put_counter, put_own],
            });
            let put = self.gateway.call_until_answered("/v3/kv/txn", &body, request.limit, observer)?;
            match put.code {
                OK if put.body["succeeded"] == json!(true) => {
                    lease.token = token;
                    return Ok(());
                }
                // The next read shows what has happened.
                OK => {}
                // One of the two leases has ended.
                NOT_FOUND => counter_lease = None,
                _ => return Err(put.refusal()),
            }
        }
    }

    /// Reads the key of the counter, and the token in the own key, if there is one. Fails if the own key is gone.
    fn read_counter(
        &mut self,
        lease: &Lease,
        request: &LeaseRequest,
        key: &str,
        observer: &mut dyn WaitObserver,
    ) -> Result<(Value, Option<u64>), Fault> {
        let body = json!({ "success": [get_operation(key), get_operation(&lease.id)] });
        let read = self.gateway.call_until_answered("/v3/kv/txn", &body, request.limit, observer)?.check_success()?;
        let own = read.first_key(1);
        if read_number(&own["create_revision"]) != lease.revision {
            return Err(Fault::Gone { name: lease.name.clone() });
        }
        Ok((read.first_key(0).clone(), parse_value(own)["token"].as_u64()))
    }

    fn grant_counter_lease(&mut self, request: &LeaseRequest, observer: &mut dyn WaitObserver) -> Result<u64, Fault> {
        let number = choose_number()?;
        let body = json!({ "ID": number.to_string(), "TTL": COUNTER_TTL.to_string() });
        // If the answer to a first try was lost, the second one fails, because the lease exists.
        self.gateway.call_until_answered("/v3/lease/grant", &body, request.limit, observer)?;
        Ok(number)
    }
}
