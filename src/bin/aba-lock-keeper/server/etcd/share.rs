//! The queue of a name in etcd, for a process that shares the lock with others (`--shared`, `--slots`).
//!
//! All modes have one queue. The value of a key has the mode, which is exclusive for keys of other programs and of earlier
//! versions. The holders are the first keys of the queue, as many as the rule in `aba_lock_protocol::sharing` admits one after
//! the other: the first key that is not admitted waits, and so do all keys after it. A key that is admitted stays admitted when
//! another key is removed, so each process can decide for itself, from the keys before its own.
//!
//! A process with a slot takes the lowest number that no holder before it has, and writes it into its key. It waits until all
//! holders before it have written theirs. The processes after it wait for its own, so no two of them choose at the same time.
//!
//! A holder that shares the lock has a mark of its own ([`super::mark`]). A mark without a key is a holder, too: that holder
//! may not have noticed yet that etcd has ended its lease.
//!
//! | event | what happens |
//! |---|---|
//! | a process is killed in the queue, or before it has written its slot | its key ends with its lease; those after it wait until then |
//! | a process is frozen between the read and the claim, until its lease has ended | its claim fails, because its key is gone; it joins the queue again |
//! | two holders before this one end between the read and the claim | there is more room than was seen, which does no harm |
//! | an exclusive caller joins the queue between the read and the claim | it is after this process, and waits for it |
//! | the answer to the claim is lost | a read shows the slot and the token in the own key |
//! | a holder gives its lease back | its key and its mark are deleted in one transaction, and the watches of the waiters see it |
//! | a holder asks for another number of slots than those before it | it is refused, and deletes its key, when its turn comes or at once |
//! | `etcdctl lock`, or an earlier version, is in the queue | it holds the lock when its key is the first, so it excludes the others as an exclusive holder |

use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest, QueueEntry, WaitLimit};
use crate::os::clock::Moment;
use crate::server::etcd::cluster::{EtcdCluster, mark_number, read_lease_number};
use crate::server::etcd::json::{encode, get_operation, put_operation, read_number};
use crate::server::etcd::mark::Mark;
use crate::server::etcd::queue::{WATCH_LIMIT, needs_renewal};
use crate::server::etcd::token::format_entry;
use crate::server::lease_server::WaitObserver;
use crate::server::retry::PAUSE;
use aba_lock_protocol::code::{NOT_FOUND, OK};
use aba_lock_protocol::sharing::{Admission, Sharing};
use serde_json::json;
use std::thread;
use std::time::Duration;

/// The pause while a holder before this process writes its slot.
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

/// The longest wait for that, for a caller that does not wait for the lock.
const CLAIM_LIMIT: Duration = Duration::from_secs(2);

/// The queue before our own key, as of one revision.
struct ShareView {
    admission: Admission,
    /// The oldest holder, or the waiter that must be served before us.
    ahead: Option<QueueEntry>,
    /// The mark that is in the way, if no key is.
    mark: Option<Mark>,
    /// True if a holder has not written its slot yet.
    is_unnumbered: bool,
    revision: u64,
    /// The term of the leader.
    term: u64,
}

/// Marks the entries that hold their locks: of each name, the first ones that the rule admits.
pub(super) fn mark_holders(entries: &mut [QueueEntry]) {
    for at in 0..entries.len() {
        let (before, rest) = entries.split_at_mut(at);
        let entry = &mut rest[0];
        let mut same = before.iter().filter(|other| other.name == entry.name);
        let are_holders = same.clone().all(|other| other.is_holder);
        let admission = entry.sharing.admit(same.by_ref().map(|other| (other.sharing, other.slot)));
        entry.is_holder = are_holders && matches!(admission, Admission::Granted(_));
    }
}

