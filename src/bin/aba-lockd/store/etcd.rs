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
//! | service, after its transaction, before the answer | a lock that nobody knows to have | it ends with its lease, if it has one; else `list` shows it, with its `eventId` |
//! | service, while others wait | their places | end with the lease of the service, some seconds later; those behind them wait so long |
//! | etcd's leader | an answer that does not come | the same is asked of the next endpoint: who finds its own id in the key has it |
//! | all of etcd | nothing is answered | 503; a lock that may have been granted is looked for, and taken back |
//! | etcd's leader, while leases run | | the new leader gives each its full time again |

mod keys;
mod wire;

use crate::journal::Journal;
use crate::model::{Change, Key, Listing, Lock, Problem, Selection, Waiting, Wanted};
use crate::store::Store;
use crate::store::given::Given;
use crate::store::queue::Reply;
use jiff::Timestamp;
use keys::Kept;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, oneshot};
use tokio::time;
use wire::rpc::{KeyValue, RangeRequest, TxnRequest};
use wire::{Etcd, absent, after, deleting, empty, found, get, getting, putting, since, unchanged};

/// So long the places of a service live on when it is gone.
const SERVICE_TTL: Duration = Duration::from_secs(10);

/// So often who waits looks again, if nothing was heard of the key: the watch may have been lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long to go on where others change the same at the same time, or the first in the queue is about to take it.
const CONTENTION: Duration = Duration::from_secs(15);

/// So many keys at a time, when all are read.
const PAGE: i64 = 2000;

/// When a lock that may have been granted to nobody is looked for: what was in doubt may be done late.
const TAKE_BACK: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// A cluster, seen from one service.
pub(crate) struct Cluster {
    etcd: Etcd,
    journal: Arc<Journal>,
    /// What tokens count from, and when that was written.
    base: std::sync::Mutex<(u64, i64)>,
    /// The lease of this service.
    lease: AtomicI64,
    /// The keys of which something was heard.
    news: broadcast::Sender<String>,
    waiting: AtomicUsize,
    stopped: AtomicBool,
    stops: Notify,
}

/// How an attempt ended that did not fail.
enum Tried {
    Granted(Box<Lock>),
    Held(Box<Lock>),
    /// Nobody has it, but somebody is first.
    Contended,
}

