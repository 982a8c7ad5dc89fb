//! Finds, changes, renews and deletes locks that are held.
//!
//! Each transaction compares the revision of the lock and changes it. If etcd executes it late or twice, it fails.
//!
//! A service revokes the lease that a lock no longer uses, and etcd then deletes all keys that are bound to it. A
//! transaction therefore binds a lock only to the lease that the lock had at the compared revision, or to a lease that
//! was granted for this transaction. For example, two callers renew a lock at the same time:
//!
//! 1. Renewal A reads the lock, which has lease 1, and keeps lease 1 alive.
//! 2. Renewal B, with another time to live, gets lease 2 and binds the lock to it. It will revoke lease 1.
//! 3. The transaction of A fails, because the lock has a new revision.
//! 4. A reads the lock again, keeps lease 2 alive, and succeeds.
//! 5. B revokes lease 1, to which no key is bound any more.

use super::client::EtcdClient;
use super::cluster::{CONTENTION_PAUSE, CONTENTION_TIMEOUT, Cluster};
use super::history::{end_now, put_past_lock};
use super::keys;
use super::record::{StoredLock, format_lock, parse_holders, parse_lock, unreadable_key};
use super::request::{
    delete, is_modified_at, is_prefix_empty, is_range_empty, put, range_of_key, read, read_range, read_results,
};
use super::rpc::TxnRequest;
use crate::error::CallError;
use crate::model::{Lock, LockFields, current_time};
use crate::past_lock::{EndCause, EndKind, PastLock};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time;

fn contended() -> CallError {
    CallError::Fault("etcd: other services change the lock at the same time".to_owned())
}

impl Cluster {
    /// Returns the holders of a name, the oldest one first, and the revision of etcd at which they were read.
    pub(super) async fn find_holders(&self, name: &str) -> Result<(Vec<Lock>, i64), CallError> {
        let answer = self.etcd.read_range(keys::holders_range(name)).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok((parse_holders(&answer.kvs)?, revision))
    }

    /// Returns the lock with this id, and its name in the keys of etcd.
    pub(super) async fn find_by_id(&self, id: &str) -> Result<(StoredLock, String), CallError> {
        let unknown = || CallError::Unknown(id.to_owned());
        let answer = self.etcd.read_range(range_of_key(&keys::id_key(id))).await?;
        let place = answer.kvs.first().and_then(|found| keys::parse_place(&found.value, id));
        let (name, key) = place.ok_or_else(unknown)?;
        let answer = self.etcd.read_range(range_of_key(&key)).await?;
        match answer.kvs.first().map(parse_lock).transpose()? {
            Some(stored) if stored.lock.id == id => Ok((stored, name)),
            _ => Err(unknown()),
        }
    }

    /// Changes a lock for the caller with this name.
    pub(super) async fn change_lock(
        self: &Arc<Self>,
        id: &str,
        changes: &LockFields,
        by: &str,
    ) -> Result<Lock, CallError> {
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION_TIMEOUT {
            let (stored, name) = self.find_by_id(id).await?;
            let new = changes.apply_to(&stored.lock);
            if let Some(changed) = self.replace_lock(&stored, &name, &new, stored.lease, by).await? {
                if changed.key != stored.lock.key {
                    self.count_history_entry();
                }
                return Ok(changed);
            }
        }
        Err(contended())
    }

