//! A granted lock on its way to the caller. If the caller goes away before it receives the lock, the store takes it
//! back.

use crate::error::CallError;
use crate::model::Lock;
use std::fmt;
use tokio::sync::oneshot;

/// Receives the result of a request for a lock.
pub(super) type GrantSender = oneshot::Sender<Result<PendingGrant, CallError>>;

/// Takes back a lock that no caller received.
pub(super) type TakeBack = Box<dyn FnOnce(Lock) + Send>;

/// A granted lock that the caller has not received yet. Dropping it before [`PendingGrant::accept`] takes the lock
/// back.
#[must_use = "dropping it takes the lock back"]
pub(super) struct PendingGrant {
    lock: Option<Lock>,
    take_back: Option<TakeBack>,
}

impl PendingGrant {
    pub(super) fn new(lock: Lock, take_back: Option<TakeBack>) -> Self {
        Self { lock: Some(lock), take_back }
    }

    /// Returns the lock, which now belongs to the caller.
    pub(super) fn accept(mut self) -> Lock {
        self.take_back = None;
        self.lock.take().expect("accept consumes the grant")
    }
}

impl Drop for PendingGrant {
    fn drop(&mut self) {
        if let (Some(lock), Some(take_back)) = (self.lock.take(), self.take_back.take()) {
            take_back(lock);
        }
    }
}

impl fmt::Debug for PendingGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingGrant").field(&self.lock).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LockKey, LockOrigin, LockRequest};
    use aba_lock_protocol::sharing::Sharing;
    use jiff::Timestamp;
    use std::sync::mpsc;

    /// Returns a grant of lock 7, and a channel that receives its id when it is taken back.
    fn new_grant() -> (PendingGrant, mpsc::Receiver<String>) {
        let (sender, revoked) = mpsc::channel();
        let key = LockKey { service: "web".to_owned(), environment: String::new(), resource: String::new() };
        let request = LockRequest {
            key,
            who: "ann".to_owned(),
            event_id: String::new(),
            ttl: None,
            wait: None,
            sharing: Sharing::Exclusive,
            origin: LockOrigin::default(),
        };
        let lock = request.to_lock("7".to_owned(), Timestamp::UNIX_EPOCH);
        let take_back = move |lock: Lock| sender.send(lock.id).expect("the test receives");
        (PendingGrant::new(lock, Some(Box::new(take_back))), revoked)
    }

    #[test]
    fn a_grant_that_is_dropped_is_taken_back() {
        let (grant, revoked) = new_grant();
        drop(grant);
        assert_eq!(revoked.try_recv().as_deref(), Ok("7"));
    }

    #[test]
    fn a_grant_is_taken_back_if_the_caller_goes_before_it_receives_it() {
        let (grant, revoked) = new_grant();
        let (sender, receiver) = oneshot::channel();
        assert!(sender.send(grant).is_ok());
        assert!(revoked.try_recv().is_err());
        drop(receiver);
        assert_eq!(revoked.try_recv().as_deref(), Ok("7"));
    }

    #[test]
    fn an_accepted_grant_is_not_taken_back() {
        let (grant, revoked) = new_grant();
        assert_eq!(grant.accept().id, "7");
        assert!(revoked.try_recv().is_err());
    }
}
