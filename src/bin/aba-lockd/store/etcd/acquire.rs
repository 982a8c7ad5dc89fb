//! Acquires a lock for `store`: grants it at once, or joins its queue and waits.
//!
//! If the request fails, what it has created in etcd is in its [`Leftovers`], which the caller must clean up.

use super::cleanup::Leftovers;
use super::cluster::{ANY_NAME, CONTENTION_PAUSE, CONTENTION_TIMEOUT, Cluster};
use super::epoch::Epoch;
use super::keys;
use super::record::{format_lock, format_waiter, parse_lock, parse_waiter};
use super::request::{delete, is_absent, is_created_at, is_prefix_empty, put, read, read_results};
use super::rpc::{KeyValue, TxnRequest};
use crate::error::CallError;
use crate::model::{Lock, LockOrigin, LockRequest, Waiter, current_time};
use crate::store::grant::GrantSender;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time;

/// Interval at which a waiter reads the queue even without a notification: the watch may have been interrupted.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The result of an attempt to acquire a lock.
enum Attempt {
    Granted(Box<Lock>),
    Held(Box<Lock>),
    /// The lock is free, but another caller is first in the queue.
    NotFirst,
}

/// Counts a waiter until the value is dropped.
struct WaiterCount<'a>(&'a AtomicUsize);

impl<'a> WaiterCount<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for WaiterCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cannot_acquire() -> CallError {
    CallError::Fault("etcd: the lock is free, but cannot be acquired; try again".to_owned())
}

impl Cluster {
    /// Acquires the lock, and records in `leftovers` what it creates in etcd. If it fails, the caller must clean that
    /// up.
    ///
    /// While it waits, it also returns when the receiver of `reply` is dropped. The error does not matter then.
    pub(super) async fn acquire(
        &self,
        request: &LockRequest,
        leftovers: &mut Leftovers,
        reply: &mut GrantSender,
    ) -> Result<Lock, CallError> {
        let begun = Instant::now();
        let wait = loop {
            match (self.try_acquire(request, leftovers, None).await?, request.wait) {
                (Attempt::Granted(lock), _) => return Ok(*lock),
                (Attempt::Held(lock), _) if request.is_repeat_of(&lock) => return Err(CallError::Held(lock)),
                (_, Some(wait)) => break wait,
                (Attempt::Held(lock), None) => return Err(CallError::Held(lock)),
                (Attempt::NotFirst, None) if begun.elapsed() > CONTENTION_TIMEOUT => {
                    let holder = self.find_next_holder(request, None).await?;
                    return Err(holder.map_or_else(cannot_acquire, CallError::Held));
                }
                (Attempt::NotFirst, None) => time::sleep(CONTENTION_PAUSE).await,
            }
        };
        self.wait_in_queue(request, begun + wait, leftovers, reply).await
    }

    async fn wait_in_queue(
        &self,
        request: &LockRequest,
        deadline: Instant,
        leftovers: &mut Leftovers,
        reply: &mut GrantSender,
    ) -> Result<Lock, CallError> {
        let _count = WaiterCount::new(&self.waiters);
        let (mut changes, mut stopped) = (self.changes.subscribe(), self.is_stopped.subscribe());
        let name = keys::encode_name(&request.key);
        let entry = keys::queue_entry_key(&name, &leftovers.id);
        leftovers.queue_entry = Some(entry.clone());
        self.join_queue(&entry, &request.who, leftovers).await?;
        loop {
            let queue = self.read_queue(&name).await?;
            let position = queue.iter().position(|other| other.key == entry).ok_or_else(|| {
                // The lease of the service has ended, and its queue entries with it.
                CallError::Fault("etcd: the service has lost the place in the queue; try again".to_owned())
            })?;
            if !request.event_id.is_empty()
                && let Some(stored) = self.find_by_name(&name).await?
                && request.is_repeat_of(&stored.lock)
            {
                return Err(CallError::Held(Box::new(stored.lock)));
            }
            let mut holder = None;
            if position == 0 {
                let own = Some((&*entry, queue[0].create_revision));
                match self.try_acquire(request, leftovers, own).await? {
                    Attempt::Granted(lock) => return Ok(*lock),
                    Attempt::Held(lock) => holder = Some(lock),
                    Attempt::NotFirst => (),
                }
            }
            let next_poll = Instant::now() + POLL_INTERVAL;
            loop {
                if *stopped.borrow() {
                    return Err(CallError::Stopping);
                }
                if Instant::now() >= deadline {
                    if holder.is_none() {
                        holder = self.find_next_holder(request, Some(&entry)).await?;
                    }
                    // Without a holder and without a waiter before this one, the lock can be acquired after all.
                    let Some(holder) = holder else { break };
                    return Err(CallError::Held(holder));
                }
                let reads_again = tokio::select! {
                    heard = changes.recv() => !heard.is_ok_and(|heard| heard != name && heard != ANY_NAME),
                    () = time::sleep_until(next_poll.min(deadline).into()) => Instant::now() >= next_poll,
                    _ = stopped.changed() => false,
                    () = reply.closed() => return Err(CallError::Stopping),
                };
                if reads_again {
                    break;
                }
            }
        }
    }

