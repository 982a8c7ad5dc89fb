//! Acquires a lock for `store`: grants it at once, or joins its queue and waits.
//!
//! If the request fails, what it has created in etcd is in its [`Leftovers`], which the caller must clean up.

use super::cleanup::Leftovers;
use super::cluster::{ANY_NAME, CONTENTION_PAUSE, CONTENTION_TIMEOUT, Cluster};
use super::epoch::Epoch;
use super::keys;
use super::record::{format_lock, format_waiter, parse_holders, parse_waiter};
use super::request::{
    delete, has_no_key_after, is_absent, is_created_at, is_prefix_empty, is_range_empty, put, range_of_key,
    range_of_prefix, read, read_all_results, read_range,
};
use super::rpc::{Compare, KeyValue, RangeRequest, TxnRequest};
use crate::error::CallError;
use crate::model::{Lock, LockOrigin, LockRequest, Waiter, current_time};
use crate::store::grant::GrantSender;
use aba_lock_protocol::sharing::{Admission, Sharing};
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
        if request.sharing != Sharing::Exclusive {
            self.epochs.check_services().await?;
        }
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
        self.join_queue(&entry, request, leftovers).await?;
        loop {
            let queue = self.read_queue(&name).await?;
            let position = queue.iter().position(|other| other.key == entry).ok_or_else(|| {
                // The lease of the service has ended, and its queue entries with it.
                CallError::Fault("etcd: the service has lost the place in the queue; try again".to_owned())
            })?;
            if !request.event_id.is_empty() {
                let (holders, _) = self.find_holders(&name).await?;
                if let Some(own) = holders.into_iter().find(|holder| request.is_repeat_of(holder)) {
                    return Err(CallError::Held(Box::new(own)));
                }
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
        let holders = keys::holders_range(&name);
        let key = keys::holder_key(&name, &leftovers.id, request.sharing);
        // The read that shows why the transaction has failed: the own queue entry has gone, or another caller waits.
        let waiter = match own_entry {
            Some((entry, _)) => range_of_key(entry),
            None => RangeRequest { limit: 1, ..range_of_prefix(&keys::queue_prefix(&name)) },
        };
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
            let allowed = match self.check_holders(request, &name, &mut lock).await? {
                Ok(compare) => compare,
                Err(holder) => {
                    self.drop_lease(std::mem::take(&mut leftovers.lease));
                    return Ok(Attempt::Held(holder));
                }
            };
            let (epoch, base) = (self.epochs.current(), self.token_base.current());
            let mut compare = vec![is_absent(&key), allowed, base.compare(), self.epochs.compare(epoch)];
            let mut success = vec![
                put(&key, format_lock(&lock, base.value), leftovers.lease),
                put(&keys::id_key(&leftovers.id), keys::format_place(&name, request.sharing), leftovers.lease),
            ];
            match own_entry {
                Some((entry, revision)) => {
                    compare.push(is_created_at(entry, revision));
                    success.push(delete(entry));
                }
                None => compare.push(is_prefix_empty(&keys::queue_prefix(&name))),
            }
            let reads = [read(keys::TOKEN_BASE), read_range(waiter.clone()), read(self.epochs.key())];
            success.push(read(&key));
            success.extend(reads.clone());
            let failure = [read_range(holders.clone())].into_iter().chain(reads).collect();
            let transaction = TxnRequest { compare, success, failure };
            let Some(results) = self.run_in_epoch(epoch, transaction, leftovers).await? else { continue };
            let mut results = results.into_iter();
            let mut found = parse_holders(&results.next().unwrap_or_default())?;
            if let Some(at) = found.iter().position(|holder| holder.id == leftovers.id) {
                return Ok(Attempt::Granted(Box::new(found.swap_remove(at))));
            }
            let has_base =
                |found: Vec<KeyValue>| found.first().is_some_and(|found| found.mod_revision == base.revision);
            let has_base = results.next().is_some_and(has_base);
            let has_waiter = results.next().is_some_and(|found| !found.is_empty());
            let is_first = has_waiter == own_entry.is_some();
            // If there is an exclusive holder, it is the only one.
            let is_in_the_way =
                |holder: &Lock| Sharing::Exclusive == request.sharing || Sharing::Exclusive == holder.sharing;
            match found.into_iter().next() {
                Some(holder) if is_in_the_way(&holder) || !is_first => {
                    self.drop_lease(std::mem::take(&mut leftovers.lease));
                    return Ok(Attempt::Held(Box::new(holder)));
                }
                _ if !has_base => self.token_base.refresh().await?,
                None if !is_first => {
                    self.drop_lease(std::mem::take(&mut leftovers.lease));
                    return Ok(Attempt::NotFirst);
                }
                // A holder has come or gone since the check, so the decision is made again.
                _ => (),
            }
        }
        Err(cannot_acquire())
    }

    /// Decides whether the holders of a name leave room for a lock, and gives the lock its slot. Returns the comparison that
    /// makes a transaction fail unless they still do, or the holder that is in the way.
    ///
    /// An exclusive lock needs no holder at all, which the transaction itself can compare. Without slots, a shared one needs
    /// only that there is no exclusive lock, unless the request is repeated (the earlier one may have been granted).
    async fn check_holders(
        &self,
        request: &LockRequest,
        name: &str,
        lock: &mut Lock,
    ) -> Result<Result<Compare, Box<Lock>>, CallError> {
        match request.sharing {
            Sharing::Exclusive => return Ok(Ok(is_range_empty(&keys::holders_range(name)))),
            Sharing::Shared if request.event_id.is_empty() => {
                return Ok(Ok(is_absent(&keys::holder_key(name, "", Sharing::Exclusive))));
            }
            Sharing::Shared | Sharing::Slots(_) => (),
        }
        let (mut holders, revision) = self.find_holders(name).await?;
        // A transaction in doubt may have granted the lock.
        let own = holders.iter().position(|holder| holder.id == lock.id);
        if own.is_some() {
            return Ok(Ok(has_no_key_after(&keys::holders_range(name), revision)));
        }
        if let Some(at) = holders.iter().position(|holder| request.is_repeat_of(holder)) {
            return Ok(Err(Box::new(holders.swap_remove(at))));
        }
        match request.sharing.admit(holders.iter().map(|holder| (holder.sharing, holder.slot))) {
            Admission::Granted(slot) => {
                lock.slot = slot;
                Ok(Ok(has_no_key_after(&keys::holders_range(name), revision)))
            }
            Admission::Busy => Ok(Err(Box::new(holders.swap_remove(0)))),
            Admission::OtherNumber(held) => Err(CallError::other_slots(&holders, held, request.sharing)),
        }
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
    ) -> Result<Option<Vec<Vec<KeyValue>>>, CallError> {
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
        let results = read_all_results(answer);
        if is_in_doubt {
            leftovers.in_doubt = Some(epoch);
        } else if succeeded || epoch.is_current_in(results.last().and_then(|found| found.first())) {
            return Ok(Some(results));
        }
        self.epochs.try_end(epoch).await?;
        leftovers.may_be_granted |= leftovers.in_doubt.take().is_some();
        Ok(None)
    }

    async fn join_queue(
        &self,
        entry: &[u8],
        request: &LockRequest,
        leftovers: &mut Leftovers,
    ) -> Result<(), CallError> {
        let LockRequest { who, sharing, .. } = request;
        let value = format_waiter(&Waiter { who: who.clone(), sharing: *sharing, since: current_time() });
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

    /// Returns the oldest lock that another caller holds. If the lock is free, returns the lock that the first waiter is about
    /// to acquire, which has no id yet, unless that waiter is this caller.
    async fn find_next_holder(
        &self,
        request: &LockRequest,
        own_entry: Option<&[u8]>,
    ) -> Result<Option<Box<Lock>>, CallError> {
        let name = keys::encode_name(&request.key);
        if let Some(holder) = self.find_holders(&name).await?.0.into_iter().next() {
            return Ok(Some(Box::new(holder)));
        }
        let queue = self.read_queue(&name).await?;
        let first = queue.first().filter(|first| own_entry != Some(&first.key));
        Ok(first.map(|first| {
            let unknown = || Waiter { who: String::new(), sharing: Sharing::Exclusive, since: current_time() };
            let Waiter { who, sharing, since } = parse_waiter(first).unwrap_or_else(unknown);
            let expected = LockRequest {
                key: request.key.clone(),
                who,
                event_id: String::new(),
                ttl: None,
                wait: None,
                sharing,
                origin: LockOrigin::default(),
            };
            Box::new(expected.to_lock(String::new(), since))
        }))
    }
}
