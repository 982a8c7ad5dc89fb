//! From being asked for a lock to granting it, and the queue between.

use super::seal::{Seal, Traces};
use super::wire::rpc::{KeyValue, RangeRequest, TxnRequest};
use super::wire::{absent, after, deleting, empty, found, getting, putting, since, unchanged};
use super::{CONTENTION, Cluster, keys, unreadable};
use crate::error::CallError;
use crate::model::{Lock, LockKey, LockRequest, Waiter, current_time};
use crate::store::grant::GrantSender;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time;

/// So often who waits looks again, if nothing was heard of the key: the watch may have been lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

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

fn not_taken() -> CallError {
    CallError::Fault("etcd: the lock is free, and cannot be taken".to_owned())
}

impl Cluster {
    /// A transaction under a seal, of which `traces` tell. What it read; nothing if there is another seal by now: then it has
    /// been done, or never will be, and whoever makes it anew finds that. Its last read is that of the seal.
    async fn sealed(
        &self,
        seal: Seal,
        request: TxnRequest,
        traces: &mut Traces,
    ) -> Result<Option<Vec<Option<KeyValue>>>, CallError> {
        let before = self.latest.load(Ordering::SeqCst);
        let (answer, in_doubt) = match self.etcd.txn_or_doubt(request).await {
            Ok(answer) => answer,
            Err(failed) => {
                if failed.in_doubt {
                    traces.doubt = Some(seal);
                }
                return Err(failed.into());
            }
        };
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if revision < before {
            // Whatever was granted has a token that another may have had.
            traces.granted = true;
            self.raise_base(0).await?;
            self.latest.store(revision, Ordering::SeqCst);
            return Err(CallError::Fault("etcd: it was set back to what it was before; ask again".to_owned()));
        }
        self.latest.fetch_max(revision, Ordering::SeqCst);
        let succeeded = answer.succeeded;
        let found = found(answer);
        if in_doubt {
            traces.doubt = Some(seal);
        } else if succeeded || Self::is_under(seal, found.last().and_then(Option::as_ref)) {
            return Ok(Some(found));
        }
        self.settle_soon(seal).await?;
        traces.granted |= traces.doubt.take().is_some();
        Ok(None)
    }

    /// Takes the lock if nobody has it and nobody waits for it; or, with a place, if that is the first.
    async fn try_take(
        &self,
        wanted: &LockRequest,
        traces: &mut Traces,
        place: Option<(&[u8], i64)>,
    ) -> Result<Tried, CallError> {
        let key = keys::of(&wanted.key);
        let (lock_key, id_key) = (keys::lock(&key), keys::id(&traces.id));
        let lease = match wanted.ttl {
            Some(ttl) => Some(self.etcd.grant(ttl).await?),
            None => None,
        };
        let now = current_time();
        let mut lock = wanted.to_lock(traces.id.clone(), now);
        lock.ttl = lease.map(|(_, ttl)| ttl);
        lock.restart_ttl(now);
        traces.lease = lease.map_or(0, |(number, _)| number);
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION {
            let (seal, (base, base_revision)) = (self.seal(), self.base());
            let mut compare = vec![absent(&lock_key), unchanged(keys::BASE, base_revision), self.under(seal)];
            let mut success = vec![
                putting(&lock_key, keys::write(&lock, base), traces.lease),
                putting(&id_key, key.clone().into_bytes(), traces.lease),
            ];
            match place {
                Some((place, revision)) => {
                    compare.push(since(place, revision));
                    success.push(deleting(place));
                }
                None => compare.push(empty(&keys::queue(&key))),
            }
            let reads = [getting(&lock_key), getting(keys::BASE), getting(&self.seal_key)];
            success.extend(reads.clone());
            let request = TxnRequest { compare, success, failure: reads.to_vec() };
            let Some(found) = self.sealed(seal, request, traces).await? else { continue };
            let mut found = found.into_iter();
            let held = found.next().flatten();
            let kept = held.as_ref().map(|held| keys::read(held).ok_or_else(|| unreadable(held))).transpose()?;
            match kept {
                Some(kept) if kept.lock.id == traces.id => return Ok(Tried::Granted(Box::new(kept.lock))),
                None if found.next().flatten().is_none_or(|base| base.mod_revision != base_revision) => {
                    self.find_base(0).await?;
                }
                kept => {
                    self.drop_lease(std::mem::take(&mut traces.lease));
                    return Ok(kept.map_or(Tried::Contended, |kept| Tried::Held(Box::new(kept.lock))));
                }
            }
        }
        Err(not_taken())
    }

