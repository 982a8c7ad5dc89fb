//! The locks in an etcd cluster: for several services, each of which may be killed at any time. All that is to outlive a
//! service is in etcd; the services know nothing of each other.
//!
//! A lock is granted by one transaction: nobody has the key, and nobody waits for it. Who waits has a place, a key below
//! that of the lock, in the order in which etcd made them; who has the first place takes the lock and gives up the place in
//! one transaction, too. Leases end locks by themselves, and the places of a service that is gone. A token is a base, kept
//! with the lock, and the revision at which its key came to be: both only grow.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | service, before its transaction | a lease without keys | it ends by itself |
//! | service, while etcd has its transaction before it | its seal, for some seconds | nothing is done that compares it when it has ended |
//! | service, after its transaction, before the answer | a lock that nobody knows to have | it ends with its lease, if it has one; else `list` shows it, with its `eventId` |
//! | service, while others wait | their places | end with the lease of the service, some seconds later; those behind them wait so long |
//! | etcd's leader | an answer that does not come | the same is asked of the next endpoint, and what the first may do late comes to nothing (`seal.rs`): who finds its own id in the key has it |
//! | all of etcd | nothing is answered | 503; what may have been granted is taken back as soon as etcd answers |
//! | etcd's leader, while leases run | | the new leader gives each its full time again |

mod base;
mod change;
mod keys;
mod seal;
mod take;
mod wire;

use crate::error::CallError;
use crate::model::{self, Lock, LockFields, LockPage, LockQuery, LockRequest, Waiter};
use crate::store::grant::PendingGrant;
use crate::store::lock_store::LockStore;
use crate::telemetry::Telemetry;
use change::delete;
use seal::{Seal, Traces};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time;
use wire::rpc::{KeyValue, RangeRequest, TxnRequest};
use wire::{Etcd, after, putting};

/// So long the places of a service live on when it is gone.
const SERVICE_TTL: Duration = Duration::from_secs(10);

/// How long to go on where others change the same at the same time, or the first in the queue is about to take it.
const CONTENTION: Duration = Duration::from_secs(15);

/// Something may have happened to any key.
const ANY: &str = "";

/// So many keys at a time, when all are read.
const PAGE: i64 = 2000;

/// So long what was begun may take when the service ends.
const LAST: Duration = Duration::from_secs(3);

/// A cluster, seen from one service.
pub(crate) struct Cluster {
    etcd: Etcd,
    telemetry: Arc<Telemetry>,
    /// What tokens count from, and when that was written.
    base: Mutex<(u64, i64)>,
    /// The greatest revision heard of. It only grows, unless somebody sets etcd back to a copy.
    latest: AtomicI64,
    seal_key: Vec<u8>,
    /// And whether it is to be written anew.
    seal: watch::Sender<(Seal, bool)>,
    /// The keys of which something was heard.
    news: broadcast::Sender<String>,
    waiting: AtomicUsize,
    stopped: watch::Sender<bool>,
    runtime: Handle,
    /// What is to be brought to its end.
    begun: Mutex<JoinSet<()>>,
    /// What goes on for ever.
    always: Mutex<JoinSet<()>>,
}

impl Cluster {
    /// Opens the store of `h1:2379,h2:2379`. Tokens will be greater than `base`.
    pub(crate) async fn open(endpoints: &str, base: u64, telemetry: Arc<Telemetry>) -> Result<Arc<Self>, CallError> {
        let etcd = Etcd::new(endpoints).map_err(CallError::Invalid)?;
        let cluster = Arc::new(Self {
            etcd,
            telemetry,
            base: Mutex::default(),
            latest: AtomicI64::new(0),
            seal_key: keys::seal(&uuid::Uuid::new_v4().to_string()),
            seal: watch::Sender::default(),
            news: broadcast::Sender::new(1024),
            waiting: AtomicUsize::new(0),
            stopped: watch::Sender::default(),
            runtime: Handle::current(),
            begun: Mutex::default(),
            always: Mutex::default(),
        });
        cluster.raise_base(base).await?;
        cluster.write_seal(0).await?;
        let mut always = cluster.always.lock().unwrap_or_else(PoisonError::into_inner);
        always.spawn(Arc::clone(&cluster).stay());
        always.spawn(Arc::clone(&cluster).keep_sealed());
        always.spawn(Arc::clone(&cluster).hear());
        drop(always);
        Ok(cluster)
    }

