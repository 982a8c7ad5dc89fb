//! Who waits for which key, in this process.

use crate::model::{Key, Problem, Waiting, Wanted};
use crate::store::given::Given;
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
        let mut inner = self.inner();
        let line = inner.keys.get_mut(key)?;
        let before = line.len();
        let mut next = None;
        while let Some((waiter, _)) = line.pop_front() {
            if !waiter.reply.is_closed() {
                next = Some(waiter);
                break;
            }
        }
        let (gone, is_empty) = (before - line.len(), line.is_empty());
        if is_empty {
            inner.keys.remove(key);
        }
        inner.waiting -= gone;
        next
    }

    fn leave(&self, key: &Key, number: u64) {
        let mut inner = self.inner();
        let Some(line) = inner.keys.get_mut(key) else { return };
        let before = line.len();
        line.retain(|(waiter, _)| waiter.number != number);
        let (gone, is_empty) = (before - line.len(), line.is_empty());
        if is_empty {
            inner.keys.remove(key);
        }
        inner.waiting -= gone;
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
