//! Removes what a request for a lock has left in etcd when its caller does not get the lock. `store` runs this as a
//! background task, which repeats until etcd answers.

use super::change::delete_lock;
use super::cluster::Cluster;
use super::epoch::Epoch;
use super::request::delete;
use super::rpc::TxnRequest;
use crate::past_lock::{EndCause, EndKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time;

/// The first and the longest interval between two attempts.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The keys and the lease that a request for a lock has, or may have, created in etcd.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// The id of the lock.
    pub(super) id: String,
    pub(super) queue_entry: Option<Vec<u8>>,
    /// The epoch of a transaction that may still be executed.
    pub(super) in_doubt: Option<Epoch>,
    /// True if the lock may have been granted.
    pub(super) may_be_granted: bool,
    /// The lease for the lock, or 0.
    pub(super) lease: i64,
}

impl Cluster {
    /// Removes all leftovers. Repeats until etcd answers, which may take long.
    pub(super) async fn clean_up(self: &Arc<Self>, leftovers: Leftovers) {
        let cause = EndCause::without_caller(EndKind::TakenBack);
        let Leftovers { id, queue_entry, in_doubt, may_be_granted, lease } = leftovers;
        if let Some(epoch) = in_doubt {
            self.epochs.end(epoch).await;
        }
        // The queue entry must be deleted first, because the lock may be granted to it.
        if let Some(key) = queue_entry {
            let request = TxnRequest { compare: vec![], success: vec![delete(&key)], failure: vec![] };
            repeat_until_ok(|| self.etcd.run(request.clone())).await;
        }
        if (may_be_granted || in_doubt.is_some())
            && let Some(deleted) = repeat_until_ok(|| delete_lock(&self.etcd, &id, cause.clone())).await
        {
            self.count_history_entry();
            self.drop_lease(deleted.lease);
        }
        self.drop_lease(lease);
    }
}

async fn repeat_until_ok<T, E, F: Future<Output = Result<T, E>>>(attempt: impl Fn() -> F) -> T {
    let mut pause = MIN_PAUSE;
    loop {
        if let Ok(answer) = attempt().await {
            return answer;
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
