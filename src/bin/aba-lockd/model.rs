//! The data that all parts of the service share: a lock, its key, the requests for it, and the pages of a list.
//!
//! This module holds plain data and the rules that follow from it alone. It knows neither HTTP nor a database; the APIs
//! (`rest`, `grpc`) create these values from requests, and the stores keep them.

use aba_lock_protocol::sharing::Sharing;
use jiff::Timestamp;
use std::time::Duration;

/// The name of a lock. At most one exclusive lock exists for a key, or several locks that share it ([`Sharing`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LockKey {
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) resource: String,
}

/// A lock that is held.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    /// Empty while the lock is being handed over to the first waiter, which does not hold it yet.
    pub(crate) id: String,
    pub(crate) key: LockKey,
    pub(crate) who: String,
    /// Identifies an event outside the service, such as a CI run. Only the caller interprets it.
    pub(crate) event_id: String,
    pub(crate) created: Timestamp,
    /// `None`: the lock is held until it is released.
    pub(crate) ttl: Option<Duration>,
    pub(crate) expires: Option<Timestamp>,
    /// The fencing token: greater than that of every lock that was granted before.
    pub(crate) token: u64,
    pub(crate) sharing: Sharing,
    /// The number of the slot, if the lock has slots.
    pub(crate) slot: Option<u32>,
    pub(crate) origin: LockOrigin,
    /// The waiters in the order in which they will be served. Filled only by the calls that return the queue.
    pub(crate) queue: Vec<Waiter>,
}

/// The caller that created a lock, and what it said about the lock. It never changes. `name` and `secret` are empty if
/// the service had no token file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LockOrigin {
    /// The name of the caller in the token file.
    pub(crate) name: String,
    /// The SHA-256 digest of the secret that the caller got, in hexadecimal.
    pub(crate) secret: String,
    /// The lock info of Terraform: a JSON object.
    pub(crate) info: String,
}

/// A caller that waits for a lock.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    pub(crate) who: String,
    pub(crate) sharing: Sharing,
    pub(crate) since: Timestamp,
}

/// A request to acquire a lock.
#[derive(Debug, Clone)]
pub(crate) struct LockRequest {
    pub(crate) key: LockKey,
    pub(crate) who: String,
    pub(crate) event_id: String,
    pub(crate) ttl: Option<Duration>,
    /// The longest time that the caller waits while the lock is held. `None`: it does not wait.
    pub(crate) wait: Option<Duration>,
    pub(crate) sharing: Sharing,
    /// `lock_manager` fills it.
    pub(crate) origin: LockOrigin,
}

/// The services for which a permission is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServicePattern {
    Exact(String),
    /// All services whose names have this prefix.
    Prefix(String),
}

impl ServicePattern {
    pub(crate) fn matches(&self, service: &str) -> bool {
        match self {
            Self::Exact(name) => name == service,
            Self::Prefix(prefix) => service.starts_with(prefix.as_str()),
        }
    }
}

/// The fields of a lock that a caller can change or search for. An empty field changes nothing and matches every lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct LockFields {
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) resource: String,
    pub(crate) who: String,
    pub(crate) event_id: String,
}

/// The selection of locks for a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct LockQuery {
    /// Pages are counted from 1.
    pub(crate) page: u32,
    /// `None`: all locks are on one page.
    pub(crate) per_page: Option<u32>,
    pub(crate) fields: LockFields,
    /// Lower-case words, all of which a lock must contain ([`Lock::is_selected_by`]).
    pub(crate) words: Vec<String>,
    /// The services that the caller may see. `None`: all of them.
    pub(crate) services: Option<Vec<ServicePattern>>,
    /// The caller in the token file that may see its own locks of all services. Empty: it may see only those of `services`.
    pub(crate) owner: String,
}

#[derive(Debug)]
pub(crate) struct LockPage {
    pub(crate) locks: Vec<Lock>,
    /// The number of selected locks on all pages.
    pub(crate) total: u64,
}

/// Returns the current time in microseconds, the precision of the stores.
pub(crate) fn current_time() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

impl Lock {
    /// Gives the lock its full time to live from `now` on.
    pub(crate) fn restart_ttl(&mut self, now: Timestamp) {
        self.expires = self.ttl.and_then(|ttl| now.checked_add(ttl).ok());
    }

    /// Returns true if the lock contains the words of the query, and the caller may see it.
    pub(crate) fn is_selected_by(&self, query: &LockQuery) -> bool {
        let is_own = !query.owner.is_empty() && query.owner == self.origin.name;
        let is_visible =
            |services: &Vec<ServicePattern>| is_own || services.iter().any(|one| one.matches(&self.key.service));
        query.services.as_ref().is_none_or(is_visible) && (query.words.is_empty() || self.contains_words(&query.words))
    }

    /// Returns true if each of these lower-case words occurs in a field of the lock, in its id, or in the name of a
    /// waiter.
    fn contains_words(&self, words: &[String]) -> bool {
        let LockKey { service, environment, resource } = &self.key;
        let texts = [service, environment, resource, &self.who, &self.event_id, &self.id];
        let waiters = self.queue.iter().map(|waiter| &waiter.who);
        let texts: Vec<String> = texts.into_iter().chain(waiters).map(|text| text.to_lowercase()).collect();
        words.iter().all(|word| texts.iter().any(|text| text.contains(word)))
    }
}

impl LockRequest {
    /// Returns true if `lock` was granted to an earlier request of the same caller for the same event: a caller that
    /// repeats a request because the answer was lost must not wait for its own lock.
    pub(crate) fn is_repeat_of(&self, lock: &Lock) -> bool {
        !self.event_id.is_empty()
            && self.event_id == lock.event_id
            && self.who == lock.who
            && self.key == lock.key
            && self.origin.name == lock.origin.name
    }

    /// Returns the lock that this request asks for, still without a fencing token and without a slot.
    pub(crate) fn to_lock(&self, id: String, now: Timestamp) -> Lock {
        let mut lock = Lock {
            id,
            key: self.key.clone(),
            who: self.who.clone(),
            event_id: self.event_id.clone(),
            created: now,
            ttl: self.ttl,
            expires: None,
            token: 0,
            sharing: self.sharing,
            slot: None,
            origin: self.origin.clone(),
            queue: Vec::new(),
        };
        lock.restart_ttl(now);
        lock
    }
}

impl LockFields {
    /// Returns `lock` with these fields. The store decides whether the lock gets a new token.
    pub(crate) fn apply_to(&self, lock: &Lock) -> Lock {
        let pick = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        Lock {
            key: LockKey {
                service: pick(&self.service, &lock.key.service),
                environment: pick(&self.environment, &lock.key.environment),
                resource: pick(&self.resource, &lock.key.resource),
            },
            who: pick(&self.who, &lock.who),
            event_id: pick(&self.event_id, &lock.event_id),
            ..lock.clone()
        }
    }

    /// Returns true if each field that is not empty is equal to that of the lock.
    pub(crate) fn match_lock(&self, lock: &Lock) -> bool {
        self.match_key(&lock.key) && matches(&self.who, &lock.who) && matches(&self.event_id, &lock.event_id)
    }

    /// Returns true if the service, the environment and the resource are equal to those of the key, unless they are empty.
    pub(crate) fn match_key(&self, key: &LockKey) -> bool {
        matches(&self.service, &key.service)
            && matches(&self.environment, &key.environment)
            && matches(&self.resource, &key.resource)
    }
}

/// Returns true if a field has the wanted value, or if any value is wanted.
fn matches(wanted: &str, actual: &str) -> bool {
    wanted.is_empty() || wanted == actual
}
