//! Implements [`LockStore`] for etcd. `store/open` creates the [`EtcdStore`], and `lock_manager` calls it.
//!
//! Each request for a lock runs as a background task, which outlives the call. If the caller goes away, the task takes
//! the grant back and removes the leftovers of the request from etcd.

use super::change::delete_lock;
use super::cleanup::Leftovers;
use super::client::EtcdClient;
use super::cluster::Cluster;
use super::keys::{self, LockKeyKind};
use super::record::{parse_lock, parse_waiter};
use super::request::put;
use super::rpc::TxnRequest;
use super::tasks::CLOSE_TIMEOUT;
use crate::error::CallError;
use crate::event_feed::EventFeed;
use crate::model::{Lock, LockFields, LockKey, LockPage, LockQuery, LockRequest, Waiter, current_time};
use crate::past_lock::{EndCause, HistoryPage, HistoryQuery};
use crate::store::grant::PendingGrant;
use crate::store::lock_store::LockStore;
use crate::telemetry::Telemetry;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time;

/// The locks in an etcd cluster, as this service sees them.
pub(crate) struct EtcdStore {
    cluster: Arc<Cluster>,
}

impl EtcdStore {
    /// Opens the store in the cluster with endpoints such as `h1:2379,h2:2379`. Tokens will be greater than
    /// `token_base`.
    pub(crate) async fn open(
        endpoints: &str,
        token_base: u64,
        telemetry: Arc<Telemetry>,
        feed: Arc<EventFeed>,
    ) -> Result<Self, CallError> {
        let etcd = EtcdClient::new(endpoints).map_err(CallError::Invalid)?;
        let cluster = Arc::new(Cluster::new(etcd, telemetry, feed));
        cluster.token_base.raise(token_base).await?;
        cluster.epochs.start_new().await?;
        cluster.tasks.spawn_endless(Arc::clone(&cluster.epochs).keep_lease_alive());
        cluster.tasks.spawn_endless(Arc::clone(&cluster.epochs).start_requested());
        let known = cluster.load_mirror().await?;
        cluster.tasks.spawn_endless(Arc::clone(&cluster).watch_changes(known));
        Ok(Self { cluster })
    }
}

#[tonic::async_trait]
impl LockStore for EtcdStore {
    async fn create(&self, request: LockRequest) -> Result<Lock, CallError> {
        let (mut reply, answer) = oneshot::channel();
        let cluster = Arc::clone(&self.cluster);
        self.cluster.tasks.spawn(async move {
            let id = uuid::Uuid::new_v4().to_string();
            let mut leftovers = Leftovers { id, ..Leftovers::default() };
            let result = cluster.acquire(&request, &mut leftovers, &mut reply).await;
            let has_failed = result.is_err();
            // If the caller has gone, `send` returns the grant. Dropping it takes the lock back.
            let _ = reply.send(result.map(|lock| new_grant(lock, &cluster)));
            if has_failed {
                cluster.clean_up(leftovers).await;
            }
        });
        answer.await.map_err(|_| CallError::Fault("its task ended unexpectedly".to_owned()))?.map(PendingGrant::accept)
    }

    async fn get(&self, id: &str) -> Result<Lock, CallError> {
        let (stored, name) = self.cluster.find_by_id(id).await?;
        let queue = self.cluster.read_queue(&name).await?.iter().filter_map(parse_waiter).collect();
        Ok(Lock { queue, ..stored.lock })
    }

    async fn update(&self, id: &str, changes: LockFields, by: &str) -> Result<Lock, CallError> {
        self.cluster.change_lock(id, &changes, by).await
    }

    async fn remove(&self, id: &str, cause: EndCause) -> Result<Lock, CallError> {
        let deleted = delete_lock(&self.cluster.etcd, id, cause).await?;
        let stored = deleted.ok_or_else(|| CallError::Unknown(id.to_owned()))?;
        self.cluster.count_history_entry();
        self.cluster.drop_lease(stored.lease);
        Ok(stored.lock)
    }

    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError> {
        self.cluster.renew_lock(id, ttl).await
    }

    async fn list(&self, query: LockQuery) -> Result<LockPage, CallError> {
        let mut locks = Vec::new();
        let mut queues: HashMap<String, Vec<(i64, Waiter)>> = HashMap::new();
        for found in self.cluster.read_all(keys::LOCKS).await? {
            match keys::parse_lock_key(&found.key) {
                // The key of a lock.
                Some((name, LockKeyKind::Holder)) => {
                    let stored = parse_lock(&found)?;
                    if query.fields.match_lock(&stored.lock) {
                        locks.push((name.to_owned(), stored.lock));
                    }
                }
                // The key of a waiter.
                Some((name, LockKeyKind::QueueEntry)) => {
                    let waiter = parse_waiter(&found).map(|waiter| (found.create_revision, waiter));
                    queues.entry(name.to_owned()).or_default().extend(waiter);
                }
                None => (),
            }
        }
        locks.sort_by_key(|(_, lock)| (lock.created, lock.token));
        for queue in queues.values_mut() {
            queue.sort_by_key(|(revision, _)| *revision);
        }
        let mut locks: Vec<Lock> = locks
            .into_iter()
            .map(|(name, lock)| {
                // All holders of a name have the same queue.
                let queue = queues.get(&name).into_iter().flatten().map(|(_, waiter)| waiter.clone());
                Lock { queue: queue.collect(), ..lock }
            })
            .collect();
        locks.retain(|lock| lock.is_selected_by(&query));
        let total = locks.len() as u64;
        let (offset, limit) = match query.per_page {
            Some(number) => ((number as usize).saturating_mul(query.page.saturating_sub(1) as usize), number as usize),
            None if query.page > 1 => (0, 0),
            None => (0, usize::MAX),
        };
        Ok(LockPage { locks: locks.into_iter().skip(offset).take(limit).collect(), total })
    }

    async fn list_history(&self, query: HistoryQuery) -> Result<HistoryPage, CallError> {
        self.cluster.list_history(&query).await
    }

    fn list_waiters(&self, key: &LockKey) -> Vec<Waiter> {
        self.cluster.list_waiters(key)
    }

    async fn check(&self) -> Result<(), CallError> {
        let success = vec![put(keys::CHECK, current_time().to_string().into_bytes(), 0)];
        self.cluster.etcd.run(TxnRequest { compare: vec![], success, failure: vec![] }).await?;
        Ok(())
    }

    fn count_waiters(&self) -> usize {
        self.cluster.waiters.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.cluster.is_stopped.send_replace(true);
    }

    async fn close(&self) {
        self.cluster.tasks.close().await;
        // The remaining queue entries and the epoch key end with the lease.
        let lease = self.cluster.epochs.current().lease;
        let _ = time::timeout(CLOSE_TIMEOUT, self.cluster.etcd.revoke_lease(lease)).await;
    }
}

/// Returns a grant that is taken back in the background if the caller does not receive it.
fn new_grant(lock: Lock, cluster: &Arc<Cluster>) -> PendingGrant {
    let cluster = Arc::clone(cluster);
    let take_back = move |lock: Lock| {
        cluster.telemetry.record_take_back(&lock);
        let leftovers = Leftovers { id: lock.id, may_be_granted: true, ..Leftovers::default() };
        let task_cluster = Arc::clone(&cluster);
        cluster.tasks.spawn(async move { task_cluster.clean_up(leftovers).await });
    };
    PendingGrant::new(lock, Some(Box::new(take_back)))
}