    /// Tries to acquire the lock. Without `own_entry`, this succeeds only if no caller waits for the lock. `own_entry`
    /// is the caller's queue entry (its key and the revision at which it was created), which must be the first.
    async fn try_acquire(
        &self,
        request: &LockRequest,
        leftovers: &mut Leftovers,
        own_entry: Option<(&[u8], i64)>,
    ) -> Result<Attempt, CallError> {
        let name = keys::encode_name(&request.key);
        let (lock_key, id_key) = (keys::lock_key(&name), keys::id_key(&leftovers.id));
        let lease = match request.ttl {
            Some(ttl) => Some(self.etcd.grant_lease(ttl).await?),
            None => None,
        };
        let now = current_time();
        let mut lock = request.to_lock(leftovers.id.clone(), now);
        lock.ttl = lease.map(|(_, ttl)| ttl);
        lock.restart_ttl(now);
        leftovers.lease = lease.map_or(0, |(id, _)| id);
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION_TIMEOUT {
            let (epoch, base) = (self.epochs.current(), self.token_base.current());
            let mut compare = vec![is_absent(&lock_key), base.compare(), self.epochs.compare(epoch)];
            let mut success = vec![
                put(&lock_key, format_lock(&lock, base.value), leftovers.lease),
                put(&id_key, name.clone().into_bytes(), leftovers.lease),
            ];
            match own_entry {
                Some((entry, revision)) => {
                    compare.push(is_created_at(entry, revision));
                    success.push(delete(entry));
                }
                None => compare.push(is_prefix_empty(&keys::queue_prefix(&name))),
            }
            let reads = [read(&lock_key), read(keys::TOKEN_BASE), read(self.epochs.key())];
            success.extend(reads.clone());
            let transaction = TxnRequest { compare, success, failure: reads.to_vec() };
            let Some(results) = self.run_in_epoch(epoch, transaction, leftovers).await? else { continue };
            let mut results = results.into_iter();
            let found = results.next().flatten().as_ref().map(parse_lock).transpose()?;
            match found {
                Some(found) if found.lock.id == leftovers.id => return Ok(Attempt::Granted(Box::new(found.lock))),
                None if results.next().flatten().is_none_or(|found| found.mod_revision != base.revision) => {
                    self.token_base.refresh().await?;
                }
                found => {
                    self.drop_lease(std::mem::take(&mut leftovers.lease));
                    return Ok(found.map_or(Attempt::NotFirst, |found| Attempt::Held(Box::new(found.lock))));
                }
            }
        }
        Err(cannot_acquire())
    }

    /// Runs a transaction that compares this epoch, and whose last read is that of the epoch key. Returns the results
    /// of its reads.
    ///
    /// `None`: the epoch has ended. The transaction was executed, or it will fail, so the caller must run it again:
    /// that either finds its effect or repeats it.
    async fn run_in_epoch(
        &self,
        epoch: Epoch,
        transaction: TxnRequest,
        leftovers: &mut Leftovers,
    ) -> Result<Option<Vec<Option<KeyValue>>>, CallError> {
        let latest = self.latest_revision.load(Ordering::SeqCst);
        let (answer, is_in_doubt) = match self.etcd.run_with_doubt(transaction).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.is_in_doubt {
                    leftovers.in_doubt = Some(epoch);
                }
                return Err(error.into());
            }
        };
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if revision < latest {
            // The lock, if it was granted, may have the token of an earlier lock, because revisions repeat.
            leftovers.may_be_granted = true;
            self.token_base.raise(0).await?;
            self.latest_revision.store(revision, Ordering::SeqCst);
            return Err(CallError::Fault("etcd was restored to an earlier state; try again".to_owned()));
        }
        self.latest_revision.fetch_max(revision, Ordering::SeqCst);
        let succeeded = answer.succeeded;
        let results = read_results(answer);
        if is_in_doubt {
            leftovers.in_doubt = Some(epoch);
        } else if succeeded || epoch.is_current_in(results.last().and_then(Option::as_ref)) {
            return Ok(Some(results));
        }
        self.epochs.try_end(epoch).await?;
        leftovers.may_be_granted |= leftovers.in_doubt.take().is_some();
        Ok(None)
    }

    async fn join_queue(&self, entry: &[u8], who: &str, leftovers: &mut Leftovers) -> Result<(), CallError> {
        let value = format_waiter(&Waiter { who: who.to_owned(), since: current_time() });
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION_TIMEOUT {
            let epoch = self.epochs.current();
            let transaction = TxnRequest {
                compare: vec![is_absent(entry), self.epochs.compare(epoch)],
                success: vec![put(entry, value.clone(), epoch.lease)],
                failure: vec![read(self.epochs.key())],
            };
            // The transaction has created the entry, or an earlier attempt that was in doubt has done so.
            if self.run_in_epoch(epoch, transaction, leftovers).await?.is_some() {
                return Ok(());
            }
        }
        Err(CallError::Fault("etcd: cannot join the queue".to_owned()))
    }

    /// Returns the lock that another caller holds. If the lock is free, returns the lock that the first waiter is about
    /// to acquire, which has no id yet, unless that waiter is this caller.
    async fn find_next_holder(
        &self,
        request: &LockRequest,
        own_entry: Option<&[u8]>,
    ) -> Result<Option<Box<Lock>>, CallError> {
        let name = keys::encode_name(&request.key);
        if let Some(stored) = self.find_by_name(&name).await? {
            return Ok(Some(Box::new(stored.lock)));
        }
        let queue = self.read_queue(&name).await?;
        let first = queue.first().filter(|first| own_entry != Some(&first.key));
        Ok(first.map(|first| {
            let unknown = || Waiter { who: String::new(), since: current_time() };
            let Waiter { who, since } = parse_waiter(first).unwrap_or_else(unknown);
            let expected = LockRequest {
                key: request.key.clone(),
                who,
                event_id: String::new(),
                ttl: None,
                wait: None,
                origin: LockOrigin::default(),
            };
            Box::new(expected.to_lock(String::new(), since))
        }))
    }
}
