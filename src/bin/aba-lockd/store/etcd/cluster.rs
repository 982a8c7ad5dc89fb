//! The state of the store in this service: the connection to etcd, the values that transactions compare, and the
//! notifications for waiters. `change`, `cleanup` and `acquire` add operations to it.

use super::client::EtcdClient;
use super::epoch::EpochKeeper;
use super::keys;
use super::mirror::Mirror;
use super::request::range_of_prefix;
use super::rpc::{KeyValue, ResponseHeader};
use super::tasks::BackgroundTasks;
use super::token_base::CachedTokenBase;
use crate::error::CallError;
use crate::event_feed::EventFeed;
use crate::telemetry::Telemetry;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Maximum time for which an operation is repeated while other services change the same keys, or while the first waiter
/// is about to acquire the lock.
pub(super) const CONTENTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval between two attempts of an operation under contention.
pub(super) const CONTENTION_PAUSE: Duration = Duration::from_millis(20);

/// Stands for all names in a notification: any lock may have changed.
pub(super) const ANY_NAME: &str = "";

/// Maximum number of keys in an answer.
const MAX_RANGE: i64 = 2000;

pub(super) struct Cluster {
    pub(super) etcd: EtcdClient,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) token_base: CachedTokenBase,
    pub(super) epochs: Arc<EpochKeeper>,
    pub(super) tasks: BackgroundTasks,
    /// The greatest revision that etcd has reported. A smaller one means that etcd was restored from a copy.
    pub(super) latest_revision: AtomicI64,
    /// The names of locks that have changed.
    pub(super) changes: broadcast::Sender<String>,
    pub(super) feed: Arc<EventFeed>,
    pub(super) mirror: Mutex<Mirror>,
    pub(super) waiters: AtomicUsize,
    /// The number of entries that this service has added to the history.
    pub(super) history_entries: AtomicUsize,
    pub(super) is_stopped: watch::Sender<bool>,
}

impl Cluster {
    pub(super) fn new(etcd: EtcdClient, telemetry: Arc<Telemetry>, feed: Arc<EventFeed>) -> Self {
        Self {
            telemetry,
            token_base: CachedTokenBase::new(etcd.clone()),
            epochs: Arc::new(EpochKeeper::new(etcd.clone())),
            etcd,
            tasks: BackgroundTasks::new(),
            latest_revision: AtomicI64::new(0),
            changes: broadcast::Sender::new(1024),
            feed,
            mirror: Mutex::default(),
            waiters: AtomicUsize::new(0),
            history_entries: AtomicUsize::new(0),
            is_stopped: watch::Sender::default(),
        }
    }

    /// Revokes a lease in the background. If that fails, the lease expires.
    pub(super) fn drop_lease(&self, lease: i64) {
        if lease != 0 {
            let etcd = self.etcd.clone();
            self.tasks.spawn(async move { drop(etcd.revoke_lease(lease).await) });
        }
    }

    /// Returns all keys with a prefix, as they were at one moment.
    pub(super) async fn read_all(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, CallError> {
        Ok(self.read_all_at_once(prefix).await?.0)
    }

    /// As [`Self::read_all`], with the header of that moment.
    pub(super) async fn read_all_at_once(&self, prefix: &[u8]) -> Result<(Vec<KeyValue>, ResponseHeader), CallError> {
        let mut request = range_of_prefix(prefix);
        request.limit = MAX_RANGE;
        let (mut all, mut first) = (Vec::new(), None);
        loop {
            let answer = self.etcd.read_range(request.clone()).await?;
            let header = *first.get_or_insert(answer.header.unwrap_or_default());
            request.revision = header.revision;
            all.extend(answer.kvs);
            match all.last() {
                Some(last) if answer.more => request.key = [&*last.key, &[0]].concat(),
                _ => return Ok((all, header)),
            }
        }
    }

    /// Returns the queue entries of a lock in their order.
    pub(super) async fn read_queue(&self, name: &str) -> Result<Vec<KeyValue>, CallError> {
        let mut queue = self.etcd.read_range(range_of_prefix(&keys::queue_prefix(name))).await?.kvs;
        queue.sort_by_key(|entry| entry.create_revision);
        Ok(queue)
    }
}