    pub(super) async fn renew_lock(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError> {
        let begun = Instant::now();
        // The lease that the previous attempt granted.
        let mut granted = None;
        while begun.elapsed() < CONTENTION_TIMEOUT {
            let found = self.find_by_id(id).await;
            if let Some(lease) = granted.take() {
                match &found {
                    // The previous attempt succeeded, and its answer was lost.
                    Ok((stored, _)) if stored.lease == lease => return found.map(|(stored, _)| stored.lock),
                    // It failed, and it cannot be executed late: the revision that it compares has passed.
                    Ok(_) | Err(CallError::Unknown(_)) => self.drop_lease(lease),
                    Err(_) => (),
                }
            }
            let (stored, name) = found?;
            let (lease, ttl) = match ttl {
                Some(ttl) if Some(ttl) != stored.lock.ttl => {
                    let (lease, ttl) = self.etcd.grant_lease(ttl).await?;
                    granted = Some(lease);
                    (lease, Some(ttl))
                }
                _ if stored.lease == 0 => return Ok(stored.lock),
                _ if self.etcd.keep_lease_alive(stored.lease).await? => (stored.lease, stored.lock.ttl),
                // The lease has ended, and the lock with it, unless it has another lease by now.
                _ => {
                    time::sleep(CONTENTION_PAUSE).await;
                    continue;
                }
            };
            let mut lock = Lock { ttl, ..stored.lock.clone() };
            lock.restart_ttl(current_time());
            if let Some(renewed) = self.replace_lock(&stored, &name, &lock, lease, "").await? {
                if lease != stored.lease {
                    self.drop_lease(stored.lease);
                }
                return Ok(renewed);
            }
        }
        Err(contended())
    }

    /// Replaces the lock `stored` at `name` by `new`, bound to this lease, for the caller `by`. `None`: the lock has changed, so
    /// try again.
    async fn replace_lock(
        &self,
        stored: &StoredLock,
        name: &str,
        new: &Lock,
        lease: i64,
        by: &str,
    ) -> Result<Option<Lock>, CallError> {
        let new_name = keys::encode_name(&new.key);
        let [old_key, new_key] = [name, &new_name].map(|name| keys::holder_key(name, &new.id, new.sharing));
        let new_holders = keys::holders_range(&new_name);
        let moves = new_name != name;
        let (epoch, base) = (self.epochs.current(), self.token_base.current());
        let mut compare = vec![is_modified_at(&old_key, stored.revision)];
        let mut success = Vec::new();
        if moves {
            let queue = is_prefix_empty(&keys::queue_prefix(&new_name));
            compare.extend([is_range_empty(&new_holders), queue, base.compare()]);
            // If the caller gets an error because the new key is held, a late execution must not move the lock.
            compare.push(self.epochs.compare(epoch));
            success.push(delete(&old_key));
            let cause = EndCause { kind: EndKind::Moved, by: by.to_owned() };
            success.push(put_past_lock(&end_now(&stored.lock, cause)));
        }
        if moves || lease != stored.lease {
            success.push(put(&keys::id_key(&new.id), keys::format_place(&new_name, new.sharing), lease));
        }
        let token_base = if moves { base.value } else { stored.token_base };
        success.extend([put(&new_key, format_lock(new, token_base), lease), read(&new_key)]);
        let failure = vec![read_range(new_holders), read(self.epochs.key())];
        let (answer, is_in_doubt) = self.etcd.run_with_doubt(TxnRequest { compare, success, failure }).await?;
        let succeeded = answer.succeeded;
        let mut results = read_results(answer).into_iter();
        let found = results.next().flatten().as_ref().map(parse_lock).transpose()?;
        match found {
            Some(found) if succeeded => return Ok(Some(found.lock)),
            _ if !moves => (),
            _ if is_in_doubt || !epoch.is_current_in(results.next().flatten().as_ref()) => {
                self.epochs.try_end(epoch).await?;
            }
            Some(found) if found.lock.id != new.id => return Err(CallError::Held(Box::new(found.lock))),
            _ => {
                self.token_base.refresh().await?;
                time::sleep(CONTENTION_PAUSE).await;
            }
        }
        Ok(None)
    }
}

/// Deletes the lock with this id and its id key, and adds it to the history, in one transaction. `None`: there is no such lock.
///
/// If the endpoint n1 does not answer, the endpoint n2 shows what has happened:
///
/// | n1 | n2 | result |
/// |---|---|---|
/// | has deleted revision 7 of the lock | finds another revision, then no id key | this call has deleted the lock |
/// | will try to delete revision 7 | finds revision 8, and deletes it | this call has deleted the lock; n1 will fail |
/// | will try to delete revision 7 | finds revision 8, then no id key | another call has deleted the lock; n1 will fail |
pub(super) async fn delete_lock(etcd: &EtcdClient, id: &str, cause: EndCause) -> Result<Option<StoredLock>, CallError> {
    let id_key = keys::id_key(id);
    // Each attempt writes the same entry.
    let end = cause.at(current_time());
    let begun = Instant::now();
    // The lock that an unanswered transaction has deleted, or may still delete.
    let mut in_doubt: Option<StoredLock> = None;
    while begun.elapsed() < CONTENTION_TIMEOUT {
        let Some(name) = etcd.read_range(range_of_key(&id_key)).await?.kvs.into_iter().next() else {
            return Ok(in_doubt);
        };
        let Some((_, key)) = keys::parse_place(&name.value, id) else { return Err(unreadable_key(&name)) };
        let Some(found) = etcd.read_range(range_of_key(&key)).await?.kvs.into_iter().next() else { continue };
        let stored = parse_lock(&found)?;
        if stored.lock.id != id {
            continue;
        }
        in_doubt = in_doubt.filter(|before| before.revision == stored.revision);
        let compare = vec![is_modified_at(&key, stored.revision)];
        let past = put_past_lock(&PastLock::new(&stored.lock, end.clone()));
        let success = vec![delete(&key), delete(&id_key), past];
        let (answer, is_in_doubt) = etcd.run_with_doubt(TxnRequest { compare, success, failure: vec![] }).await?;
        if answer.succeeded {
            return Ok(Some(stored));
        }
        if is_in_doubt {
            in_doubt = Some(stored);
        }
    }
    Err(contended())
}
