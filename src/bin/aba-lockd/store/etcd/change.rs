//! What is done to locks that are held. Each transaction compares the revision of the lock, and changes it: done late, or
//! again, it comes to nothing.
//!
//! A lease that a lock was taken away from is revoked, and with it all that it is bound to. So a lock is bound to the lease
//! that it has at the revision compared, or to one that was made for this very transaction, and never to another:
//!
//! | plain renewal | renewal with another time | lock bound to |
//! |---|---|---|
//! | finds lease 0, keeps it alive | | 0 |
//! | | makes 2, binds it, is to revoke 0 | 2 |
//! | cannot write: another revision | | 2 |
//! | begins anew: finds 2, keeps it alive | revokes 0 | 2 |

use super::keys::Kept;
use super::wire::rpc::TxnRequest;
use super::wire::{Etcd, absent, deleting, empty, found, get, getting, putting, unchanged};
use super::{CONTENTION, Cluster, keys, unreadable};
use crate::error::CallError;
use crate::model::{Lock, LockFields, current_time};
use std::time::{Duration, Instant};
use tokio::time;

fn contended() -> CallError {
    CallError::Fault("etcd: others change it at the same time".to_owned())
}

impl Cluster {
    pub(super) async fn at(&self, key: &str) -> Result<Option<Kept>, CallError> {
        let answer = self.etcd.range(get(&keys::lock(key))).await?;
        answer.kvs.first().map(|kept| keys::read(kept).ok_or_else(|| unreadable(kept))).transpose()
    }

    /// The lock of that id, and KEY of where it is.
    pub(super) async fn by_id(&self, id: &str) -> Result<(Kept, String), CallError> {
        let unknown = || CallError::Unknown(id.to_owned());
        let answer = self.etcd.range(get(&keys::id(id))).await?;
        let key =
            answer.kvs.into_iter().next().and_then(|kept| String::from_utf8(kept.value).ok()).ok_or_else(unknown)?;
        match self.at(&key).await? {
            Some(kept) if kept.lock.id == id => Ok((kept, key)),
            _ => Err(unknown()),
        }
    }

    pub(super) async fn change_lock(&self, id: &str, change: &LockFields) -> Result<Lock, CallError> {
        let begun = Instant::now();
        while begun.elapsed() < CONTENTION {
            let (kept, key) = self.by_id(id).await?;
            if let Some(changed) = self.exchange(&kept, &key, &change.apply_to(&kept.lock), kept.lease).await? {
                return Ok(changed);
            }
        }
        Err(contended())
    }

