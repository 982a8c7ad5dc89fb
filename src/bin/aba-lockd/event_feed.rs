//! The feed of changes: the last events of the store, from which each client of `rest/events` reads at its own speed.
//!
//! The stores publish an event after the change is durable (SQLite), or when etcd reports it. The feed keeps the last
//! [`MAX_EVENTS`] events. A client has a position in the feed, and no queue of its own. So a slow client uses no memory, and
//! a client that is too slow, or was away for too long, finds that its position was dropped: it must load all locks again.
//!
//! A position is a number that only grows: a counter (SQLite), or the revision of etcd. All services of a cluster have the
//! same positions, so a client can continue at another service.

use crate::error::CallError;
use crate::model::{Lock, LockKey, LockOrigin};
use crate::past_lock::LockEnd;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Maximum number of events in the feed.
const MAX_EVENTS: usize = 2048;

/// Maximum number of events that a client takes at once. Changes of one position are never separated.
const MAX_BATCH: usize = 128;

/// Maximum number of clients, because each one uses a connection and a task.
pub(crate) const MAX_CLIENTS: usize = 256;

/// A change of a lock.
#[derive(Debug, Clone)]
pub(crate) enum LockChange {
    Created,
    /// The owner or the event id has changed.
    Updated,
    Renewed,
    Ended(LockEnd),
}

/// A change that clients are notified of.
#[derive(Debug)]
pub(crate) enum LockEvent {
    /// The lock has neither its queue nor its origin.
    Lock(LockChange, Box<Lock>),
    /// A waiter has joined or left the queue of this key.
    Queue(LockKey),
}

impl LockEvent {
    pub(crate) fn new(change: LockChange, lock: &Lock) -> Self {
        let lock = Lock { origin: LockOrigin::default(), queue: Vec::new(), ..lock.clone() };
        Self::Lock(change, Box::new(lock))
    }

    pub(crate) fn key(&self) -> &LockKey {
        match self {
            Self::Lock(_, lock) => &lock.key,
            Self::Queue(key) => key,
        }
    }
}

/// A position in the feed: all events up to it were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedPosition {
    /// Identifies the sequence of positions: the start of this service, or the etcd cluster.
    origin: u64,
    at: u64,
    /// Counts the restarts of the feed of this service.
    generation: u64,
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.origin, self.at)
    }
}

struct FeedState {
    origin: u64,
    generation: u64,
    /// The events with their positions, the oldest one first.
    events: VecDeque<(u64, Arc<LockEvent>)>,
    /// The feed has all events after this position.
    first: u64,
    last: u64,
}

impl FeedState {
    fn position(&self, at: u64) -> FeedPosition {
        FeedPosition { origin: self.origin, at, generation: self.generation }
    }
}

/// The events after a position.
pub(crate) enum FeedPart {
    /// The events, each with its position if it is the last one of this position, and the position after them. Empty if there are
    /// no further events yet.
    Events(Vec<(Arc<LockEvent>, Option<FeedPosition>)>, FeedPosition),
    /// Some events were dropped, or never known: the client must load the locks again, and continue at this position.
    Lost(FeedPosition),
}

pub(crate) struct EventFeed {
    state: Mutex<FeedState>,
    /// Changes with each event.
    changed: watch::Sender<()>,
    is_closed: watch::Sender<bool>,
    clients: Arc<Semaphore>,
}

