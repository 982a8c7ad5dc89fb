//! The locks and the queues of the cluster as this service has last seen them. The watch of etcd reports changed keys; the
//! mirror derives the events from them.

use super::keys::{self, LockKeyKind};
use super::record::{parse_lock, parse_waiter};
use super::rpc::event::EventType;
use super::rpc::{Event, KeyValue};
use crate::event_feed::{LockChange, LockEvent};
use crate::model::{Lock, Waiter, current_time};
use crate::past_lock::{EndCause, EndKind, LockEnd};
use crate::store::history_record::parse_past_lock;
use std::collections::HashMap;

/// The waiters of a lock: by their keys, with the revision that is their order.
type MirroredQueue = HashMap<Vec<u8>, (i64, Waiter)>;

#[derive(Default)]
pub(super) struct Mirror {
    locks: HashMap<Vec<u8>, Lock>,
    /// By the name of the lock in the keys of etcd.
    queues: HashMap<String, MirroredQueue>,
}

/// The meaning of the changes of one revision.
#[derive(Default)]
pub(super) struct MirrorChange {
    pub(super) events: Vec<LockEvent>,
    /// The locks that etcd has deleted with their leases.
    pub(super) expired: Vec<Lock>,
}

impl Mirror {
    /// Creates a mirror of all keys below the prefix of the locks.
    pub(super) fn new(found: &[KeyValue]) -> Self {
        let mut mirror = Self::default();
        for found in found {
            match keys::parse_lock_key(&found.key) {
                Some((_, LockKeyKind::Holder)) => drop(mirror.put_lock(found)),
                Some((name, LockKeyKind::QueueEntry)) => mirror.put_waiter(name, found),
                None => (),
            }
        }
        mirror
    }

    /// Returns the waiters of a lock in their order.
    pub(super) fn list_waiters(&self, name: &str) -> Vec<Waiter> {
        let mut waiters: Vec<_> = self.queues.get(name).into_iter().flat_map(HashMap::values).collect();
        waiters.sort_by_key(|(revision, _)| *revision);
        waiters.into_iter().map(|(_, waiter)| waiter.clone()).collect()
    }

    /// Applies the changes of one revision.
    pub(super) fn apply(&mut self, changes: &[Event]) -> MirrorChange {
        let (mut done, mut ends, mut puts, mut deleted) =
            (MirrorChange::default(), HashMap::new(), Vec::new(), Vec::new());
        for change in changes {
            let Some(found) = &change.kv else { continue };
            let is_put = change.r#type() == EventType::Put;
            if found.key.starts_with(keys::HISTORY) {
                if let Some(past) = parse_past_lock(&found.value).filter(|_| is_put) {
                    ends.insert(past.lock.id, past.end);
                }
                continue;
            }
            match keys::parse_lock_key(&found.key) {
                Some((_, LockKeyKind::Holder)) if is_put => puts.push(found),
                Some((_, LockKeyKind::Holder)) => deleted.extend(self.locks.remove(&found.key)),
                Some((name, LockKeyKind::QueueEntry)) => {
                    if is_put {
                        self.put_waiter(name, found);
                    } else {
                        self.remove_waiter(name, &found.key);
                    }
                    done.events.extend(keys::decode_name(name).map(LockEvent::Queue));
                }
                None => (),
            }
        }
        let puts: Vec<_> = puts.into_iter().filter_map(|found| self.put_lock(found)).collect();
        for lock in deleted {
            let moves = puts.iter().any(|(_, new)| new.id == lock.id);
            let end = ends.remove(&lock.id).unwrap_or_else(|| {
                // No transaction of a service has deleted the lock.
                if lock.ttl.is_some() && !moves {
                    done.expired.push(lock.clone());
                }
                find_foreign_end(&lock, moves)
            });
            done.events.push(LockEvent::new(LockChange::Ended(end), &lock));
        }
        done.events.extend(puts.into_iter().map(|(change, lock)| LockEvent::new(change, &lock)));
        done
    }

    /// Keeps a lock. Returns it with the change that this is.
    fn put_lock(&mut self, found: &KeyValue) -> Option<(LockChange, Lock)> {
        let lock = parse_lock(found).ok()?.lock;
        let old = self.locks.insert(found.key.clone(), lock.clone());
        let change = match old.filter(|old| old.id == lock.id && old.token == lock.token) {
            None => LockChange::Created,
            Some(old) if old.who == lock.who && old.event_id == lock.event_id => LockChange::Renewed,
            Some(_) => LockChange::Updated,
        };
        Some((change, lock))
    }

    fn put_waiter(&mut self, name: &str, found: &KeyValue) {
        if let Some(waiter) = parse_waiter(found) {
            let queue = self.queues.entry(name.to_owned()).or_default();
            queue.insert(found.key.clone(), (found.create_revision, waiter));
        }
    }

    fn remove_waiter(&mut self, name: &str, key: &[u8]) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.remove(key);
            if queue.is_empty() {
                self.queues.remove(name);
            }
        }
    }
}