    /// Tells those who wait what happens, for ever.
    async fn hear(self: Arc<Self>) {
        loop {
            if let Ok(mut events) = self.etcd.watch(keys::LOCKS).await {
                while let Ok(Some(heard)) = events.message().await {
                    // It begins: what happened before it was not heard.
                    if heard.events.is_empty() {
                        let _ = self.news.send(ANY.to_owned());
                    }
                    for key in heard.events.into_iter().filter_map(|event| event.kv) {
                        self.latest.fetch_max(key.mod_revision, Ordering::SeqCst);
                        if let Some((key, _)) = keys::split(&key.key) {
                            let _ = self.news.send(key.to_owned());
                        }
                    }
                    if heard.canceled {
                        break;
                    }
                }
            }
            time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// In the background, and to its end.
    fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while begun.try_join_next().is_some() {}
        begun.spawn_on(task, &self.runtime);
    }

    /// Without waiting for it to be done: it would end by itself.
    fn drop_lease(&self, lease: i64) {
        if lease != 0 {
            let etcd = self.etcd.clone();
            self.begin(async move { drop(etcd.revoke(lease).await) });
        }
    }

    /// All that is kept below a prefix, of one moment.
    async fn all(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, CallError> {
        let mut request =
            RangeRequest { key: prefix.to_vec(), range_end: after(prefix), limit: PAGE, ..Default::default() };
        let mut all = Vec::new();
        loop {
            let answer = self.etcd.range(request.clone()).await?;
            request.revision = answer.header.map_or(request.revision, |header| {
                if request.revision == 0 { header.revision } else { request.revision }
            });
            let more = answer.more;
            all.extend(answer.kvs);
            match all.last() {
                Some(last) if more => request.key = [&*last.key, &[0]].concat(),
                _ => return Ok(all),
            }
        }
    }
}

#[tonic::async_trait]
impl LockStore for Arc<Cluster> {
    async fn create(&self, wanted: LockRequest) -> Result<Lock, CallError> {
        let (mut reply, answer) = oneshot::channel();
        let cluster = Arc::clone(self);
        // By itself, so that it is not left half done when who asked goes away.
        self.begin(async move {
            let mut traces = Traces { id: uuid::Uuid::new_v4().to_string(), ..Traces::default() };
            let back = Arc::clone(&cluster);
            let take_back = move |lock: Lock| {
                back.telemetry.record_take_back(&lock);
                let cluster = Arc::clone(&back);
                let traces = Traces { id: lock.id, granted: true, ..Traces::default() };
                back.begin(async move { cluster.erase(traces).await });
            };
            let result = cluster.take(&wanted, &mut traces, &mut reply).await;
            let refused = result.is_err();
            // If nobody is there to take it, it is dropped, and so taken back.
            let _ = reply.send(result.map(|lock| PendingGrant::new(lock, Some(Box::new(take_back)))));
            if refused {
                cluster.erase(traces).await;
            }
        });
        answer.await.map_err(|_| CallError::Fault("its task has ended".to_owned()))?.map(PendingGrant::accept)
    }

    async fn get(&self, id: &str) -> Result<Lock, CallError> {
        let (kept, key) = self.by_id(id).await?;
        let queue = self.line(&key).await?.iter().filter_map(keys::read_waiting).collect();
        Ok(Lock { queue, ..kept.lock })
    }

    async fn update(&self, id: &str, change: LockFields) -> Result<Lock, CallError> {
        self.change_lock(id, &change).await
    }

    async fn remove(&self, id: &str) -> Result<Lock, CallError> {
        let kept = delete(&self.etcd, id).await?.ok_or_else(|| CallError::Unknown(id.to_owned()))?;
        self.drop_lease(kept.lease);
        Ok(kept.lock)
    }

    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError> {
        self.renew_lock(id, ttl).await
    }

    async fn list(&self, selection: LockQuery) -> Result<LockPage, CallError> {
        let mut locks = Vec::new();
        let mut queues: HashMap<String, Vec<(i64, Waiter)>> = HashMap::new();
        for found in self.all(keys::LOCKS).await? {
            match keys::split(&found.key) {
                Some((key, true)) => {
                    let kept = keys::read(&found).ok_or_else(|| unreadable(&found))?;
                    if selection.fields.match_lock(&kept.lock) {
                        locks.push((key.to_owned(), kept.lock));
                    }
                }
                Some((key, false)) => {
                    let waiting = keys::read_waiting(&found).map(|waiting| (found.create_revision, waiting));
                    queues.entry(key.to_owned()).or_default().extend(waiting);
                }
                None => (),
            }
        }
        locks.sort_by_key(|(_, lock)| (lock.created, lock.token));
        let mut locks: Vec<Lock> = locks
            .into_iter()
            .map(|(key, lock)| {
                let mut queue = queues.remove(&key).unwrap_or_default();
                queue.sort_by_key(|(revision, _)| *revision);
                Lock { queue: queue.into_iter().map(|(_, waiting)| waiting).collect(), ..lock }
            })
            .collect();
        if !selection.words.is_empty() {
            locks.retain(|lock| lock.contains_words(&selection.words));
        }
        let total = locks.len() as u64;
        let (skip, most) = match selection.per_page {
            Some(number) => {
                ((number as usize).saturating_mul(selection.page.saturating_sub(1) as usize), number as usize)
            }
            None => (0, usize::MAX),
        };
        Ok(LockPage { locks: locks.into_iter().skip(skip).take(most).collect(), total })
    }

    async fn check(&self) -> Result<(), CallError> {
        let put = vec![putting(keys::CHECK, model::current_time().to_string().into_bytes(), 0)];
        self.etcd.txn(TxnRequest { compare: vec![], success: put, failure: vec![] }).await?;
        Ok(())
    }

    fn count_waiters(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) {
        let all_done = async {
            // What is done may begin something else.
            loop {
                let mut begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
                if begun.is_empty() {
                    return;
                }
                while begun.join_next().await.is_some() {}
            }
        };
        let _ = time::timeout(LAST, all_done).await;
        let mut always = std::mem::take(&mut *self.always.lock().unwrap_or_else(PoisonError::into_inner));
        always.shutdown().await;
        // Places that are left, and the seal, end with it.
        let _ = time::timeout(LAST, self.etcd.revoke(self.seal().lease)).await;
    }
}

fn unreadable(kept: &KeyValue) -> CallError {
    CallError::Fault(format!("etcd: {} is not understood", String::from_utf8_lossy(&kept.key)))
}
