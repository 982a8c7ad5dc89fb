//! Where the locks are. What every store promises:
//!
//! - A lock is granted only if no other of its key is held, and that is on disk (or agreed upon) before it is said.
//! - Tokens only grow: with each lock, over restarts, and from one store to the next (they are never behind the clock).
//! - Who waits is served in the order of coming; no newcomer is before them. To drop the future of a [`Store::create`] is
//!   to leave the queue, and a lock that was granted to nobody any more is taken back.
//! - A store that cannot answer says [`Problem::Fault`], and never that something is free.

pub(crate) mod grant;
pub(crate) mod sqlite;

mod etcd;

use crate::environment;
use crate::lifecycle::Failure;
use crate::model::{Change, Listing, Lock, Problem, Selection, Wanted};
use crate::telemetry::Journal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A store. Its futures may be dropped at any time.
#[tonic::async_trait]
pub(crate) trait Store: Send + Sync {
    /// Takes the lock, after waiting for it if that is wanted: not for one that is itself what is wanted ([`Wanted::is`]).
    async fn create(&self, wanted: Wanted) -> Result<Lock, Problem>;
    /// The lock of that id, with its queue.
    async fn get(&self, id: &str) -> Result<Lock, Problem>;
    /// Changes it; never onto a key that is held. On another key it gets another token.
    async fn update(&self, id: &str, change: Change) -> Result<Lock, Problem>;
    /// Releases it, and returns what it was.
    async fn remove(&self, id: &str) -> Result<Lock, Problem>;
    /// Gives it its time to live again, or another one.
    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, Problem>;
    /// Those held, the oldest first, with their queues.
    async fn list(&self, selection: Selection) -> Result<Listing, Problem>;
    /// Whether locks could be granted now.
    async fn check(&self) -> Result<(), Problem>;
    /// How many wait.
    fn waiting(&self) -> usize;
    /// Sends those who wait away.
    fn stop(&self);
    /// Waits until what goes on in the background is done, within some seconds: after this nothing is asked any more.
    async fn end(&self) {}
}

/// A store that is open.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// As `--store` takes it.
    pub(crate) name: String,
    /// Keeps other services out, for a store that is for one.
    _alone: Option<sqlite::file_lock::Alone>,
}

/// Opens the store of that name, or the one that is meant without a name.
pub(crate) async fn open(name: Option<&str>, base: u64, journal: Arc<Journal>) -> Result<Opened, Failure> {
    if let Some(endpoints) = name.and_then(|name| name.strip_prefix("etcd://")) {
        let store = etcd::Cluster::open(endpoints, base, journal).await.map_err(|problem| match problem {
            Problem::Invalid(why) => Failure::misused(format!("--store etcd://{endpoints} is no store: {why}")),
            Problem::Fault(why) => Failure::new(format!("could not open store etcd://{endpoints}: {why}")),
            problem => Failure::new(format!("could not open store etcd://{endpoints}: {problem}")),
        })?;
        return Ok(Opened { store: Arc::new(store), name: format!("etcd://{endpoints}"), _alone: None });
    }
    let path = match name {
        Some(name) => name.strip_prefix("sqlite:").map(|path| Path::new(path).to_owned()),
        None => Some(environment::default_store().ok_or_else(|| {
            Failure::new("no place for the store: HOME is not set, or is not a directory".to_owned())
                .hint("give --store sqlite:PATH")
        })?),
    };
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        let sentence = format!("--store {} is no store", name.unwrap_or_default());
        return Err(Failure::misused(sentence).hint("it is sqlite:PATH, or etcd://HOST:PORT,HOST:PORT"));
    };
    // What SQLite would take for something else than a file of that name.
    if path.as_os_str() == ":memory:" || path.as_os_str().as_bytes().starts_with(b"file:") {
        let sentence = format!("--store sqlite:{} is no store: it is no path of a file", path.display());
        return Err(Failure::misused(sentence).hint("it is sqlite:PATH, or sqlite:./PATH"));
    }
    let alone = sqlite::file_lock::take(&path)?;
    let store = sqlite::Sqlite::open(&alone.path, base, journal).map_err(|unusable| Failure {
        hint: unusable.hint.map(str::to_owned),
        ..Failure::new(format!("could not open store {}: {}", path.display(), unusable.why))
    })?;
    Ok(Opened { store: Arc::new(store), name: format!("sqlite:{}", path.display()), _alone: Some(alone) })
}
