//! The interface of a store. Every store guarantees:
//!
//! - A lock is granted only if no other lock of its key is held, and that is durable (or agreed upon) before the caller
//!   gets the answer.
//! - Tokens only grow: with each lock, over restarts, and from one store to the next. A token is never smaller than the
//!   clock at the time of the grant (SQLite) or at the start of the service (etcd).
//! - Waiters are served in the order of their requests, before any later request. If the future of
//!   [`LockStore::create`] is dropped, the request leaves the queue, and a lock that was granted to it is taken back.
//! - The end of a lock and its entry in the history are one change. The history has at most the last
//!   [`MAX_HISTORY`](crate::past_lock::MAX_HISTORY) locks.
//! - Each change is published in the [`EventFeed`](crate::event_feed::EventFeed), after it is durable.
//! - A store that cannot answer returns [`CallError::Fault`], and never reports a lock as free.

use crate::error::CallError;
use crate::model::{Lock, LockFields, LockKey, LockPage, LockQuery, LockRequest, Waiter};
use crate::past_lock::{EndCause, HistoryPage, HistoryQuery};
use std::time::Duration;

/// A store. The futures of its methods may be dropped at any time.
#[tonic::async_trait]
pub(crate) trait LockStore: Send + Sync {
    /// Acquires the lock, and waits for it if the request says so. Does not wait for a lock that an earlier request of
    /// the same caller holds ([`LockRequest::is_repeat_of`]).
    async fn create(&self, request: LockRequest) -> Result<Lock, CallError>;
    /// Returns the lock with its queue.
    async fn get(&self, id: &str) -> Result<Lock, CallError>;
    /// Changes the lock for the caller with this name, but never to a key that is held. A lock with a new key gets a new token.
    async fn update(&self, id: &str, changes: LockFields, by: &str) -> Result<Lock, CallError>;
    /// Releases the lock, and returns it.
    async fn remove(&self, id: &str, cause: EndCause) -> Result<Lock, CallError>;
    /// Restarts the time to live of the lock, or gives it another one.
    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError>;
    /// Returns the selected locks with their queues, the oldest lock first.
    async fn list(&self, query: LockQuery) -> Result<LockPage, CallError>;
    /// Returns the selected locks that have ended, the newest end first.
    async fn list_history(&self, query: HistoryQuery) -> Result<HistoryPage, CallError>;
    /// Returns the present waiters for a key, in their order.
    fn list_waiters(&self, key: &LockKey) -> Vec<Waiter>;
    /// Returns an error if no lock could be granted now.
    async fn check(&self) -> Result<(), CallError>;
    fn count_waiters(&self) -> usize;
    /// Refuses all waiters, now and later.
    fn stop(&self);
    /// Waits some seconds for background tasks. No new call is made after this, but calls that were not answered in
    /// time may still run.
    async fn close(&self) {}
}