    /// Until it is granted, refused, or whoever waits for the reply is gone: then it does not matter how it ends. What was
    /// begun is always brought to its end: by `create`, which erases the traces.
    pub(super) async fn take(
        &self,
        wanted: &LockRequest,
        traces: &mut Traces,
        reply: &mut GrantSender,
    ) -> Result<Lock, CallError> {
        let begun = Instant::now();
        let wait = loop {
            let tried = self.try_take(wanted, traces, None).await?;
            match (tried, wanted.wait) {
                (Tried::Granted(lock), _) => return Ok(*lock),
                (Tried::Held(lock), _) if wanted.is_repeat_of(&lock) => return Err(CallError::Held(lock)),
                (_, Some(wait)) => break wait,
                (Tried::Held(lock), None) => return Err(CallError::Held(lock)),
                (Tried::Contended, None) if begun.elapsed() > CONTENTION => {
                    let first = self.holder_to_be(&wanted.key, None).await?;
                    return Err(first.map_or_else(not_taken, CallError::Held));
                }
                (Tried::Contended, None) => time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.waiting);
        let (mut news, mut stopped) = (self.news.subscribe(), self.stopped.subscribe());
        let key = keys::of(&wanted.key);
        let place = keys::place(&key, &traces.id);
        traces.place = Some(place.clone());
        self.join(&place, &wanted.who, traces).await?;
        let until = begun + wait;
        loop {
            let mut line = self.line(&key).await?;
            let at = line.iter().position(|one| one.key == place);
            let own = at.map(|at| line.swap_remove(at).create_revision).ok_or_else(|| {
                // This service was not heard of for so long that its places were given up.
                CallError::Fault("etcd: the place in the queue was lost; ask again".to_owned())
            })?;
            if !wanted.event_id.is_empty()
                && let Some(kept) = self.at(&key).await?
                && wanted.is_repeat_of(&kept.lock)
            {
                return Err(CallError::Held(Box::new(kept.lock)));
            }
            let mut last = match at {
                Some(0) => match self.try_take(wanted, traces, Some((&place, own))).await? {
                    Tried::Granted(lock) => return Ok(*lock),
                    Tried::Held(lock) => Some(lock),
                    Tried::Contended => None,
                },
                _ => None,
            };
            let look_again = Instant::now() + LOOK_AGAIN;
            loop {
                if *stopped.borrow() {
                    return Err(CallError::Stopping);
                }
                if Instant::now() >= until {
                    if last.is_none() {
                        last = self.holder_to_be(&wanted.key, Some(&place)).await?;
                    }
                    // If nobody has it, and nobody is before us, it is ours.
                    let Some(last) = last else { break };
                    return Err(CallError::Held(last));
                }
                let heard = tokio::select! {
                    heard = news.recv() => !heard.is_ok_and(|heard| heard != key && heard != super::ANY),
                    () = time::sleep_until(look_again.min(until).into()) => Instant::now() >= look_again,
                    _ = stopped.changed() => false,
                    () = reply.closed() => return Err(CallError::Stopping),
                };
                if heard {
                    break;
                }
            }
        }
    }

    /// Takes a place in the queue.
    async fn join(&self, place: &[u8], who: &str, traces: &mut Traces) -> Result<(), CallError> {
        let value = keys::write_waiting(&Waiter { who: who.to_owned(), since: current_time() });
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION {
            let seal = self.seal();
            let put = putting(place, value.clone(), seal.lease);
            let request = TxnRequest {
                compare: vec![absent(place), self.under(seal)],
                success: vec![put],
                failure: vec![getting(&self.seal_key)],
            };
            // Put by this one, or by one before it that was in doubt.
            if self.sealed(seal, request, traces).await?.is_some() {
                return Ok(());
            }
        }
        Err(CallError::Fault("etcd: no place in the queue can be taken".to_owned()))
    }

    /// Who waits for that key, in order.
    pub(super) async fn line(&self, key: &str) -> Result<Vec<KeyValue>, CallError> {
        let prefix = keys::queue(key);
        let request = RangeRequest { range_end: after(&prefix), key: prefix, ..Default::default() };
        let mut line = self.etcd.range(request).await?.kvs;
        line.sort_by_key(|one| one.create_revision);
        Ok(line)
    }

    /// Who has it; or, if it is just handed over, whoever else is first: then it has no id yet.
    async fn holder_to_be(&self, key: &LockKey, own: Option<&[u8]>) -> Result<Option<Box<Lock>>, CallError> {
        let name = keys::of(key);
        if let Some(kept) = self.at(&name).await? {
            return Ok(Some(Box::new(kept.lock)));
        }
        let line = self.line(&name).await?;
        let first = line.first().filter(|first| own != Some(&first.key));
        Ok(first.map(|first| {
            let waiting =
                keys::read_waiting(first).unwrap_or_else(|| Waiter { who: String::new(), since: current_time() });
            let Waiter { who, since } = waiting;
            let (id, event_id) = (String::new(), String::new());
            let (ttl, expires, queue) = (None, None, Vec::new());
            Box::new(Lock { id, key: key.clone(), who, event_id, created: since, ttl, expires, token: 0, queue })
        }))
    }
}
