//! The commands that the store sends to its writer thread, each with a channel for the answer.

use crate::error::CallError;
use crate::model::{LockFields, LockKey, LockRequest};
use crate::past_lock::EndCause;
use crate::store::grant::GrantSender;
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) enum WriterCommand {
    Create {
        request: LockRequest,
        /// Identifies the request in the queue.
        number: u64,
        reply: GrantSender,
    },
    Update {
        id: String,
        changes: LockFields,
        /// The name of the caller.
        by: String,
        reply: GrantSender,
    },
    Remove {
        id: String,
        cause: EndCause,
        /// `None`: the lock is taken back, because its caller has gone.
        reply: Option<GrantSender>,
    },
    Renew {
        id: String,
        ttl: Option<Duration>,
        reply: GrantSender,
    },
    /// Decides on the first waiters of a key again, because a waiter before them has left the queue.
    Serve {
        key: LockKey,
    },
    Check {
        reply: oneshot::Sender<Result<(), CallError>>,
    },
}