    pub(super) async fn renew_lock(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError> {
        let begun = Instant::now();
        // The lease that was made for the turn before.
        let mut made = None;
        while begun.elapsed() < CONTENTION {
            let there = self.by_id(id).await;
            if let Some(lease) = made.take() {
                match &there {
                    // It was done, and the answer was lost.
                    Ok((kept, _)) if kept.lease == lease => return there.map(|(kept, _)| kept.lock),
                    // It was not, and never will be: what it compared is not so any more.
                    Ok(_) | Err(CallError::Unknown(_)) => self.drop_lease(lease),
                    Err(_) => (),
                }
            }
            let (kept, key) = there?;
            let (lease, ttl) = match ttl {
                Some(ttl) if Some(ttl) != kept.lock.ttl => {
                    let (lease, ttl) = self.etcd.grant(ttl).await?;
                    made = Some(lease);
                    (lease, Some(ttl))
                }
                _ if kept.lease == 0 => return Ok(kept.lock),
                _ if self.etcd.keep_alive(kept.lease).await? => (kept.lease, kept.lock.ttl),
                // It has ended, and the lock with it; or the lock has another by now.
                _ => {
                    time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let mut lock = Lock { ttl, ..kept.lock.clone() };
            lock.restart_ttl(current_time());
            if let Some(renewed) = self.exchange(&kept, &key, &lock, lease).await? {
                if lease != kept.lease {
                    self.drop_lease(kept.lease);
                }
                return Ok(renewed);
            }
        }
        Err(contended())
    }

    /// Puts `new`, bound to that lease, in the place of the lock that was kept at `key`. Nothing if that has changed.
    async fn exchange(&self, kept: &Kept, key: &str, new: &Lock, lease: i64) -> Result<Option<Lock>, CallError> {
        let to = keys::of(&new.key);
        let (from_key, to_key) = (keys::lock(key), keys::lock(&to));
        let moves = to != key;
        let (base, base_revision) = if moves { self.base() } else { (kept.base, 0) };
        let seal = self.seal();
        let mut compare = vec![unchanged(&from_key, kept.revision)];
        let mut success = Vec::new();
        if moves {
            compare.extend([absent(&to_key), empty(&keys::queue(&to)), unchanged(keys::BASE, base_revision)]);
            // It may be refused because the other key is held, and that is not to be done when it is not.
            compare.push(self.under(seal));
            success.push(deleting(&from_key));
        }
        if moves || lease != kept.lease {
            success.push(putting(&keys::id(&new.id), to.clone().into_bytes(), lease));
        }
        success.extend([putting(&to_key, keys::write(new, base), lease), getting(&to_key)]);
        let failure = vec![getting(&to_key), getting(&self.seal_key)];
        let (answer, in_doubt) = self.etcd.txn_or_doubt(TxnRequest { compare, success, failure }).await?;
        let succeeded = answer.succeeded;
        let mut found = found(answer).into_iter();
        let there = found.next().flatten();
        let there = there.map(|there| keys::read(&there).ok_or_else(|| unreadable(&there))).transpose()?;
        match there {
            Some(there) if succeeded => return Ok(Some(there.lock)),
            _ if !moves => (),
            _ if in_doubt || !Self::is_under(seal, found.next().flatten().as_ref()) => self.settle_soon(seal).await?,
            Some(there) if there.lock.id != new.id => return Err(CallError::Held(Box::new(there.lock))),
            _ => {
                self.find_base(0).await?;
                time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(None)
    }
}

/// Deletes the lock of that id, if it is there. In one transaction with its id: nobody finds a half.
///
/// | n1, which answers no more | n2 | told |
/// |---|---|---|
/// | deletes it at 7 | finds another revision than 7; then no id | it was deleted: by us, at 7 |
/// | is to delete it at 7 | it is at 8 by now: deletes it at 8 | it was deleted; the late one comes to nothing |
/// | is to delete it at 7 | it is at 8 by now; then no id | there is none: another did that |
pub(super) async fn delete(etcd: &Etcd, id: &str) -> Result<Option<Kept>, CallError> {
    let id_key = keys::id(id);
    let begun = Instant::now();
    // What may have been deleted, or may be still, by one that did not answer.
    let mut in_doubt: Option<Kept> = None;
    while begun.elapsed() < CONTENTION {
        let Some(at) = etcd.range(get(&id_key)).await?.kvs.into_iter().next() else { return Ok(in_doubt) };
        let key = keys::lock(&String::from_utf8_lossy(&at.value));
        let Some(there) = etcd.range(get(&key)).await?.kvs.into_iter().next() else { continue };
        let kept = keys::read(&there).ok_or_else(|| unreadable(&there))?;
        if kept.lock.id != id {
            continue;
        }
        in_doubt = in_doubt.filter(|before| before.revision == kept.revision);
        let compare = vec![unchanged(&key, kept.revision)];
        let success = vec![deleting(&key), deleting(&id_key)];
        let (answer, doubtful) = etcd.txn_or_doubt(TxnRequest { compare, success, failure: vec![] }).await?;
        if answer.succeeded {
            return Ok(Some(kept));
        }
        if doubtful {
            in_doubt = Some(kept);
        }
    }
    Err(contended())
}
