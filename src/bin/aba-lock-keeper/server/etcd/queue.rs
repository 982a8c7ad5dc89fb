//! The queue of a name in etcd: joining it, and waiting for the first place.

use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest, QueueEntry, WaitLimit};
use crate::server::etcd::cluster::{EtcdCluster, mark_number, parse_owner, read_lease_number};
use crate::server::etcd::json::{encode, get_operation, put_operation, read_number};
use crate::server::etcd::mark::Mark;
use crate::server::etcd::token::{counter_key, format_entry};
use crate::server::lease_server::{LeaseServer, WaitObserver};
use crate::server::retry::PAUSE;
use aba_lock_protocol::code::{FAILED_PRECONDITION, NOT_FOUND, OK};
use aba_lock_protocol::sharing::Sharing;
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

/// The longest watch. A watch may have missed an event.
pub(super) const WATCH_LIMIT: Duration = Duration::from_secs(5);

/// Our place in a queue, as of one revision.
struct QueuePlace {
    lease: Lease,
    /// The first entry of the queue.
    first: Option<QueueEntry>,
    /// The id of the entry right before ours.
    before: Option<String>,
    mark: Option<Mark>,
    /// The mark of a holder that shares the lock.
    share: Option<Mark>,
    /// The key of the last token, if it was read.
    counter: Option<Value>,
    revision: u64,
    /// The term of the leader.
    term: u64,
    /// True if keys with other uses are among the keys of the queue.
    is_mixed: bool,
}

impl EtcdCluster {
    /// Joins the queue with a lease of this number, and waits for the first place.
    pub(super) fn wait_in_queue(
        &mut self,
        number: u64,
        request: &LeaseRequest,
        observer: &mut dyn WaitObserver,
    ) -> Result<Lease, Fault> {
        let limit = request.limit;
        let mut place = self.join_queue(number, request, observer)?;
        loop {
            let is_first = place.first.as_ref().is_some_and(|first| first.revision == place.lease.revision);
            let mut holder = place.first.take();
            let mut ahead = place.before.clone();
            match &place.mark {
                Some(mark) if is_first && mark.holder != place.lease.id => {
                    holder = Some(mark.to_entry(request.name));
                    ahead = Some(Mark::key(&mark.holder));
                }
                _ if is_first && place.share.is_some() => {
                    let share = place.share.take();
                    holder = share.as_ref().map(|mark| mark.to_entry(request.name));
                    ahead = share.map(|mark| Mark::key_for(&mark.holder, mark.sharing));
                }
                mark if is_first => {
                    let has_mark = mark.is_some();
                    // The lease is renewed now, so that the holder gets most of the time to live.
                    if needs_renewal(&place.lease) {
                        self.keep_alive(&mut place.lease)?;
                    }
                    if has_mark || !request.kept || self.claim_lock(&mut place, limit, observer)? {
                        let mut lease = Lease { kept: request.kept, ..place.lease };
                        self.take_token(&mut lease, request, place.counter, observer)?;
                        return Ok(lease);
                    }
                    // Another process made its mark. The next read shows which one.
                    (holder, ahead) = (None, None);
                    thread::sleep(limit.cap(PAUSE));
                }
                _ => {}
            }
            if let Some(holder) = &mut holder {
                self.count_holders(holder);
            }
            if limit.is_over() {
                return Err(Fault::from_holder(request.name, holder.map(Box::new), limit != WaitLimit::NoWait));
            }
            if let Some(holder) = &holder {
                observer.report_wait(holder);
            }
            if let Some(key) = ahead {
                let longest = WATCH_LIMIT.min(place.lease.ttl / 4);
                self.gateway.watch_deletion(
                    &key,
                    None,
                    place.revision,
                    limit.cap(longest).max(Duration::from_millis(1)),
                );
            }
            if needs_renewal(&place.lease) {
                match self.keep_alive(&mut place.lease) {
                    // The next read shows if the lease is lost.
                    Err(Fault::Unreachable { .. }) | Ok(()) => {}
                    Err(fault) => return Err(fault),
                }
            }
            self.read_place(&mut place, limit, observer)?;
        }
    }

