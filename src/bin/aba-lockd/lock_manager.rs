//! Where REST and gRPC come together: what is asked is looked at, brought to the store, and noted.

use crate::model::{Change, Key, Listing, Lock, Problem, Selection, Wanted};
use crate::store::Store;
use crate::telemetry::{Call, Journal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The most bytes of a word.
const LONGEST: usize = 1024;

/// A list has at most so many locks a page.
const LARGEST_PAGE: u32 = 100_000;

/// How long what a store says of itself holds good.
const HOLDS_GOOD: Duration = Duration::from_secs(1);

/// The store, and the journal of what is done to it.
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) journal: Arc<Journal>,
    stopping: AtomicBool,
    /// When the store was last asked how it is, and what it said.
    checked: Mutex<Option<(Instant, Result<(), Problem>)>>,
}

impl Desk {
    pub(crate) fn new(store: Arc<dyn Store>, journal: Arc<Journal>) -> Self {
        Self { store, journal, stopping: AtomicBool::new(false), checked: Mutex::default() }
    }

    /// From now on nothing new is granted, and who waits is sent away. What is held can be released and renewed.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.store.stop();
    }

    pub(crate) async fn create(&self, call: &Call, wanted: Wanted) -> Result<Lock, Problem> {
        let (begun, waits) = (Instant::now(), wanted.wait.is_some());
        let Key { service, environment, resource } = &wanted.key;
        let checked = needed("service", service)
            .and_then(|()| needed("who", &wanted.who))
            .and_then(|()| short(&[service, environment, resource, &wanted.who, &wanted.event_id]));
        let result = match checked {
            Ok(()) if self.stopping.load(Ordering::SeqCst) => Err(Problem::Stopping),
            Ok(()) => self.store.create(wanted).await,
            Err(problem) => Err(problem),
        };
        self.note(call, result, (!waits).then_some(begun))
    }

    pub(crate) async fn get(&self, call: &Call, id: &str) -> Result<Lock, Problem> {
        let begun = Instant::now();
        let result = match named(id) {
            Ok(()) => self.store.get(id).await,
            Err(problem) => Err(problem),
        };
        self.note(call, result, Some(begun))
    }

    pub(crate) async fn update(&self, call: &Call, id: &str, change: Change) -> Result<Lock, Problem> {
        let begun = Instant::now();
        let Change { service, environment, resource, who, event_id } = &change;
        let result = match named(id).and_then(|()| short(&[service, environment, resource, who, event_id])) {
            Ok(()) => self.store.update(id, change).await,
            Err(problem) => Err(problem),
        };
        self.note(call, result, Some(begun))
    }

    pub(crate) async fn unlock(&self, call: &Call, id: &str) -> Result<Lock, Problem> {
        let begun = Instant::now();
        let result = match named(id) {
            Ok(()) => self.store.remove(id).await,
            Err(problem) => Err(problem),
        };
        self.note(call, result, Some(begun))
    }

    pub(crate) async fn renew(&self, call: &Call, id: &str, ttl: Option<Duration>) -> Result<Lock, Problem> {
        let begun = Instant::now();
        let result = match named(id) {
            Ok(()) => self.store.renew(id, ttl).await,
            Err(problem) => Err(problem),
        };
        self.note(call, result, Some(begun))
    }

    pub(crate) async fn list(&self, call: &Call, selection: Selection) -> Result<Listing, Problem> {
        let begun = Instant::now();
        let result = match selection {
            Selection { page: 0, .. } => Err(Problem::Invalid("page counts from 1".to_owned())),
            Selection { per_page: Some(0), .. } => Err(Problem::Invalid("per_page is at least 1".to_owned())),
            Selection { per_page: Some(number), .. } if number > LARGEST_PAGE => {
                Err(Problem::Invalid(format!("per_page is at most {LARGEST_PAGE}")))
            }
            Selection { page: 2.., per_page: None, .. } => {
                Err(Problem::Invalid("page needs per_page: without it, all locks are on page 1".to_owned()))
            }
            selection => self.store.list(selection).await,
        };
        self.journal.answered(call, result.as_ref().map(|_| None), Some(begun.elapsed()));
        result
    }

    /// Whether locks could be granted. Everyone may ask, as often as they like: the store is asked now and then.
    pub(crate) async fn check(&self) -> Result<(), Problem> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Problem::Stopping);
        }
        let mut checked = self.checked.lock().await;
        if let Some((at, result)) = &*checked
            && at.elapsed() < HOLDS_GOOD
        {
            return result.clone();
        }
        let result = self.store.check().await;
        *checked = Some((Instant::now(), result.clone()));
        result
    }

    /// For who only looks: `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let one = Selection { page: 1, per_page: Some(1), ..Selection::default() };
        let held = self.store.list(one).await.ok().map(|listing| listing.total);
        self.journal.metrics(self.check().await.is_ok(), held, self.store.waiting())
    }

    fn note(&self, call: &Call, result: Result<Lock, Problem>, begun: Option<Instant>) -> Result<Lock, Problem> {
        self.journal.answered(call, result.as_ref().map(Some), begun.map(|begun| begun.elapsed()));
        result
    }
}

fn needed(name: &str, word: &str) -> Result<(), Problem> {
    if word.is_empty() { Err(Problem::Invalid(format!("{name} is needed"))) } else { Ok(()) }
}

fn named(id: &str) -> Result<(), Problem> {
    needed("id", id)?;
    if id.len() <= LONGEST { Ok(()) } else { Err(Problem::Invalid(format!("an id is longer than {LONGEST} bytes"))) }
}

fn short(words: &[&String]) -> Result<(), Problem> {
    if words.iter().all(|word| word.len() <= LONGEST) {
        return Ok(());
    }
    Err(Problem::Invalid(format!("a word is longer than {LONGEST} bytes")))
}
