//! The queues of callers that wait for a lock of this service. The writer thread adds and serves them; a request whose
//! caller has gone removes itself. After that, the writer thread decides on the rest of the queue again: the request that
//! was removed may have been the only one that had to wait.

use super::command::WriterCommand;
use crate::error::CallError;
use crate::event_feed::{EventFeed, LockEvent};
use crate::model::{Lock, LockKey, LockRequest, Waiter};
use crate::store::grant::GrantSender;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of waiters over all keys, because each uses a connection.
const MAX_WAITERS: usize = 10_000;

/// A request that waits for a lock.
#[derive(Debug)]
pub(super) struct QueueEntry {
    pub(super) number: u64,
    pub(super) request: LockRequest,
    pub(super) reply: GrantSender,
}

type Queue = VecDeque<(QueueEntry, Timestamp)>;

#[derive(Debug, Default)]
struct QueueState {
    by_key: HashMap<LockKey, Queue>,
    count: usize,
    is_closed: bool,
}

/// The queues of all keys. Each change of a queue is an event.
pub(super) struct WaitQueues {
    state: Mutex<QueueState>,
    feed: Arc<EventFeed>,
}

/// Removes a request from its queue when it is dropped.
///
/// Drop it after the receiver of the reply. Then the writer thread, which may add the request at that moment, either
/// sees that the caller has gone, or has added the request before this removes it.
pub(super) struct QueueGuard {
    pub(super) queues: Arc<WaitQueues>,
    pub(super) key: LockKey,
    pub(super) number: u64,
    /// The commands of the writer thread.
    pub(super) commands: Sender<WriterCommand>,
}

impl Drop for QueueGuard {
    fn drop(&mut self) {
        let mut others_wait = false;
        self.queues.edit(&self.key, |queue| {
            let before = queue.len();
            queue.retain(|(entry, _)| entry.number != self.number);
            others_wait = !queue.is_empty() && queue.len() < before;
        });
        if others_wait {
            let _ = self.commands.send(WriterCommand::Serve { key: self.key.clone() });
        }
    }
}

impl WaitQueues {
    pub(super) fn new(feed: Arc<EventFeed>) -> Self {
        Self { state: Mutex::default(), feed }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Every change is complete when the mutex is released, so a panic elsewhere leaves a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a request to the queue of its key, unless its caller has gone. If that is not possible, the caller gets
    /// an error.
    pub(super) fn join(&self, entry: QueueEntry) {
        let mut state = self.state();
        if entry.reply.is_closed() {
            return;
        }
        let refusal = match () {
            () if state.is_closed => CallError::Stopping,
            () if state.count >= MAX_WAITERS => CallError::TooMany,
            () => {
                state.count += 1;
                let key = entry.request.key.clone();
                state.by_key.entry(key.clone()).or_default().push_back((entry, Timestamp::now()));
                self.feed.publish(LockEvent::Queue(key));
                return;
            }
        };
        drop(state);
        let _ = entry.reply.send(Err(refusal));
    }

    /// Removes the first request whose caller has not gone, if `is_decided` returns true for it.
    pub(super) fn pop_if(&self, key: &LockKey, is_decided: impl FnOnce(&LockRequest) -> bool) -> Option<QueueEntry> {
        self.edit(key, |queue| {
            while queue.front().is_some_and(|(entry, _)| entry.reply.is_closed()) {
                queue.pop_front();
            }
            let is_decided = queue.front().is_some_and(|(first, _)| is_decided(&first.request));
            is_decided.then(|| queue.pop_front()).flatten().map(|(entry, _)| entry)
        })
        .flatten()
    }

    /// Returns true if a caller that has not gone waits for a key.
    pub(super) fn has_waiter(&self, key: &LockKey) -> bool {
        let state = self.state();
        state.by_key.get(key).is_some_and(|queue| queue.iter().any(|(entry, _)| !entry.reply.is_closed()))
    }

    /// Removes the requests that `lock` was already granted to ([`LockRequest::is_repeat_of`]).
    pub(super) fn remove_repeats_of(&self, lock: &Lock) -> Vec<QueueEntry> {
        let remove = |queue: &mut Queue| {
            let (repeats, others) =
                queue.drain(..).partition::<VecDeque<_>, _>(|(entry, _)| entry.request.is_repeat_of(lock));
            *queue = others;
            repeats.into_iter().map(|(entry, _)| entry).collect()
        };
        self.edit(&lock.key, remove).unwrap_or_default()
    }

    /// Lets `remove` take requests out of the queue of a key, if there is one.
    fn edit<T>(&self, key: &LockKey, remove: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let mut state = self.state();
        let queue = state.by_key.get_mut(key)?;
        let before = queue.len();
        let result = remove(queue);
        let (removed, is_empty) = (before - queue.len(), queue.is_empty());
        if is_empty {
            state.by_key.remove(key);
        }
        state.count -= removed;
        if removed > 0 {
            self.feed.publish(LockEvent::Queue(key.clone()));
        }
        Some(result)
    }

    /// Returns the waiters for a key in the order in which they will be served.
    pub(super) fn list(&self, key: &LockKey) -> Vec<Waiter> {
        let state = self.state();
        let queue = state.by_key.get(key).into_iter().flatten();
        queue
            .map(|(entry, since)| Waiter {
                who: entry.request.who.clone(),
                sharing: entry.request.sharing,
                since: *since,
            })
            .collect()
    }

    pub(super) fn count(&self) -> usize {
        self.state().count
    }

    /// Refuses all waiters, now and later.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.count = 0;
        let queues = std::mem::take(&mut state.by_key);
        drop(state);
        for (entry, _) in queues.into_values().flatten() {
            let _ = entry.reply.send(Err(CallError::Stopping));
        }
    }
}