    /// Creates a lease, puts our key under it, and reads the first entry of the queue and the mark.
    fn join_queue(
        &mut self,
        number: u64,
        request: &LeaseRequest,
        observer: &mut dyn WaitObserver,
    ) -> Result<QueuePlace, Fault> {
        let key = self.queue_key(request.name, number);
        observer.note_id(&key);
        let mark_grant = self.begin_mark_grant(number, request);
        let mut lease = self.grant_lease(&key, number, request, observer)?;
        let (from, to) = self.queue_range(request.name);
        let (from, to, own, mark) = (encode(&from), encode(&to), encode(&key), encode(&Mark::key(&key)));
        let put_key = put_operation(&key, &format_entry(&lease, request, None), number);
        let (from_share, to_share) = Mark::share_range(&key);
        let counter = counter_key(&key);
        let put_all: Vec<Value> =
            [put_key.clone()].into_iter().chain(Self::finish_mark_grant(mark_grant, &lease)).collect();
        let get_first = json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1" } });
        let is_absent = |key: &str| json!({ "key": key, "target": "CREATE", "create_revision": "0" });
        let mut is_empty = is_absent(&from);
        is_empty["range_end"] = json!(to);
        let mut has_no_share = is_absent(&encode(&from_share));
        has_no_share["range_end"] = json!(encode(&to_share));
        let get_share =
            json!({ "request_range": { "key": encode(&from_share), "range_end": encode(&to_share), "limit": "1" } });
        let success: Vec<Value> = put_all.iter().cloned().chain([get_operation(&counter)]).collect();
        // If the queue is empty and there is no mark, one transaction does everything.
        let body = json!({
            "compare": [is_empty, is_absent(&mark), has_no_share], "success": success,
            "failure": [
                { "request_txn": { "compare": [is_absent(&own)], "success": [put_key], "failure": [get_operation(&key)] } },
                get_first, get_operation(&Mark::key(&key)), get_share,
            ],
        });
        let joined = self.gateway.call_until_answered("/v3/kv/txn", &body, request.limit, observer)?;
        match joined.code {
            OK => {}
            // Our lease, or the lease of our mark, has expired in the meantime.
            NOT_FOUND => return Err(Fault::Gone { name: request.name.to_owned() }),
            _ => return Err(joined.refusal()),
        }
        let (revision, term) = (joined.revision(), joined.term());
        if joined.body["succeeded"] == json!(true) {
            lease.revision = revision;
            let first = Some(own_entry(&lease));
            let mark = (put_all.len() == 2).then(|| Mark {
                holder: key,
                term: 0,
                lease: mark_number(number),
                revision,
                sharing: Sharing::Exclusive,
                slot: None,
            });
            let counter = Some(joined.first_key(put_all.len()).clone());
            let (before, share) = (None, None);
            return Ok(QueuePlace { lease, first, before, mark, share, counter, revision, term, is_mixed: false });
        }
        let inner = &joined.body["responses"][0]["response_txn"];
        lease.revision = if inner["succeeded"] == json!(true) {
            revision
        } else {
            read_number(&inner["responses"][0]["response_range"]["kvs"][0]["create_revision"])
        };
        let first = self.parse_queue_entry(request.name, joined.first_key(1));
        let mark = Mark::read(&key, joined.first_key(2))?;
        // `read_place` finds the entry right before us.
        let share = Mark::read_share(joined.first_key(3));
        let (before, counter) = (None, None);
        let mut place = QueuePlace { lease, first, before, mark, share, counter, revision, term, is_mixed: false };
        if place.first.is_none() {
            place.is_mixed = true;
            self.read_place(&mut place, request.limit, observer)?;
        }
        Ok(place)
    }

    /// Creates the lease for a key in the queue. Its token is not known yet.
    pub(super) fn grant_lease(
        &mut self,
        key: &str,
        number: u64,
        request: &LeaseRequest,
        observer: &mut dyn WaitObserver,
    ) -> Result<Lease, Fault> {
        let body = json!({ "ID": number.to_string(), "TTL": request.ttl.as_secs().to_string() });
        let granted = self.gateway.call_until_answered("/v3/lease/grant", &body, request.limit, observer)?;
        let mut lease = Lease {
            name: request.name.to_owned(),
            id: key.to_owned(),
            token: 0,
            revision: 0,
            ttl: Duration::from_secs(read_number(&granted.body["TTL"])),
            renewed_at: granted.sent_at,
            kept: false,
            sharing: request.sharing,
            slot: None,
        };
        match granted.code {
            OK if read_number(&granted.body["ID"]) == number && !lease.ttl.is_zero() => Ok(lease),
            OK => Err(self.gateway.not_etcd()),
            // The answer to an earlier try was lost.
            FAILED_PRECONDITION => self.keep_alive(&mut lease).map(|()| lease),
            _ => Err(granted.refusal()),
        }
    }