/// Counts who waits.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cluster {
    /// Opens the store of `h1:2379,h2:2379`. Tokens will be greater than `base`.
    pub(crate) async fn open(endpoints: &str, base: u64, journal: Arc<Journal>) -> Result<Arc<Self>, Problem> {
        let etcd = Etcd::new(endpoints).map_err(Problem::Invalid)?;
        let (news, _) = broadcast::channel(1024);
        let cluster = Arc::new(Self {
            etcd,
            journal,
            base: std::sync::Mutex::default(),
            lease: AtomicI64::new(0),
            news,
            waiting: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            stops: Notify::new(),
        });
        cluster.find_base(base).await?;
        let (lease, _) = cluster.etcd.grant(SERVICE_TTL).await?;
        cluster.lease.store(lease, Ordering::SeqCst);
        tokio::spawn(Arc::clone(&cluster).stay());
        tokio::spawn(Arc::clone(&cluster).hear());
        Ok(cluster)
    }

    /// Keeps the lease of this service, and takes another if it was lost.
    async fn stay(self: Arc<Self>) {
        loop {
            time::sleep(SERVICE_TTL / 4).await;
            let lost = matches!(self.etcd.keep_alive(self.lease.load(Ordering::SeqCst)).await, Ok(false));
            if lost && let Ok((lease, _)) = self.etcd.grant(SERVICE_TTL).await {
                self.lease.store(lease, Ordering::SeqCst);
            }
        }
    }

    /// Tells those who wait what happens, for ever.
    async fn hear(self: Arc<Self>) {
        loop {
            if let Ok(mut events) = self.etcd.watch(keys::LOCKS).await {
                while let Ok(Some(heard)) = events.message().await {
                    for key in heard.events.into_iter().filter_map(|event| event.kv) {
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

    fn base(&self) -> (u64, i64) {
        *self.base.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What tokens count from. The first service sets it, so that they are never behind the clock; it is raised so that they
    /// are greater than `least`.
    async fn find_base(&self, least: u64) -> Result<(), Problem> {
        loop {
            let answer = self.etcd.range(get(keys::BASE)).await?;
            let revision = answer.header.map_or(0, |header| header.revision).unsigned_abs();
            let now = Timestamp::now().as_microsecond().unsigned_abs();
            let kept = answer.kvs.into_iter().next();
            let (before, modified) = match &kept {
                Some(kept) => (number(kept)?, kept.mod_revision),
                None => (now, 0),
            };
            let wanted = before.max(least.saturating_sub(revision));
            if kept.is_some() && wanted == before {
                *self.base.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (before, modified);
                return Ok(());
            }
            let put = putting(keys::BASE, wanted.to_string().into_bytes(), 0);
            let compare = if kept.is_some() { unchanged(keys::BASE, modified) } else { absent(keys::BASE) };
            self.etcd.txn(TxnRequest { compare: vec![compare], success: vec![put], failure: vec![] }).await?;
        }
    }

    /// Takes the lock if nobody has it and nobody waits for it; or, with a place, if that is the first.
    async fn try_take(&self, wanted: &Wanted, id: &str, place: Option<(&[u8], i64)>) -> Result<Tried, Problem> {
        let key = keys::of(&wanted.key);
        let (lock_key, id_key) = (keys::lock(&key), keys::id(id));
        let begun = Instant::now();
        let lease = match wanted.ttl {
            Some(ttl) => Some(self.etcd.grant(ttl).await?),
            None => None,
        };
        let mut lock = Lock {
            id: id.to_owned(),
            key: wanted.key.clone(),
            who: wanted.who.clone(),
            event_id: wanted.event_id.clone(),
            created: now(),
            ttl: lease.map(|(_, ttl)| ttl),
            expires: None,
            token: 0,
            queue: Vec::new(),
        };
        lock.expires = end(&lock);
        let number = lease.map_or(0, |(number, _)| number);
        loop {
            let (base, base_revision) = self.base();
            let mut compare = vec![absent(&lock_key), unchanged(keys::BASE, base_revision)];
            let mut success = vec![
                putting(&lock_key, keys::write(&lock, base), number),
                putting(&id_key, key.clone().into_bytes(), number),
            ];
            match place {
                Some((place, revision)) => {
                    compare.push(since(place, revision));
                    success.push(deleting(place));
                }
                None => compare.push(empty(&keys::queue(&key))),
            }
            success.push(getting(&lock_key));
            let failure = vec![getting(&lock_key), getting(keys::BASE)];
            let answer = match self.etcd.txn(TxnRequest { compare, success, failure }).await {
                Ok(answer) => answer,
                Err(failed) => {
                    if failed.in_doubt {
                        self.take_back_later(lock.id, number);
                    }
                    return Err(failed.into());
                }
            };
            let mut found = found(answer).into_iter();
            let held = found.next().flatten();
            let kept = held.as_ref().map(|held| keys::read(held).ok_or_else(|| unreadable(held))).transpose()?;
            match kept {
                // Also if an answer was lost, and this is the second time that it was asked.
                Some(kept) if kept.lock.id == id => return Ok(Tried::Granted(Box::new(kept.lock))),
                Some(kept) => {
                    self.drop_lease(number);
                    return Ok(Tried::Held(Box::new(kept.lock)));
                }
                None if found.next().flatten().is_some_and(|base| base.mod_revision != base_revision) => {
                    self.find_base(0).await?;
                }
                None => {
                    self.drop_lease(number);
                    if begun.elapsed() > CONTENTION {
                        return Err(Problem::Fault("etcd: the lock is free, and cannot be taken".to_owned()));
                    }
                    return Ok(Tried::Contended);
                }
            }
        }
    }

    /// Without waiting for it to be done: it would end by itself.
    fn drop_lease(&self, lease: i64) {
        if lease != 0 {
            let etcd = self.etcd.clone();
            tokio::spawn(async move { etcd.revoke(lease).await.ok() });
        }
    }

    fn take_back_later(&self, id: String, lease: i64) {
        let etcd = self.etcd.clone();
        tokio::spawn(async move {
            for pause in TAKE_BACK {
                time::sleep(pause).await;
                if let Ok(Some(kept)) = delete(&etcd, &id).await {
                    let _ = etcd.revoke(kept.lease).await;
                }
                if lease != 0 {
                    let _ = etcd.revoke(lease).await;
                }
            }
        });
    }

    /// The same for a place in a queue, that may have been taken: else it would be kept for as long as this service is there.
    fn give_up(&self, place: Vec<u8>) {
        let etcd = self.etcd.clone();
        tokio::spawn(async move {
            for pause in TAKE_BACK {
                time::sleep(pause).await;
                let success = vec![deleting(&place)];
                let _ = etcd.txn(TxnRequest { compare: vec![], success, failure: vec![] }).await;
            }
        });
    }

    /// Until it is granted, refused, or whoever waits for the reply is gone: then it does not matter how it ends. What was
    /// begun is always brought to its end.
    async fn take(&self, wanted: &Wanted, id: &str, reply: &mut Reply) -> Result<Lock, Problem> {
        let begun = Instant::now();
        let refusal = loop {
            match self.try_take(wanted, id, None).await? {
                Tried::Granted(lock) => return Ok(*lock),
                Tried::Held(lock) => break lock,
                Tried::Contended if wanted.wait.is_some() || begun.elapsed() > CONTENTION => {
                    break Box::new(self.holder_to_be(&wanted.key).await?);
                }
                Tried::Contended => time::sleep(Duration::from_millis(20)).await,
            }
        };
        let Some(wait) = wanted.wait else { return Err(Problem::Held(refusal)) };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.waiting);
        let mut news = self.news.subscribe();
        let key = keys::of(&wanted.key);
        let place = keys::place(&key, id);
        // From here on the place is to be given up, however this ends: `create` does that.
        let waiting = Waiting { who: wanted.who.clone(), since: now() };
        let put = putting(&place, keys::write_waiting(&waiting), self.lease.load(Ordering::SeqCst));
        let once = TxnRequest { compare: vec![absent(&place)], success: vec![put], failure: vec![] };
        self.etcd.txn(once).await?;
        let until = begun + wait;
        loop {
            let mut line = self.line(&key).await?;
            let at = line.iter().position(|one| one.key == place);
            let own = at.map(|at| line.swap_remove(at).create_revision).ok_or_else(|| {
                // This service was not heard of for so long that its places were given up.
                Problem::Fault("etcd: the place in the queue was lost; ask again".to_owned())
            })?;
            let last = match at {
                Some(0) => match self.try_take(wanted, id, Some((&place, own))).await? {
                    Tried::Granted(lock) => return Ok(*lock),
                    Tried::Held(lock) => Some(lock),
                    Tried::Contended => None,
                },
                _ => None,
            };
            let look_again = Instant::now() + LOOK_AGAIN;
            loop {
                if self.stopped.load(Ordering::SeqCst) {
                    return Err(Problem::Stopping);
                }
                if Instant::now() >= until {
                    let last = match last {
                        Some(lock) => lock,
                        None => Box::new(self.holder_to_be(&wanted.key).await?),
                    };
                    return Err(Problem::Held(last));
                }
                let heard = tokio::select! {
                    heard = news.recv() => !heard.is_ok_and(|heard| heard != key),
                    () = time::sleep_until(look_again.min(until).into()) => Instant::now() >= look_again,
                    () = self.stops.notified() => false,
                    () = reply.closed() => return Err(Problem::Stopping),
                };
                if heard {
                    break;
                }
            }
        }
    }

    /// Who waits for that key, in order.
    async fn line(&self, key: &str) -> Result<Vec<KeyValue>, Problem> {
        let prefix = keys::queue(key);
        let request = RangeRequest { range_end: after(&prefix), key: prefix, ..Default::default() };
        let mut line = self.etcd.range(request).await?.kvs;
        line.sort_by_key(|one| one.create_revision);
        Ok(line)
    }

    /// Who has it; or, if it is just handed over, who is first.
    async fn holder_to_be(&self, key: &Key) -> Result<Lock, Problem> {
        let name = keys::of(key);
        if let Some(kept) = self.at(&name).await? {
            return Ok(kept.lock);
        }
        let first = self.line(&name).await?.first().and_then(keys::read_waiting);
        let who = first.map(|waiting| waiting.who).unwrap_or_default();
        let created = now();
        let (id, event_id) = (String::new(), String::new());
        Ok(Lock { id, key: key.clone(), who, event_id, created, ttl: None, expires: None, token: 0, queue: Vec::new() })
    }

    async fn at(&self, key: &str) -> Result<Option<Kept>, Problem> {
        let answer = self.etcd.range(get(&keys::lock(key))).await?;
        answer.kvs.first().map(|kept| keys::read(kept).ok_or_else(|| unreadable(kept))).transpose()
    }

    /// The lock of that id, and KEY of where it is.
    async fn by_id(&self, id: &str) -> Result<(Kept, String), Problem> {
        let unknown = || Problem::Unknown(id.to_owned());
        let answer = self.etcd.range(get(&keys::id(id))).await?;
        let key =
            answer.kvs.into_iter().next().and_then(|kept| String::from_utf8(kept.value).ok()).ok_or_else(unknown)?;
        match self.at(&key).await? {
            Some(kept) if kept.lock.id == id => Ok((kept, key)),
            _ => Err(unknown()),
        }
    }

    /// Changes the lock of that id as `act` says, again if others change it at the same time.
    async fn change(
        &self,
        id: &str,
        act: impl Fn(&Kept) -> Result<(Lock, i64), Problem> + Send + Sync,
    ) -> Result<(Lock, Lock), Problem> {
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION {
            let (kept, key) = self.by_id(id).await?;
            let (new, lease) = act(&kept)?;
            let to = keys::of(&new.key);
            let (from_key, to_key) = (keys::lock(&key), keys::lock(&to));
            let moves = to != key;
            let (base, base_revision) = if moves { self.base() } else { (kept.base, 0) };
            let mut compare = vec![unchanged(&from_key, kept.revision)];
            let mut success = Vec::new();
            if moves {
                compare.extend([absent(&to_key), empty(&keys::queue(&to)), unchanged(keys::BASE, base_revision)]);
                success.push(deleting(&from_key));
            }
            if moves || lease != kept.lease {
                success.push(putting(&keys::id(id), to.clone().into_bytes(), lease));
            }
            success.extend([putting(&to_key, keys::write(&new, base), lease), getting(&to_key)]);
            let failure = vec![getting(&to_key)];
            let answer = self.etcd.txn(TxnRequest { compare, success, failure }).await?;
            let succeeded = answer.succeeded;
            let there = found(answer).into_iter().next().flatten();
            let there = there.map(|there| keys::read(&there).ok_or_else(|| unreadable(&there))).transpose()?;
            match there {
                Some(there) if succeeded => {
                    if lease != kept.lease {
                        self.drop_lease(kept.lease);
                    }
                    return Ok((there.lock, kept.lock));
                }
                Some(there) if moves && there.lock.id != id => return Err(Problem::Held(Box::new(there.lock))),
                _ if moves => {
                    self.find_base(0).await?;
                    time::sleep(Duration::from_millis(20)).await;
                }
                _ => (),
            }
        }
        Err(Problem::Fault("etcd: others change it at the same time".to_owned()))
    }

    /// All that is kept below a prefix, of one moment.
    async fn all(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, Problem> {
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

/// Deletes the lock of that id, if it is there. In one transaction with its id: nobody finds a half.
async fn delete(etcd: &Etcd, id: &str) -> Result<Option<Kept>, Problem> {
    let id_key = keys::id(id);
    let begun = Instant::now();
    while begun.elapsed() < CONTENTION {
        let Some(at) = etcd.range(get(&id_key)).await?.kvs.into_iter().next() else { return Ok(None) };
        let key = keys::lock(&String::from_utf8_lossy(&at.value));
        let Some(there) = etcd.range(get(&key)).await?.kvs.into_iter().next() else { continue };
        let kept = keys::read(&there).ok_or_else(|| unreadable(&there))?;
        if kept.lock.id != id {
            continue;
        }
        let compare = vec![unchanged(&key, kept.revision)];
        let success = vec![deleting(&key), deleting(&id_key)];
        if etcd.txn(TxnRequest { compare, success, failure: vec![] }).await?.succeeded {
            return Ok(Some(kept));
        }
    }
    Ok(None)
}

#[tonic::async_trait]
impl Store for Arc<Cluster> {
    async fn create(&self, wanted: Wanted) -> Result<Lock, Problem> {
        let (mut reply, answer) = oneshot::channel();
        let cluster = Arc::clone(self);
        // By itself, so that it is not left half done when who asked goes away.
        tokio::spawn(async move {
            let id = uuid::Uuid::new_v4().to_string();
            let result = cluster.take(&wanted, &id, &mut reply).await;
            if wanted.wait.is_some() && result.is_err() {
                cluster.give_up(keys::place(&keys::of(&wanted.key), &id));
            }
            let back = Arc::clone(&cluster);
            let take_back = move |lock: Lock| {
                back.journal.taken_back(&lock);
                back.take_back_later(lock.id, 0);
            };
            // If nobody is there to take it, it is dropped, and so taken back.
            let _ = reply.send(result.map(|lock| Given::new(lock, Some(Box::new(take_back)))));
        });
        answer.await.map_err(|_| Problem::Fault("its task has ended".to_owned()))?.map(Given::accept)
    }

    async fn get(&self, id: &str) -> Result<Lock, Problem> {
        let (kept, key) = self.by_id(id).await?;
        let queue = self.line(&key).await?.iter().filter_map(keys::read_waiting).collect();
        Ok(Lock { queue, ..kept.lock })
    }

    async fn update(&self, id: &str, change: Change) -> Result<Lock, Problem> {
        Ok(self.change(id, |kept| Ok((change.of(&kept.lock), kept.lease))).await?.0)
    }

    async fn remove(&self, id: &str) -> Result<Lock, Problem> {
        let kept = delete(&self.etcd, id).await?.ok_or_else(|| Problem::Unknown(id.to_owned()))?;
        self.drop_lease(kept.lease);
        Ok(kept.lock)
    }

    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, Problem> {
        let (kept, _) = self.by_id(id).await?;
        let (lease, ttl) = match ttl {
            Some(ttl) if Some(ttl) != kept.lock.ttl => {
                let (lease, ttl) = self.etcd.grant(ttl).await?;
                (lease, Some(ttl))
            }
            _ if kept.lease == 0 => return Ok(kept.lock),
            _ if self.etcd.keep_alive(kept.lease).await? => (kept.lease, kept.lock.ttl),
            _ => return Err(Problem::Unknown(id.to_owned())),
        };
        let renewed = self.change(id, |kept| {
            let mut lock = Lock { ttl, ..kept.lock.clone() };
            lock.expires = end(&lock);
            Ok((lock, lease))
        });
        Ok(renewed.await?.0)
    }

    async fn list(&self, selection: Selection) -> Result<Listing, Problem> {
        let mut locks = Vec::new();
        let mut queues: HashMap<String, Vec<(i64, Waiting)>> = HashMap::new();
        for found in self.all(keys::LOCKS).await? {
            match keys::split(&found.key) {
                Some((key, true)) => {
                    let kept = keys::read(&found).ok_or_else(|| unreadable(&found))?;
                    if change_fits(&selection.with, &kept.lock) {
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
        let total = locks.len() as u64;
        let (skip, most) = match selection.per_page {
            Some(number) => {
                ((number as usize).saturating_mul(selection.page.saturating_sub(1) as usize), number as usize)
            }
            None => (0, usize::MAX),
        };
        let page = locks.into_iter().skip(skip).take(most).map(|(key, lock)| {
            let mut queue = queues.remove(&key).unwrap_or_default();
            queue.sort_by_key(|(revision, _)| *revision);
            Lock { queue: queue.into_iter().map(|(_, waiting)| waiting).collect(), ..lock }
        });
        Ok(Listing { locks: page.collect(), total })
    }

    async fn check(&self) -> Result<(), Problem> {
        let put = vec![putting(keys::CHECK, now().to_string().into_bytes(), 0)];
        self.etcd.txn(TxnRequest { compare: vec![], success: put, failure: vec![] }).await?;
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.stops.notify_waiters();
    }
}

fn change_fits(with: &Change, lock: &Lock) -> bool {
    let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    fits(&with.service, &lock.key.service)
        && fits(&with.environment, &lock.key.environment)
        && fits(&with.resource, &lock.key.resource)
        && fits(&with.who, &lock.who)
        && fits(&with.event_id, &lock.event_id)
}

/// Now, as exact as it is kept.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// When it ends if it is not renewed from now on.
fn end(lock: &Lock) -> Option<Timestamp> {
    lock.ttl.and_then(|ttl| now().checked_add(ttl).ok())
}

fn number(kept: &KeyValue) -> Result<u64, Problem> {
    std::str::from_utf8(&kept.value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| unreadable(kept))
}

fn unreadable(kept: &KeyValue) -> Problem {
    Problem::Fault(format!("etcd: {} is not understood", String::from_utf8_lossy(&kept.key)))
}