impl EtcdCluster {
    /// Joins the queue with a lease of this number, and waits until the holders leave room.
    pub(super) fn wait_for_share(
        &mut self,
        number: u64,
        request: &LeaseRequest,
        observer: &mut dyn WaitObserver,
    ) -> Result<Lease, Fault> {
        let (limit, begun) = (request.limit, Moment::now());
        let mut lease = self.join_for_share(number, request, observer)?;
        let (from, to) = self.queue_range(request.name);
        loop {
            let view = self.read_shares(&lease, limit, observer)?;
            match view.admission {
                Admission::Granted(slot) if !view.is_unnumbered || slot.is_none() => {
                    // The lease is renewed now, so that the holder gets most of the time to live.
                    if needs_renewal(&lease) {
                        self.keep_alive(&mut lease)?;
                    }
                    lease.slot = slot;
                    if self.claim_share(&lease, view.term, request, observer)? {
                        lease.kept = request.kept;
                        self.take_token(&mut lease, request, None, observer)?;
                        return Ok(lease);
                    }
                    lease.slot = None;
                    thread::sleep(limit.cap(PAUSE));
                    continue;
                }
                // A holder that was killed at that moment keeps its key until its lease ends.
                Admission::Granted(_) if !limit.is_over() || begun.plus(CLAIM_LIMIT).left() > Duration::ZERO => {
                    thread::sleep(CLAIM_PAUSE);
                    continue;
                }
                Admission::OtherNumber(held) => {
                    let holder = view.ahead.filter(|ahead| ahead.sharing == Sharing::Slots(held));
                    let holder = holder.ok_or_else(|| Fault::Gone { name: request.name.to_owned() })?;
                    let (name, wanted) = (request.name.to_owned(), request.sharing);
                    return Err(Fault::OtherSlots { name, wanted, holder: Box::new(holder) });
                }
                Admission::Granted(_) | Admission::Busy => {}
            }
            if limit.is_over() {
                return Err(Fault::from_holder(request.name, view.ahead.map(Box::new), limit != WaitLimit::NoWait));
            }
            if let Some(ahead) = &view.ahead {
                observer.report_wait(ahead);
            }
            let longest = limit.cap(WATCH_LIMIT.min(lease.ttl / 4)).max(Duration::from_millis(1));
            match &view.mark {
                Some(mark) => {
                    let key = Mark::key_for(&mark.holder, mark.sharing);
                    self.gateway.watch_deletion(&key, None, view.revision, longest);
                }
                None => self.gateway.watch_deletion(&from, Some(&to), view.revision, longest),
            }
            if needs_renewal(&lease) {
                match self.keep_alive(&mut lease) {
                    // The next read shows if the lease is lost.
                    Err(Fault::Unreachable { .. }) | Ok(()) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
    }

    /// Creates a lease, and puts our key under it.
    fn join_for_share(
        &mut self,
        number: u64,
        request: &LeaseRequest,
        observer: &mut dyn WaitObserver,
    ) -> Result<Lease, Fault> {
        let key = self.queue_key(request.name, number);
        observer.note_id(&key);
        let mut lease = self.grant_lease(&key, number, request, observer)?;
        let body = json!({
            "compare": [{ "key": encode(&key), "target": "CREATE", "create_revision": "0" }],
            "success": [put_operation(&key, &format_entry(&lease, request, None), number)],
            "failure": [get_operation(&key)],
        });
        let joined = self.gateway.call_until_answered("/v3/kv/txn", &body, request.limit, observer)?;
        match joined.code {
            OK => {}
            // Our lease has expired in the meantime.
            NOT_FOUND => return Err(Fault::Gone { name: request.name.to_owned() }),
            _ => return Err(joined.refusal()),
        }
        lease.revision = if joined.body["succeeded"] == json!(true) {
            joined.revision()
        } else {
            read_number(&joined.first_key(0)["create_revision"])
        };
        Ok(lease)
    }

    /// Reads the queue up to our own key and all marks, at one revision that a majority confirms, and decides.
    fn read_shares(
        &mut self,
        lease: &Lease,
        limit: WaitLimit,
        observer: &mut dyn WaitObserver,
    ) -> Result<ShareView, Fault> {
        let (from, to) = self.queue_range(&lease.name);
        let (from_share, to_share) = Mark::share_range(&lease.id);
        let body = json!({ "success": [
            { "request_range": { "key": encode(&from), "range_end": encode(&to), "sort_order": "ASCEND", "sort_target": "CREATE", "max_create_revision": lease.revision.to_string() } },
            get_operation(&Mark::key(&lease.id)),
            { "request_range": { "key": encode(&from_share), "range_end": encode(&to_share) } },
        ] });
        let read = self.gateway.call_until_answered("/v3/kv/txn", &body, limit, observer)?.check_success()?;
        let keys_of =
            |at: usize| read.body["responses"][at]["response_range"]["kvs"].as_array().cloned().unwrap_or_default();
        let mut entries: Vec<QueueEntry> =
            keys_of(0).iter().filter_map(|kv| self.parse_queue_entry(&lease.name, kv)).collect();
        if entries.pop().is_none_or(|own| own.revision != lease.revision) {
            return Err(Fault::Gone { name: lease.name.clone() });
        }
        mark_holders(&mut entries);
        let shares = keys_of(2);
        let marks = Mark::read(&lease.id, read.first_key(1))?.into_iter();
        let marks = marks.chain(shares.iter().filter_map(Mark::read_share));
        let is_lost = |mark: &Mark| mark.holder != lease.id && !entries.iter().any(|entry| entry.id == mark.holder);
        let lost: Vec<Mark> = marks.filter(is_lost).collect();
        let holders = || entries.iter().filter(|entry| entry.is_holder).map(|entry| (entry.sharing, entry.slot));
        let has_waiter = entries.iter().any(|entry| !entry.is_holder);
        // The decision without the marks.
        let by_keys = lease.sharing.admit(holders());
        let admission = match by_keys {
            Admission::Granted(_) if has_waiter => Admission::Busy,
            Admission::Granted(_) => {
                lease.sharing.admit(holders().chain(lost.iter().map(|mark| (mark.sharing, mark.slot))))
            }
            other => other,
        };
        let is_unnumbered = entries.iter().any(|entry| entry.sharing.slots().is_some() && entry.slot.is_none());
        let has_number = |entry: &&QueueEntry| match admission {
            Admission::OtherNumber(held) => entry.sharing == Sharing::Slots(held),
            Admission::Granted(_) | Admission::Busy => true,
        };
        let is_by_keys = has_waiter || !matches!(by_keys, Admission::Granted(_));
        let mark = lost.into_iter().next().filter(|_| !is_by_keys);
        let ahead = entries.iter().find(has_number).cloned();
        let mut ahead = ahead.or_else(|| mark.as_ref().map(|mark| mark.to_entry(&lease.name)));
        if let Some(ahead) = &mut ahead {
            ahead.count_holders(&entries);
        }
        Ok(ShareView { admission, ahead, mark, is_unnumbered, revision: read.revision(), term: read.term() })
    }

    /// Makes the mark of our lease, if it will be kept. Returns false if a read must show what happened.
    fn claim_share(
        &mut self,
        lease: &Lease,
        term: u64,
        request: &LeaseRequest,
        observer: &mut dyn WaitObserver,
    ) -> Result<bool, Fault> {
        if !request.kept {
            return Ok(true);
        }
        let number = mark_number(read_lease_number(&lease.id)?);
        if self.put_mark(lease, number, (0, term), request.limit, observer)? {
            return Ok(true);
        }
        // The answer may have been lost. No other process writes this key.
        let key = Mark::key_for(&lease.id, lease.sharing);
        let read = self.gateway.call("/v3/kv/range", &json!({ "key": encode(&key) }))?.check_success()?;
        let mark = Mark::read_share(&read.body["kvs"][0]);
        Ok(mark.is_some_and(|mark| mark.holder == lease.id && mark.slot == lease.slot))
    }
}
