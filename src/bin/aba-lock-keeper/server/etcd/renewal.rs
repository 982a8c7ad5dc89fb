//! The renewal of a lease in etcd, and of the mark that goes with it.

use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest, QueueEntry, WaitLimit};
use crate::os::clock::Moment;
use crate::server::etcd::cluster::{EtcdCluster, choose_number, mark_number, read_lease_number};
use crate::server::etcd::gateway::GatewayReply;
use crate::server::etcd::json::{encode, get_operation, put_operation, read_number};
use crate::server::etcd::mark::Mark;
use crate::server::lease_server::WaitObserver;
use aba_lock_protocol::code::{FAILED_PRECONDITION, NOT_FOUND, OK};
use aba_lock_protocol::sharing::Sharing;
use serde_json::{Value, json};
use std::thread::JoinHandle;
use std::time::Duration;

/// The factor by which the lease of a mark is longer than the lease of its holder.
const MARK_FACTOR: u32 = 2;

/// A request in the background for the lease of a mark.
pub(super) type MarkGrant = JoinHandle<Option<GatewayReply>>;

impl EtcdCluster {
    /// Starts to create the lease for a mark, while the caller creates the lease with this number.
    pub(super) fn begin_mark_grant(&self, number: u64, request: &LeaseRequest) -> Option<MarkGrant> {
        let ttl = (request.ttl * MARK_FACTOR).as_secs().to_string();
        let body = json!({ "ID": mark_number(number).to_string(), "TTL": ttl });
        request.kept.then(|| self.gateway.call_in_background("/v3/lease/grant", body))?
    }

    /// Returns the operation that puts the mark under that lease, if it was granted and outlasts the lease of the
    /// holder.
    pub(super) fn finish_mark_grant(grant: Option<MarkGrant>, lease: &Lease) -> Option<Value> {
        let granted = grant?.join().ok()??;
        let ttl = Duration::from_secs(read_number(&granted.body["TTL"]));
        let outlasts = granted.code == OK && granted.sent_at.plus(ttl) >= lease.renewed_at.plus(lease.ttl);
        let number = read_lease_number(&lease.id).ok().filter(|_| outlasts)?;
        // The term of its creation is unknown, so the first renewal makes the mark again.
        Some(put_operation(
            &Mark::key(&lease.id),
            &Mark::format_value(&lease.id, 0, lease.sharing, None),
            mark_number(number),
        ))
    }

    /// Renews a lease, and its mark. The renewal counts only if a majority confirms afterwards that the member that
    /// renewed it was the leader.
    pub(super) fn keep_alive(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        for _ in 0..=self.gateway.endpoint_count() {
            let number = read_lease_number(&lease.id)?;
            let renewed = self.send_keep_alive(number)?;
            if renewed.code != OK && renewed.code != NOT_FOUND {
                return Err(renewed.refusal());
            }
            let ttl = keep_alive_ttl(&renewed);
            let mark = Mark::key_for(&lease.id, lease.sharing);
            let body = json!({ "success": [get_operation(&lease.id), get_operation(&mark)] });
            let read = self.gateway.call("/v3/kv/txn", &body)?.check_success()?;
            let own = self.parse_entry(read.first_key(0));
            let exists = own.is_some_and(|own| own.revision == lease.revision) || lease.revision == 0;
            let is_same_term = renewed.term() == read.term();
            if !exists || (ttl == 0 && is_same_term) {
                return Err(Fault::Gone { name: lease.name.clone() });
            }
            if is_same_term && ttl > 0 {
                lease.ttl = Duration::from_secs(ttl);
                self.renew_mark(lease, read.first_key(1), read.term())?;
                lease.renewed_at = renewed.sent_at;
                return Ok(());
            }
        }
        Err(Fault::Unreachable { what: "the cluster is electing a leader".to_owned() })
    }

