//! An etcd cluster as a [`LeaseServer`].

use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest, QueueEntry, WaitLimit};
use crate::os::clock::Moment;
use crate::server::etcd::cluster::{EtcdCluster, choose_number, mark_number, read_lease_number};
use crate::server::etcd::json::{encode, read_number};
use crate::server::etcd::mark::Mark;
use crate::server::etcd::share::mark_holders;
use crate::server::lease_server::{LeaseServer, WaitObserver};
use aba_lock_protocol::code::{NOT_FOUND, OK};
use aba_lock_protocol::sharing::Sharing;
use serde_json::json;
use std::time::Duration;

impl LeaseServer for EtcdCluster {
    fn acquire(&mut self, request: &LeaseRequest, observer: &mut dyn WaitObserver) -> Result<Lease, Fault> {
        loop {
            let number = choose_number()?;
            let acquired = match request.sharing {
                Sharing::Exclusive => self.wait_in_queue(number, request, observer),
                Sharing::Shared | Sharing::Slots(_) => self.wait_for_share(number, request, observer),
            };
            match acquired {
                // We were stopped, or no server answered, for longer than the lease lives: join the queue again.
                Err(Fault::Gone { .. }) if request.limit != WaitLimit::NoWait => {}
                Err(fault) => {
                    let _ = self.release(&self.queue_key(request.name, number));
                    return Err(fault);
                }
                Ok(lease) => return Ok(lease),
            }
        }
    }

    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        self.keep_alive(lease)
    }

    /// etcd cannot change the time to live of a lease.
    fn first_ttl(&self, ttl: Duration) -> Duration {
        ttl
    }

    fn extend(&mut self, lease: &mut Lease, _: Duration) -> Result<(), Fault> {
        self.renew(lease)
    }

    fn unlock(&mut self, id: &str) -> Result<(), Fault> {
        let number = read_lease_number(id)?;
        let (own, delete_mark, delete_share) =
            (encode(id), Mark::delete_operation(id), Mark::delete_share_operation(id));
        let body = json!({
            // A key that only looks like ours belongs to another program.
            "compare": [{ "key": own, "target": "LEASE", "lease": number.to_string() }],
            "success": [{ "request_delete_range": { "key": own } }, delete_mark, delete_share],
            "failure": [delete_mark, delete_share],
        });
        self.gateway.call("/v3/kv/txn", &body)?.check_success().map(drop)
    }

    fn clean_up(&mut self, id: &str) -> Result<(), Fault> {
        let number = read_lease_number(id)?;
        for number in [number, mark_number(number)] {
            let revoked = self.gateway.call("/v3/lease/revoke", &json!({ "ID": number.to_string() }))?;
            if revoked.code != OK && revoked.code != NOT_FOUND {
                return Err(revoked.refusal());
            }
        }
        Ok(())
    }

    fn renew_by_id(&mut self, id: &str) -> Result<(), Fault> {
        read_lease_number(id)?;
        let id = format!("{}{}", self.prefix, id.strip_prefix(&self.prefix).unwrap_or(id));
        let read = self.gateway.call("/v3/kv/range", &json!({ "key": encode(&id) }))?.check_success()?;
        let Some(entry) = self.parse_entry(&read.body["kvs"][0]) else { return Err(Fault::Gone { name: id }) };
        self.renew(&mut Lease {
            name: entry.name,
            id: entry.id,
            token: entry.token,
            revision: entry.revision,
            ttl: Duration::ZERO,
            renewed_at: Moment::now(),
            kept: false,
            sharing: entry.sharing,
            slot: entry.slot,
        })
    }

    fn read_queue(&mut self, name: Option<&str>) -> Result<Vec<QueueEntry>, Fault> {
        let (from, to) = match name {
            Some(name) => self.queue_range(name),
            None if self.prefix.is_empty() => ("\0".to_owned(), "\0".to_owned()),
            // `0` follows the `/` at the end of the prefix in ASCII.
            None => (self.prefix.clone(), format!("{}0", self.prefix.trim_end_matches('/'))),
        };
        let body =
            json!({ "key": encode(&from), "range_end": encode(&to), "sort_order": "ASCEND", "sort_target": "CREATE" });
        let read = self.gateway.call("/v3/kv/range", &body)?.check_success()?;
        let kvs = read.body["kvs"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<QueueEntry> = Vec::new();
        let mut marks = Vec::new();
        for kv in &kvs {
            marks.extend(Mark::read_any(kv));
            let Some(mut entry) = self.parse_entry(kv) else { continue };
            // Other programs may have keys in the same range.
            if self.parse_queue_entry(name.unwrap_or(&entry.name), kv).is_none() {
                continue;
            }
            if name.is_some() {
                entry.left = self.read_time_left(read_number(&kv["lease"]))?;
            }
            found.push(entry);
        }
        mark_holders(&mut found);
        // A name with a mark is not free, even if its queue is empty.
        for (key, mark) in marks {
            let name = key.strip_prefix(&self.prefix).unwrap_or(&key);
            let is_missing = match mark.sharing {
                Sharing::Exclusive => !found.iter().any(|entry| entry.name == name),
                Sharing::Shared | Sharing::Slots(_) => !found.iter().any(|entry| entry.id == mark.holder),
            };
            if is_missing {
                // Before the waiters of its name.
                let at = found.iter().position(|entry| entry.name == name).unwrap_or(found.len());
                found.insert(at, mark.to_entry(name));
            }
        }
        if let Some(name) = name {
            let any_key = self.queue_key(name, 0);
            let (from, to) = Mark::share_range(&any_key);
            let read = self.gateway.call("/v3/kv/range", &json!({ "key": encode(&from), "range_end": encode(&to) }))?;
            for mark in read.body["kvs"].as_array().into_iter().flatten().filter_map(Mark::read_share) {
                if !found.iter().any(|entry| entry.id == mark.holder) {
                    found.insert(0, QueueEntry { left: self.read_time_left(mark.lease)?, ..mark.to_entry(name) });
                }
            }
        }
        if let Some(name) = name.filter(|_| found.is_empty()) {
            let any_key = self.queue_key(name, 0);
            let read = self.gateway.call("/v3/kv/range", &json!({ "key": encode(&Mark::key(&any_key)) }))?;
            if let Some(mark) = Mark::read(&any_key, &read.body["kvs"][0])? {
                found.push(QueueEntry { left: self.read_time_left(mark.lease)?, ..mark.to_entry(name) });
            }
        }
        Ok(found)
    }
}
