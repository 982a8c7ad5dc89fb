//! The history of the cluster: the locks that have ended, in keys whose order is that of the ends.
//!
//! A transaction that deletes a lock also writes its entry, so all services report the same end. A lock that etcd deletes with
//! its lease has no such transaction: each service that sees the deletion writes the entry, with the same key, so the first one
//! wins. If no service runs at that moment, the lock is not in the history.
//!
//! All services together keep about [`MAX_HISTORY`] entries: a service that has written some entries removes the oldest ones.

use super::cluster::Cluster;
use super::keys;
use super::request::{delete_range, is_absent, put, range_of_prefix};
use super::rpc::range_request::{SortOrder, SortTarget};
use super::rpc::{RangeRequest, RequestOp, TxnRequest};
use crate::error::CallError;
use crate::model::{Lock, current_time};
use crate::past_lock::{self, EndCause, EndKind, HistoryCollector, HistoryPage, HistoryQuery, MAX_HISTORY, PastLock};
use crate::store::history_record::{format_past_lock, parse_past_lock};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time;

/// Maximum number of entries in one answer of etcd.
const PART: i64 = 500;

/// The number of entries after which a service removes the oldest ones.
const PRUNE_INTERVAL: usize = 100;

/// The number of attempts to write the entry of a lock that has expired, and the pause between two of them.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Returns the operation that writes the entry of a lock.
pub(super) fn put_past_lock(past: &PastLock) -> RequestOp {
    put(&keys::history_key(past.end.at, &past.lock.id), format_past_lock(past).into_bytes(), 0)
}

impl Cluster {
    pub(super) async fn list_history(&self, query: &HistoryQuery) -> Result<HistoryPage, CallError> {
        let mut range = RangeRequest {
            limit: PART,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Key.into(),
            ..range_of_prefix(keys::HISTORY)
        };
        if let Some(place) = &query.before {
            if past_lock::parse_history_place(place).is_none() {
                return Err(CallError::wrong_place());
            }
            range.range_end = [keys::HISTORY, place.as_bytes()].concat();
        }
        let mut collector = HistoryCollector::new(query);
        loop {
            let answer = self.etcd.read_range(range.clone()).await?;
            for found in &answer.kvs {
                let place = found.key.strip_prefix(keys::HISTORY).and_then(|place| std::str::from_utf8(place).ok());
                if let (Some(past), Some(place)) = (parse_past_lock(&found.value), place)
                    && !collector.add(past, place.to_owned())
                {
                    return Ok(collector.finish());
                }
            }
            match answer.kvs.into_iter().last() {
                Some(last) if answer.more => range.range_end = last.key,
                _ => return Ok(collector.finish()),
            }
        }
    }

    /// Writes the entry of a lock that etcd has deleted with its lease, unless another service has done so.
    pub(super) fn record_expiry(self: &Arc<Self>, lock: &Lock) {
        // All services must write the same key.
        let Some(expires) = lock.expires else { return };
        let past = PastLock::new(lock, EndCause::without_caller(EndKind::Expired).at(expires));
        let key = keys::history_key(expires, &lock.id);
        let cluster = Arc::clone(self);
        self.tasks.spawn(async move {
            let request =
                TxnRequest { compare: vec![is_absent(&key)], success: vec![put_past_lock(&past)], failure: vec![] };
            for _ in 0..ATTEMPTS {
                if let Ok(answer) = cluster.etcd.run(request.clone()).await {
                    if answer.succeeded {
                        cluster.count_history_entry();
                    }
                    return;
                }
                time::sleep(PAUSE).await;
            }
        });
    }

    /// Counts an entry that this service has written. Removes the oldest entries from time to time, and at the first one.
    pub(super) fn count_history_entry(self: &Arc<Self>) {
        if self.history_entries.fetch_add(1, Ordering::Relaxed).is_multiple_of(PRUNE_INTERVAL) {
            let cluster = Arc::clone(self);
            self.tasks.spawn(async move { drop(cluster.prune_history().await) });
        }
    }

    async fn prune_history(&self) -> Result<(), CallError> {
        let all = range_of_prefix(keys::HISTORY);
        let count = self.etcd.read_range(RangeRequest { count_only: true, ..all.clone() }).await?.count;
        let excess = count - MAX_HISTORY;
        if excess <= 0 {
            return Ok(());
        }
        // The keys are in their order by default.
        let oldest = RangeRequest { limit: excess, keys_only: true, ..all };
        if let Some(last) = self.etcd.read_range(oldest).await?.kvs.into_iter().last() {
            let end = [&*last.key, &[0]].concat();
            let success = vec![delete_range(keys::HISTORY, &end)];
            self.etcd.run(TxnRequest { compare: vec![], success, failure: vec![] }).await?;
        }
        Ok(())
    }
}

/// Returns the entry of a lock that a call ends now.
pub(super) fn end_now(lock: &Lock, cause: EndCause) -> PastLock {
    PastLock::new(lock, cause.at(current_time()))
}
