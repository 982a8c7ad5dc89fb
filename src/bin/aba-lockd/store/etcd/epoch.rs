//! Epochs: they prevent etcd from executing a transaction after the service has stopped waiting for it.
//!
//! An endpoint that does not answer may still execute a transaction at any later time: after another endpoint has
//! executed it, after the lock was released, or after the caller has gone. Each service therefore has an epoch key. A
//! transaction that must not be executed late compares the revision of that key with the epoch in which it was sent. If
//! such a transaction is in doubt, the service starts a new epoch by writing the key, and waits until etcd has
//! confirmed that before it answers. From then on, the transaction either has been executed, so that its effect can be
//! read, or it will fail. One new epoch settles all transactions that are in doubt at that time. While no transaction
//! is in doubt, no epoch is started.
//!
//! 1. The service sends a transaction that grants a lock to the endpoint n1, in epoch 7. n1 hangs.
//! 2. The service sends the same transaction to n2, which executes it.
//! 3. The service writes its epoch key through n2, which starts epoch 8, and answers the caller.
//! 4. The caller releases the lock.
//! 5. n1 continues and executes the transaction. The lock is free, but the epoch is 8, so the transaction fails.
//!
//! The write of the epoch key may be executed late as well, and more than once. Then the transactions of the current
//! epoch fail, and are sent again. The key is bound to the lease of the service, so the transactions of a service that
//! has gone fail, too.
//!
//! A transaction that changes or deletes a lock needs no epoch: it compares the revision of the lock, and changes it.

use super::client::{EtcdClient, EtcdError};
use super::keys;
use super::request::{is_modified_at, put, range_of_prefix, read, read_results};
use super::rpc::{Compare, KeyValue, TxnRequest};
use crate::error::CallError;
use crate::model::current_time;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time;

/// Time to live of the lease of a service after its last renewal.
const SERVICE_TTL: Duration = Duration::from_secs(10);

/// Maximum time that a caller waits for a new epoch.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between two attempts to write the epoch key.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The end of the value of the epoch key, by which other services see that this one knows shared locks and slots.
const KNOWS_SHARING: &str = "shared";

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epoch {
    /// The lease of the service.
    pub(super) lease: i64,
    /// The revision of the epoch key.
    revision: i64,
    /// Counts the epochs. Revisions may repeat if etcd is restored from a copy.
    number: u64,
}

impl Epoch {
    /// Returns true if a transaction that read the epoch key was executed in this epoch.
    pub(super) fn is_current_in(self, read: Option<&KeyValue>) -> bool {
        read.is_some_and(|read| read.mod_revision == self.revision)
    }
}

/// The epochs of this service, and its lease.
pub(super) struct EpochKeeper {
    etcd: EtcdClient,
    key: Vec<u8>,
    /// The current epoch, and true if a new one was requested.
    state: watch::Sender<(Epoch, bool)>,
}

impl EpochKeeper {
    pub(super) fn new(etcd: EtcdClient) -> Self {
        let key = keys::epoch_key(&uuid::Uuid::new_v4().to_string());
        Self { etcd, key, state: watch::Sender::default() }
    }

    pub(super) fn current(&self) -> Epoch {
        self.state.borrow().0
    }

    /// Returns the comparison that fails in every later epoch.
    pub(super) fn compare(&self, epoch: Epoch) -> Compare {
        is_modified_at(&self.key, epoch.revision)
    }

    /// Returns the key that a transaction reads for [`Epoch::is_current_in`].
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns an error if a running service does not know shared locks: it would grant a lock that is held shared.
    pub(super) async fn check_services(&self) -> Result<(), CallError> {
        let services = self.etcd.read_range(range_of_prefix(keys::EPOCHS)).await?.kvs;
        if services.iter().all(|service| service.value.ends_with(KNOWS_SHARING.as_bytes())) {
            return Ok(());
        }
        let why = "another aba-lockd that uses this etcd cluster is too old for mode and slots: update it, and stop the old one";
        Err(CallError::Invalid(why.to_owned()))
    }

    /// Requests a new epoch, unless `epoch` has ended already.
    fn request_new(&self, epoch: Epoch) {
        self.state.send_if_modified(|(current, is_requested)| {
            let is_new_request = current.number == epoch.number && !*is_requested;
            *is_requested |= is_new_request;
            is_new_request
        });
    }

    /// Starts a new epoch, and waits until `epoch` has ended.
    pub(super) async fn end(&self, epoch: Epoch) {
        self.request_new(epoch);
        let _ = self.state.subscribe().wait_for(|(current, _)| current.number != epoch.number).await;
    }

    /// Like [`Self::end`], for a caller that cannot wait indefinitely.
    pub(super) async fn try_end(&self, epoch: Epoch) -> Result<(), CallError> {
        let ended = time::timeout(SETTLE_TIMEOUT, self.end(epoch)).await;
        ended.map_err(|_| CallError::Fault("etcd did not answer, so the change may have taken effect".to_owned()))
    }

    /// Keeps the lease of the service alive, forever. If the lease is lost, so is the epoch key, and a new epoch
    /// starts.
    pub(super) async fn keep_lease_alive(self: Arc<Self>) {
        loop {
            let epoch = self.current();
            if matches!(self.etcd.keep_lease_alive(epoch.lease).await, Ok(false)) {
                self.end(epoch).await;
            }
            time::sleep(SERVICE_TTL / 4).await;
        }
    }

    /// Starts each epoch that is requested, forever.
    pub(super) async fn start_requested(self: Arc<Self>) {
        let mut requests = self.state.subscribe();
        loop {
            drop(requests.wait_for(|(_, is_requested)| *is_requested).await);
            if self.start_new().await.is_err() {
                time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// Starts an epoch by writing the epoch key, bound to the lease of the service, or to a new lease if that has
    /// ended.
    pub(super) async fn start_new(&self) -> Result<(), EtcdError> {
        let lease = self.current().lease;
        let is_alive = lease != 0 && self.etcd.keep_lease_alive(lease).await?;
        let lease = if is_alive { lease } else { self.etcd.grant_lease(SERVICE_TTL).await?.0 };
        let value = format!("{} {KNOWS_SHARING}", current_time()).into_bytes();
        let success = vec![put(&self.key, value, lease), read(&self.key)];
        let answer = self.etcd.run(TxnRequest { compare: vec![], success, failure: vec![] }).await?;
        if let Some(written) = read_results(answer).into_iter().next().flatten() {
            let number = self.current().number + 1;
            self.state.send_replace((Epoch { lease, revision: written.mod_revision, number }, false));
        }
        Ok(())
    }
}
