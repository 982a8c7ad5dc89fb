//! Nothing happens late. An endpoint that was asked and did not answer may do it at any time: when somebody else has
//! answered in its place, when the lock was released meanwhile, when nobody wants it any more.
//!
//! Each service has a key of its own, its seal, and each transaction that could be done late compares the seal's revision.
//! Where one is in doubt the seal is written anew, and nobody is told anything before etcd has answered that: from then on
//! what was asked under the old one has been done, and is found, or comes to nothing. That is once for all that were in doubt
//! at a time, and free where nothing is.
//!
//! | step | late at n1 | seal | what n1's transaction finds |
//! |---|---|---|---|
//! | create, asked of n1, which hangs | create at 7 | 7 | |
//! | the same, asked of n2: granted | create at 7 | 7 | the lock is held |
//! | seal written, by n2; 200 to who asked | create at 7 | 8 | another seal |
//! | release, n1 goes on | | 8 | another seal: nothing, though the lock is free |
//!
//! What writes the seal may itself be done late, and more than once: then those who compare it begin anew. The seal is bound
//! to the lease of the service, and ends with it: what a service that is gone was asking comes to nothing, too.
//!
//! What changes or deletes a lock needs no seal: it compares the lock's revision, and changes it.

use super::wire::rpc::{Compare, TxnRequest};
use super::wire::{Failed, deleting, found, getting, putting, unchanged};
use super::{Cluster, SERVICE_TTL, delete};
use crate::error::CallError;
use crate::model::current_time;
use std::sync::Arc;
use std::time::Duration;
use tokio::time;

/// So long somebody may wait for what is in doubt, before they are told that it is.
const SETTLING: Duration = Duration::from_secs(5);

/// Between two tries to write the seal.
const PAUSE: Duration = Duration::from_millis(500);

/// The most between two tries to undo something.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The seal at a time, and the lease of the service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seal {
    pub(super) lease: i64,
    revision: i64,
    /// How often it was written: where etcd was set back to a copy, a revision may come again.
    turn: u64,
}

/// What somebody who does not get a lock may have left in etcd.
#[derive(Debug, Default)]
pub(super) struct Traces {
    pub(super) id: String,
    /// The place in the queue.
    pub(super) place: Option<Vec<u8>>,
    /// Under this seal something was asked that may be done still.
    pub(super) doubt: Option<Seal>,
    /// The lock may be granted, and is not wanted any more.
    pub(super) granted: bool,
    /// The lease for the lock, if it was to have one.
    pub(super) lease: i64,
}

impl Cluster {
    pub(super) fn seal(&self) -> Seal {
        self.seal.borrow().0
    }

    /// For a transaction that is to come to nothing from when that seal is settled.
    pub(super) fn under(&self, seal: Seal) -> Compare {
        unchanged(&self.seal_key, seal.revision)
    }

    /// Whether a transaction that read the seal's key found it like that.
    pub(super) fn is_under(seal: Seal, read: Option<&super::KeyValue>) -> bool {
        read.is_some_and(|read| read.mod_revision == seal.revision)
    }

    /// The seal is to be written anew, if nobody has done that.
    fn break_seal(&self, seal: Seal) {
        self.seal.send_if_modified(|(now, broken)| {
            let breaks = now.turn == seal.turn && !*broken;
            *broken |= breaks;
            breaks
        });
    }

    /// When this returns there is another seal.
    async fn settle(&self, seal: Seal) {
        self.break_seal(seal);
        let _ = self.seal.subscribe().wait_for(|(now, _)| now.turn != seal.turn).await;
    }

    /// The same for who can not wait for ever.
    pub(super) async fn settle_soon(&self, seal: Seal) -> Result<(), CallError> {
        let settled = time::timeout(SETTLING, self.settle(seal)).await;
        settled.map_err(|_| CallError::Fault("etcd: it did not answer, and may have done it".to_owned()))
    }

    /// Keeps the lease of this service. If it was lost, so is the seal.
    pub(super) async fn stay(self: Arc<Self>) {
        loop {
            let seal = self.seal();
            if matches!(self.etcd.keep_alive(seal.lease).await, Ok(false)) {
                self.settle(seal).await;
            }
            time::sleep(SERVICE_TTL / 4).await;
        }
    }

    /// Writes the seal whenever that is wanted. Nobody else does.
    pub(super) async fn keep_sealed(self: Arc<Self>) {
        let mut seals = self.seal.subscribe();
        loop {
            drop(seals.wait_for(|(_, broken)| *broken).await);
            if self.write_seal(self.seal().lease).await.is_err() {
                time::sleep(PAUSE).await;
            }
        }
    }

    /// Under that lease, if it is there still.
    pub(super) async fn write_seal(&self, lease: i64) -> Result<(), Failed> {
        let lives = lease != 0 && self.etcd.keep_alive(lease).await?;
        let lease = if lives { lease } else { self.etcd.grant(SERVICE_TTL).await?.0 };
        let put = putting(&self.seal_key, current_time().to_string().into_bytes(), lease);
        let success = vec![put, getting(&self.seal_key)];
        let answer = self.etcd.txn(TxnRequest { compare: vec![], success, failure: vec![] }).await?;
        if let Some(written) = found(answer).into_iter().next().flatten() {
            let turn = self.seal().turn + 1;
            self.seal.send_replace((Seal { lease, revision: written.mod_revision, turn }, false));
        }
        Ok(())
    }

    /// Until etcd has answered that nothing is left: it may not answer for long.
    pub(super) async fn erase(&self, traces: Traces) {
        let Traces { id, place, doubt, granted, lease } = traces;
        if let Some(seal) = doubt {
            self.settle(seal).await;
        }
        // First the place: who is in it may be given the lock.
        if let Some(place) = place {
            let delete =
                || self.etcd.txn(TxnRequest { compare: vec![], success: vec![deleting(&place)], failure: vec![] });
            answered(delete).await;
        }
        if (granted || doubt.is_some())
            && let Some(kept) = answered(|| delete(&self.etcd, &id)).await
        {
            self.drop_lease(kept.lease);
        }
        self.drop_lease(lease);
    }
}

async fn answered<T, E, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> T {
    let mut pause = PAUSE;
    loop {
        if let Ok(answer) = ask().await {
            return answer;
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