/// Returns the end of a lock that was deleted without an entry in the history: its lease has ended, or an older service or
/// another program has deleted it.
fn find_foreign_end(lock: &Lock, moves: bool) -> LockEnd {
    let kind = match lock.ttl {
        _ if moves => EndKind::Moved,
        Some(_) => EndKind::Expired,
        None => EndKind::Released,
    };
    let at = lock.expires.filter(|_| kind == EndKind::Expired).unwrap_or_else(current_time);
    EndCause::without_caller(kind).at(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LockKey, LockOrigin, LockRequest};
    use crate::past_lock::PastLock;
    use crate::store::etcd::record::{format_lock, format_waiter};
    use crate::store::history_record::format_past_lock;
    use aba_lock_protocol::sharing::Sharing;
    use jiff::Timestamp;
    use std::time::Duration;

    fn new_lock(resource: &str, id: &str, ttl: Option<Duration>) -> Lock {
        let [service, environment] = ["web", "a,b/%"].map(str::to_owned);
        let key = LockKey { service, environment, resource: resource.to_owned() };
        let (who, event_id, sharing) = ("ann".to_owned(), String::new(), Sharing::Exclusive);
        let request = LockRequest { key, who, event_id, ttl, wait: None, sharing, origin: LockOrigin::default() };
        request.to_lock(id.to_owned(), Timestamp::UNIX_EPOCH)
    }

    fn put_event(key: Vec<u8>, value: Vec<u8>, created: i64) -> Event {
        let kv = KeyValue { key, value, create_revision: created, ..KeyValue::default() };
        Event { r#type: EventType::Put.into(), kv: Some(kv) }
    }

    fn put_lock(lock: &Lock, created: i64) -> Event {
        put_event(key_of(lock), format_lock(lock, 10), created)
    }

    fn delete_event(key: Vec<u8>) -> Event {
        Event { r#type: EventType::Delete.into(), kv: Some(KeyValue { key, ..KeyValue::default() }) }
    }

    fn key_of(lock: &Lock) -> Vec<u8> {
        keys::holder_key(&keys::encode_name(&lock.key), &lock.id, lock.sharing)
    }

    /// Returns a line for each event.
    fn describe(change: &MirrorChange) -> Vec<String> {
        let line = |event: &LockEvent| match event {
            LockEvent::Lock(LockChange::Ended(end), lock) => {
                format!("{} {} {} {}", lock.id, end.cause.kind.name(), end.cause.by, lock.key.resource)
            }
            LockEvent::Lock(change, lock) => format!("{} {change:?} {}", lock.id, lock.key.resource),
            LockEvent::Queue(key) => format!("queue {} {}", key.environment, key.resource),
        };
        change.events.iter().map(line).collect()
    }

    #[test]
    fn the_changes_of_a_revision_tell_how_a_lock_has_changed() {
        let mut mirror = Mirror::default();
        let ttl = Some(Duration::from_secs(9));
        let lock = new_lock("db", "1", ttl);
        assert_eq!(describe(&mirror.apply(&[put_lock(&lock, 5)])), ["1 Created db"]);
        assert_eq!(describe(&mirror.apply(&[put_lock(&lock, 5)])), ["1 Renewed db"]);
        let changed = Lock { who: "bob".to_owned(), ..lock.clone() };
        assert_eq!(describe(&mirror.apply(&[put_lock(&changed, 5)])), ["1 Updated db"]);
        // A release, with its entry in the history, and a grant to the first waiter.
        let name = keys::encode_name(&lock.key);
        let entry = keys::queue_entry_key(&name, "2");
        let waiter = Waiter { who: "carl".to_owned(), sharing: Sharing::Exclusive, since: Timestamp::UNIX_EPOCH };
        let joined = mirror.apply(&[put_event(entry.clone(), format_waiter(&waiter), 6)]);
        assert_eq!(describe(&joined), ["queue a,b/% db"]);
        assert_eq!(mirror.list_waiters(&name)[0].who, "carl");
        let cause = EndCause { kind: EndKind::Forced, by: "root".to_owned() };
        let past = PastLock::new(&changed, cause.at(Timestamp::UNIX_EPOCH));
        let history = keys::history_key(past.end.at, "1");
        let released = [delete_event(key_of(&lock)), put_event(history, format_past_lock(&past).into_bytes(), 7)];
        let released = mirror.apply(&released);
        assert_eq!((describe(&released), released.expired.len()), (vec!["1 forced root db".to_owned()], 0));
        let second = new_lock("db", "2", ttl);
        let granted = mirror.apply(&[delete_event(entry), put_lock(&second, 8)]);
        assert_eq!(describe(&granted), ["queue a,b/% db", "2 Created db"]);
        assert!(mirror.list_waiters(&name).is_empty());
        // A move to another key by an older service, which writes no entry.
        let moved = Lock { key: LockKey { resource: "disk".to_owned(), ..second.key.clone() }, ..second.clone() };
        let change = mirror.apply(&[delete_event(key_of(&second)), put_lock(&moved, 9)]);
        assert_eq!(
            (describe(&change), change.expired.len()),
            (vec!["2 moved  db".to_owned(), "2 Created disk".to_owned()], 0)
        );
        // The end of its lease.
        let expired = mirror.apply(&[delete_event(key_of(&moved))]);
        assert_eq!((describe(&expired), expired.expired.len()), (vec!["2 expired  disk".to_owned()], 1));
        assert_eq!(describe(&mirror.apply(&[delete_event(key_of(&moved))])), [] as [&str; 0]);
    }
}