    /// Reads our own key, the first one, the one before us, and the mark, all at one revision that a majority confirms.
    fn read_place(
        &mut self,
        place: &mut QueuePlace,
        limit: WaitLimit,
        observer: &mut dyn WaitObserver,
    ) -> Result<(), Fault> {
        let (from, to) = self.queue_range(&place.lease.name);
        let (from, to) = (encode(&from), encode(&to));
        let before = place.lease.revision.saturating_sub(1).to_string();
        let (from_share, to_share) = Mark::share_range(&place.lease.id);
        let get_share =
            json!({ "request_range": { "key": encode(&from_share), "range_end": encode(&to_share), "limit": "1" } });
        let mut operations = vec![get_operation(&place.lease.id), get_operation(&Mark::key(&place.lease.id))];
        if place.is_mixed {
            // All keys, but not their values, which may be long.
            operations.push(json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "keys_only": true, "max_create_revision": place.lease.revision.to_string() } }));
        } else {
            operations.push(json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1" } }));
            operations.push(json!({ "request_range": { "key": from, "range_end": to, "sort_order": "DESCEND", "sort_target": "CREATE", "limit": "1", "max_create_revision": before } }));
        }
        let share = operations.len();
        operations.push(get_share);
        let body = json!({ "success": operations });
        let read = self.gateway.call_until_answered("/v3/kv/txn", &body, limit, observer)?.check_success()?;
        if self.parse_entry(read.first_key(0)).is_none_or(|own| own.revision != place.lease.revision) {
            return Err(Fault::Gone { name: place.lease.name.clone() });
        }
        place.mark = Mark::read(&place.lease.id, read.first_key(1))?;
        place.share = Mark::read_share(read.first_key(share));
        (place.revision, place.term) = (read.revision(), read.term());
        if !place.is_mixed {
            place.first = self.parse_queue_entry(&place.lease.name, read.first_key(2));
            place.before = self.parse_queue_entry(&place.lease.name, read.first_key(3)).map(|before| before.id);
            if place.first.is_some() && (place.before.is_some() || read.first_key(3).is_null()) {
                return Ok(());
            }
            place.is_mixed = true;
            return self.read_place(place, limit, observer);
        }
        let kvs = read.body["responses"][2]["response_range"]["kvs"].as_array();
        let entries = kvs.into_iter().flatten().filter_map(|kv| self.parse_queue_entry(&place.lease.name, kv));
        let mut entries = entries.collect::<Vec<_>>().into_iter();
        place.first = entries.next();
        place.before = entries.rfind(|entry| entry.revision < place.lease.revision).map(|before| before.id);
        let Some(first) = place.first.as_mut().filter(|first| first.revision < place.lease.revision) else {
            return Ok(());
        };
        let value = self.gateway.call("/v3/kv/range", &json!({ "key": encode(&first.id) }))?;
        first.owner = parse_owner(&value.body["kvs"][0]);
        place.before.get_or_insert_with(|| first.id.clone());
        Ok(())
    }

    /// Makes the mark for our entry, which is the first of the queue. Returns false if another process has a mark now.
    fn claim_lock(
        &mut self,
        place: &mut QueuePlace,
        limit: WaitLimit,
        observer: &mut dyn WaitObserver,
    ) -> Result<bool, Fault> {
        let number = mark_number(read_lease_number(&place.lease.id)?);
        if self.put_mark(&place.lease, number, (0, place.term), limit, observer)? {
            return Ok(true);
        }
        // The answer may have been lost.
        self.read_place(place, limit, observer)?;
        Ok(place.mark.as_ref().is_some_and(|mark| mark.holder == place.lease.id))
    }
}

/// Returns the entry of the queue for our own lease.
fn own_entry(lease: &Lease) -> QueueEntry {
    QueueEntry {
        name: lease.name.clone(),
        id: lease.id.clone(),
        token: 0,
        revision: lease.revision,
        owner: None,
        owner_text: None,
        left: None,
        sharing: lease.sharing,
        slot: lease.slot,
        is_holder: true,
        others: 0,
        held_slots: 0,
    }
}

/// Returns true if a third of the time to live has passed.
pub(super) fn needs_renewal(lease: &Lease) -> bool {
    lease.renewed_at.plus(lease.ttl / 3).is_past()
}
