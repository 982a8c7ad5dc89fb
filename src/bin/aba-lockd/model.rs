//! What a lock is here, and what can be asked of it.

use jiff::Timestamp;
use std::fmt;
use std::time::Duration;

/// What a lock shuts others out of. There is at most one lock of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) resource: String,
}

/// A lock that is held.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    /// Empty where it is only about to be granted: it is being handed over to who is first in the queue.
    pub(crate) id: String,
    pub(crate) key: Key,
    pub(crate) who: String,
    /// Of an event elsewhere that goes with it; whatever the caller likes.
    pub(crate) event_id: String,
    pub(crate) created: Timestamp,
    /// How long it lives without being renewed. `None`: until it is released.
    pub(crate) ttl: Option<Duration>,
    pub(crate) expires: Option<Timestamp>,
    /// Grows with each lock that is granted, for ever.
    pub(crate) token: u64,
    /// Who waits for it, first come first; only where it was asked for.
    pub(crate) queue: Vec<Waiting>,
}

impl Lock {
    /// Returns true if each of these words in lower case occurs in a text of the lock, in its id, or in the name of a waiter.
    pub(crate) fn has_all(&self, words: &[String]) -> bool {
        let Key { service, environment, resource } = &self.key;
        let texts = [service, environment, resource, &self.who, &self.event_id, &self.id];
        let waiting = self.queue.iter().map(|waiting| &waiting.who);
        let texts: Vec<String> = texts.into_iter().chain(waiting).map(|text| text.to_lowercase()).collect();
        words.iter().all(|word| texts.iter().any(|text| text.contains(word)))
    }
}

/// Somebody who waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) who: String,
    pub(crate) since: Timestamp,
}

/// A lock that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) who: String,
    pub(crate) event_id: String,
    pub(crate) ttl: Option<Duration>,
    /// How long to wait while another has it. `None`: not at all.
    pub(crate) wait: Option<Duration>,
}

/// What is to become different in a lock: what is empty stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) resource: String,
    pub(crate) who: String,
    pub(crate) event_id: String,
}

/// Which locks to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// From 1.
    pub(crate) page: u32,
    /// `None`: all, on one page.
    pub(crate) per_page: Option<u32>,
    /// Only those with these words; an empty one does not count.
    pub(crate) with: Change,
    /// Only those in which each of these occurs, in lower case: [`Lock::has_all`].
    pub(crate) words: Vec<String>,
}

/// A page of locks.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) locks: Vec<Lock>,
    /// How many there are on all pages.
    pub(crate) total: u64,
}

/// What can go wrong, one variant for each thing that a caller can act on.
#[derive(Debug, Clone)]
pub(crate) enum Problem {
    /// Another has it.
    Held(Box<Lock>),
    /// It was released, has expired, or never was.
    Unknown(String),
    /// What was asked makes no sense.
    Invalid(String),
    /// Who asks may not.
    NotAllowed(String),
    /// The caller sent no token.
    NoToken,
    /// The caller sent a token that is not in the token file.
    WrongToken,
    /// The body of the request is too large.
    TooLarge,
    /// Too many wait already.
    TooMany,
    /// The service is about to end.
    Stopping,
    /// The store does not work: nothing is known, and nobody is told to have a lock.
    Fault(String),
}

impl Wanted {
    /// Whether that lock is what this asks for, granted to another call of the same caller for the same event: to wait for
    /// its end would be to wait for oneself.
    pub(crate) fn is(&self, lock: &Lock) -> bool {
        !self.event_id.is_empty() && self.event_id == lock.event_id && self.who == lock.who && self.key == lock.key
    }
}

impl Change {
    /// What `lock` is after it, but for what a store gives.
    pub(crate) fn of(&self, lock: &Lock) -> Lock {
        let pick = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        Lock {
            key: Key {
                service: pick(&self.service, &lock.key.service),
                environment: pick(&self.environment, &lock.key.environment),
                resource: pick(&self.resource, &lock.key.resource),
            },
            who: pick(&self.who, &lock.who),
            event_id: pick(&self.event_id, &lock.event_id),
            ..lock.clone()
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(lock) => {
                let Key { service, environment, resource } = &lock.key;
                write!(f, "service {service} is already locked")?;
                if !resource.is_empty() {
                    write!(f, " for {resource}")?;
                }
                if !environment.is_empty() {
                    write!(f, " in {environment}")?;
                }
                write!(f, " by {} ", lock.who)?;
                match lock.id.as_str() {
                    "" => f.write_str("(it is being handed over)"),
                    id => write!(f, "(lock_id: {id})"),
                }
            }
            Self::Unknown(id) => write!(f, "there is no lock {id}"),
            Self::Invalid(why) | Self::NotAllowed(why) => f.write_str(why),
            Self::NoToken => f.write_str("a token is needed: Authorization: Bearer TOKEN"),
            Self::WrongToken => f.write_str("this token is not known to the service"),
            Self::TooLarge => f.write_str("the body is longer than 64 KiB"),
            Self::TooMany => f.write_str("too many wait already"),
            Self::Stopping => f.write_str("the service is stopping; ask again"),
            Self::Fault(why) => write!(f, "the store does not work, nothing is known to be granted or released: {why}"),
        }
    }
}

impl Problem {
    /// A word for it: in the log, and in the metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Unknown(_) => "unknown",
            Self::Invalid(_) => "invalid",
            Self::NotAllowed(_) => "not_allowed",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::Stopping => "stopping",
            Self::Fault(_) => "fault",
        }
    }
}