impl EventFeed {
    pub(crate) fn new() -> Arc<Self> {
        let (origin, _) = uuid::Uuid::new_v4().as_u64_pair();
        let state = FeedState { origin, generation: 0, events: VecDeque::new(), first: 0, last: 0 };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: watch::Sender::default(),
            is_closed: watch::Sender::default(),
            clients: Arc::new(Semaphore::new(MAX_CLIENTS)),
        })
    }

    fn state(&self) -> MutexGuard<'_, FeedState> {
        // Every change is complete when the mutex is released, so a panic elsewhere leaves a valid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event at the next position.
    pub(crate) fn publish(&self, event: LockEvent) {
        self.publish_all(vec![event]);
    }

    /// Adds each of these events at a position of its own.
    pub(crate) fn publish_all(&self, events: Vec<LockEvent>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.state();
        for event in events {
            let at = state.last + 1;
            push(&mut state, at, event);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Adds the events of one position, which may be none.
    pub(crate) fn publish_at(&self, at: u64, events: Vec<LockEvent>) {
        let mut state = self.state();
        state.last = state.last.max(at);
        for event in events {
            push(&mut state, at, event);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Drops all events: those before this position are not known.
    pub(crate) fn restart(&self, origin: u64, at: u64) {
        let mut state = self.state();
        state.events.clear();
        (state.origin, state.first, state.last) = (origin, at, at);
        state.generation += 1;
        drop(state);
        self.changed.send_replace(());
    }

    /// Ends all clients, now and later.
    pub(crate) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.is_closed.borrow()
    }

    pub(crate) async fn wait_until_closed(&self) {
        let _ = self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await;
    }

    /// Admits one more client, until the permit is dropped.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, CallError> {
        if self.is_closed() {
            return Err(CallError::Stopping);
        }
        Arc::clone(&self.clients).try_acquire_owned().map_err(|_| CallError::TooMany)
    }

    pub(crate) fn count_clients(&self) -> usize {
        MAX_CLIENTS - self.clients.available_permits()
    }

    /// Returns a receiver that is notified of each event after this call.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns the present end of the feed.
    pub(crate) fn end(&self) -> FeedPosition {
        let state = self.state();
        state.position(state.last)
    }

    /// Parses a position that a client has got earlier. `None`: the feed does not have all events after it.
    pub(crate) fn find_position(&self, text: &str) -> Option<FeedPosition> {
        let (origin, at) = text.split_once('-')?;
        let (origin, at) = (u64::from_str_radix(origin, 16).ok()?, at.parse().ok()?);
        let state = self.state();
        let is_known = origin == state.origin && (state.first..=state.last).contains(&at);
        is_known.then(|| state.position(at))
    }

    /// Returns the next events after a position.
    pub(crate) fn read_after(&self, position: FeedPosition) -> FeedPart {
        let state = self.state();
        if position.generation != state.generation || position.at < state.first {
            return FeedPart::Lost(state.position(state.last));
        }
        let from = state.events.partition_point(|(at, _)| *at <= position.at);
        let (mut found, mut end) = (Vec::new(), position);
        for index in from..state.events.len() {
            let (at, event) = &state.events[index];
            let is_last = state.events.get(index + 1).is_none_or(|(next, _)| next != at);
            let here = state.position(*at);
            found.push((Arc::clone(event), is_last.then_some(here)));
            if is_last {
                end = here;
                if found.len() >= MAX_BATCH {
                    return FeedPart::Events(found, end);
                }
            }
        }
        if found.is_empty() {
            end = state.position(state.last);
        }
        FeedPart::Events(found, end)
    }
}

fn push(state: &mut FeedState, at: u64, event: LockEvent) {
    if state.events.len() == MAX_EVENTS
        && let Some((dropped, _)) = state.events.pop_front()
    {
        state.first = dropped;
    }
    state.events.push_back((at, Arc::new(event)));
    state.last = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_event(service: &str) -> LockEvent {
        let [environment, resource] = [String::new(), String::new()];
        LockEvent::Queue(LockKey { service: service.to_owned(), environment, resource })
    }

    /// Returns the services of the events after a position, and the last position. `None`: events were lost.
    fn read(feed: &EventFeed, position: FeedPosition) -> Option<(Vec<String>, FeedPosition)> {
        match feed.read_after(position) {
            FeedPart::Events(events, end) => {
                Some((events.iter().map(|(event, _)| event.key().service.clone()).collect(), end))
            }
            FeedPart::Lost(_) => None,
        }
    }

    #[test]
    fn a_client_continues_at_the_position_of_the_last_event_that_it_has_read() {
        let feed = EventFeed::new();
        let start = feed.end();
        for service in ["a", "b"] {
            feed.publish(new_event(service));
        }
        let (services, end) = read(&feed, start).unwrap();
        assert_eq!(services, ["a", "b"]);
        assert_eq!(read(&feed, end).unwrap(), (Vec::new(), end));
        feed.publish(new_event("c"));
        let again = feed.find_position(&end.to_string()).unwrap();
        assert_eq!(read(&feed, again).unwrap().0, ["c"]);
        for unknown in ["", "-", "x-1", "0000000000000000-1", &format!("{:016x}-9", end.origin)] {
            assert!(feed.find_position(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_client_that_is_too_slow_loses_events_and_notices_it() {
        let feed = EventFeed::new();
        let start = feed.end();
        feed.publish(new_event("first"));
        let after_first = feed.end();
        for _ in 0..MAX_EVENTS {
            feed.publish(new_event("more"));
        }
        assert!(read(&feed, start).is_none() && feed.find_position(&start.to_string()).is_none());
        let (mut events, mut position) = (0, after_first);
        while let Some((found, end)) = read(&feed, position)
            && !found.is_empty()
        {
            (events, position) = (events + found.len(), end);
        }
        assert_eq!(events, MAX_EVENTS);
    }

    #[test]
    fn changes_of_one_position_are_read_together_and_only_the_last_one_has_the_position() {
        let feed = EventFeed::new();
        feed.restart(7, 100);
        let start = feed.end();
        feed.publish_at(103, (0..MAX_BATCH + 5).map(|_| new_event("a")).collect());
        feed.publish_at(104, vec![new_event("b")]);
        let FeedPart::Events(events, end) = feed.read_after(start) else { panic!("events are lost") };
        assert_eq!((events.len(), end.to_string().as_str()), (MAX_BATCH + 5, "0000000000000007-103"));
        let with_position: Vec<usize> = (0..events.len()).filter(|index| events[*index].1.is_some()).collect();
        assert_eq!(with_position, [MAX_BATCH + 4]);
        // A restart loses all events, also if the positions go on.
        feed.restart(7, 104);
        assert!(read(&feed, end).is_none());
        feed.close();
        assert!(feed.admit().is_err());
    }
}