    /// Renews the mark of a holder: keeps its lease alive, or moves it to a new lease if the term has changed.
    fn renew_mark(&mut self, lease: &Lease, kv: &Value, term: u64) -> Result<(), Fault> {
        // A foreign key in that place is no reason to end a script: no other process can claim while it exists.
        let mark = match lease.sharing {
            Sharing::Exclusive => Mark::read(&lease.id, kv),
            Sharing::Shared | Sharing::Slots(_) => Ok(Mark::read_share(kv)),
        };
        let Ok(mark) = mark else { return Ok(()) };
        match &mark {
            None if !lease.kept => return Ok(()),
            Some(mark) if mark.holder != lease.id => return Ok(()),
            Some(mark) if mark.term == term => {
                let renewed = self.send_keep_alive(mark.lease)?;
                if renewed.code == OK && renewed.term() == term && keep_alive_ttl(&renewed) > 0 {
                    return Ok(());
                }
            }
            _ => {}
        }
        let (revision, number) = (mark.as_ref().map_or(0, |mark| mark.revision), choose_number()?);
        // There is only one try: the courier must not wait here, and tries again later.
        let limit = WaitLimit::Until(Moment::now());
        if !self.put_mark(lease, number, (revision, term), limit, &mut SilentObserver)? {
            return Err(Fault::Unreachable {
                what: "etcd: the data of the lease changed during the renewal".to_owned(),
            });
        }
        if let Some(mark) = mark {
            // No key is under the old lease of the mark any more.
            let _ = self.gateway.call("/v3/lease/revoke", &json!({ "ID": mark.lease.to_string() }));
        }
        Ok(())
    }

    /// Puts the mark of a holder under a lease with this number. Does nothing unless the key of the holder exists, and
    /// the mark still has this revision. Returns false if a read must show what happened.
    pub(super) fn put_mark(
        &mut self,
        lease: &Lease,
        number: u64,
        (revision, term): (u64, u64),
        limit: WaitLimit,
        observer: &mut dyn WaitObserver,
    ) -> Result<bool, Fault> {
        let ttl = (lease.ttl * MARK_FACTOR).as_secs().to_string();
        let body = json!({ "ID": number.to_string(), "TTL": ttl });
        let granted = self.gateway.call_until_answered("/v3/lease/grant", &body, limit, observer)?;
        match granted.code {
            OK => {}
            FAILED_PRECONDITION => {
                let renewed = self.send_keep_alive(number)?;
                if renewed.code != OK || keep_alive_ttl(&renewed) == 0 {
                    return Ok(false);
                }
            }
            _ => return Err(granted.refusal()),
        }
        let key = Mark::key_for(&lease.id, lease.sharing);
        let value = Mark::format_value(&lease.id, term, lease.sharing, lease.slot);
        let body = json!({
            "compare": [
                { "key": encode(&lease.id), "target": "CREATE", "create_revision": lease.revision.to_string() },
                { "key": encode(&key), "target": "MOD", "mod_revision": revision.to_string() },
            ],
            "success": [put_operation(&key, &value, number)],
        });
        let put = self.gateway.call_until_answered("/v3/kv/txn", &body, limit, observer)?;
        match put.code {
            OK => Ok(put.body["succeeded"] == json!(true)),
            NOT_FOUND => Ok(false),
            _ => Err(put.refusal()),
        }
    }

    fn send_keep_alive(&mut self, number: u64) -> Result<GatewayReply, Fault> {
        self.gateway.call("/v3/lease/keepalive", &json!({ "ID": number.to_string() }))
    }
}

fn keep_alive_ttl(renewed: &GatewayReply) -> u64 {
    read_number(&renewed.body["result"]["TTL"])
}

/// An observer for requests that do not wait.
struct SilentObserver;

impl WaitObserver for SilentObserver {
    fn note_id(&mut self, _: &str) {}
    fn report_wait(&mut self, _: &QueueEntry) {}
    fn report_silence(&mut self, _: &str) {}
}
