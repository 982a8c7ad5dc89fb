//! Who waits for which key, in this process.

use crate::model::{Key, Lock, Problem, Waiting, Wanted};
use crate::store::grant::Given;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// At most so many wait, over all keys: each costs a connection.
const MOST: usize = 10_000;

/// Where the answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Given, Problem>>;

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Its place gives it this.
    pub(crate) number: u64,
    pub(crate) wanted: Wanted,
    pub(crate) reply: Reply,
}

#[derive(Debug, Default)]
struct Inner {
    keys: HashMap<Key, VecDeque<(Waiter, Timestamp)>>,
    waiting: usize,
    stopped: bool,
}

/// The queues of all keys.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

/// A place in a queue, taken or to be taken. Who drops it leaves. It is to be dropped after the receiver of the reply:
/// then whoever is to be queued is either seen to be gone, or is taken out again.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) queue: Arc<Queue>,
    pub(crate) key: Key,
    pub(crate) number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.leave(&self.key, self.number);
    }
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is done in one step: a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At the end. Who has gone away already is not taken in, and who cannot be is told so.
    pub(crate) fn join(&self, waiter: Waiter) {
        let mut inner = self.inner();
        if waiter.reply.is_closed() {
            return;
        }
        let refusal = match () {
            () if inner.stopped => Problem::Stopping,
            () if inner.waiting >= MOST => Problem::TooMany,
            () => {
                inner.waiting += 1;
                inner.keys.entry(waiter.wanted.key.clone()).or_default().push_back((waiter, Timestamp::now()));
                return;
            }
        };
        drop(inner);
        let _ = waiter.reply.send(Err(refusal));
    }

    /// Whoever is next, and still there.
    pub(crate) fn next(&self, key: &Key) -> Option<Waiter> {
        self.change(key, |line| {
            while let Some((waiter, _)) = line.pop_front() {
                if !waiter.reply.is_closed() {
                    return Some(waiter);
                }
            }
            None
        })
        .flatten()
    }

    /// Takes out those who have that lock already.
    pub(crate) fn of_the_same(&self, lock: &Lock) -> Vec<Waiter> {
        let same = |line: &mut VecDeque<(Waiter, Timestamp)>| {
            let (same, others) = line.drain(..).partition::<VecDeque<_>, _>(|(waiter, _)| waiter.wanted.is(lock));
            *line = others;
            same.into_iter().map(|(waiter, _)| waiter).collect()
        };
        self.change(&lock.key, same).unwrap_or_default()
    }

    fn leave(&self, key: &Key, number: u64) {
        self.change(key, |line| line.retain(|(waiter, _)| waiter.number != number));
    }

    /// Takes some out of the line of that key, if there is one.
    fn change<T>(&self, key: &Key, take: impl FnOnce(&mut VecDeque<(Waiter, Timestamp)>) -> T) -> Option<T> {
        let mut inner = self.inner();
        let line = inner.keys.get_mut(key)?;
        let before = line.len();
        let taken = take(line);
        let (gone, is_empty) = (before - line.len(), line.is_empty());
        if is_empty {
            inner.keys.remove(key);
        }
        inner.waiting -= gone;
        Some(taken)
    }

    /// Who waits for that key, in order.
    pub(crate) fn of(&self, key: &Key) -> Vec<Waiting> {
        let inner = self.inner();
        let line = inner.keys.get(key).into_iter().flatten();
        line.map(|(waiter, since)| Waiting { who: waiter.wanted.who.clone(), since: *since }).collect()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.inner().waiting
    }

    /// Sends all away, and takes nobody in any more.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner();
        inner.stopped = true;
        inner.waiting = 0;
        let all = std::mem::take(&mut inner.keys);
        drop(inner);
        for (waiter, _) in all.into_values().flatten() {
            let _ = waiter.reply.send(Err(Problem::Stopping));
        }
    }
}
