//! Watches the keys of the cluster, forever: notifies the waiters of this service, and publishes the changes in the event feed.
//!
//! 1. The service reads all locks at revision R, and restarts the feed there.
//! 2. It watches from revision R + 1, so no change is missed. It applies the changes of each revision to the mirror.
//! 3. If the watch is interrupted at revision S, it watches again from S + 1.
//! 4. If etcd no longer has all changes after S (it was compacted, or restored from a copy), it starts again at 1. The clients of the feed
//!    load all locks again.

use super::cluster::{ANY_NAME, Cluster};
use super::keys;
use super::mirror::Mirror;
use super::rpc::{Event, WatchResponse};
use crate::error::CallError;
use crate::model::{LockKey, Waiter};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time;

/// Interval between two attempts to watch etcd.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

impl Cluster {
    /// Watches forever. `known` is the revision of the mirror.
    pub(super) async fn watch_changes(self: Arc<Self>, known: i64) {
        let mut known = Some(known);
        loop {
            if known.is_none() {
                known = self.load_mirror().await.ok();
            }
            if let Some(revision) = known
                && let Ok(mut answers) = self.etcd.watch(&keys::watched_range(), revision + 1).await
            {
                while let Ok(Some(answer)) = answers.message().await {
                    if !self.handle_answer(&answer, &mut known) {
                        break;
                    }
                }
            }
            time::sleep(WATCH_PAUSE).await;
        }
    }

    /// Handles an answer to the watch. Returns false if the watch has ended.
    fn handle_answer(self: &Arc<Self>, answer: &WatchResponse, known: &mut Option<i64>) -> bool {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let Some(last) = known.as_mut().filter(|known| revision >= **known && !answer.canceled) else {
            *known = None;
            return false;
        };
        // The first answer has no events: the watch begins now, and earlier changes may have been missed.
        if answer.events.is_empty() {
            let _ = self.changes.send(ANY_NAME.to_owned());
        }
        for changed in answer.events.iter().filter_map(|event| event.kv.as_ref()) {
            self.latest_revision.fetch_max(changed.mod_revision, Ordering::SeqCst);
            if let Some((name, _)) = keys::parse_lock_key(&changed.key) {
                let _ = self.changes.send(name.to_owned());
            }
        }
        let revision_of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for changes in answer.events.chunk_by(|one, next| revision_of(one) == revision_of(next)) {
            *last = revision_of(&changes[0]);
            self.publish_changes(changes, *last);
        }
        true
    }

    fn publish_changes(self: &Arc<Self>, changes: &[Event], revision: i64) {
        let change = self.mirror().apply(changes);
        for lock in &change.expired {
            self.record_expiry(lock);
        }
        self.feed.publish_at(revision.unsigned_abs(), change.events);
    }

    /// Reads all locks, and restarts the feed. Returns the revision of the locks.
    pub(super) async fn load_mirror(&self) -> Result<i64, CallError> {
        let (found, header) = self.read_all_at_once(keys::LOCKS).await?;
        *self.mirror() = Mirror::new(&found);
        self.feed.restart(header.cluster_id, header.revision.unsigned_abs());
        Ok(header.revision)
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the waiters for a key as this service has last seen them.
    pub(super) fn list_waiters(&self, key: &LockKey) -> Vec<Waiter> {
        self.mirror().list_waiters(&keys::encode_name(key))
    }
}
