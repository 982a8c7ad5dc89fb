//! The locks in one file of SQLite's: for one service on one machine.
//!
//! One thread (`engine.rs`) makes all changes. It takes all that is asked at a time into one transaction (`BEGIN IMMEDIATE`,
//! WAL, `synchronous=FULL`): check, token and insert are on disk together, before anybody is told, and a sync is shared by
//! all who came while the last one went on. A unique constraint is the mutual exclusion. Others only read.
//!
//! A service has its file to itself, by an `aba-lock` lock beside it and one on it (`../alone.rs`): two services would have two
//! queues. A file that is removed or replaced while it is in use is a fault (`place.rs`).
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | before the commit | nothing | the key is free, nobody was told otherwise |
//! | after the commit, before the answer | a lock that nobody knows to have | it expires, if it has a time to live; else `list` shows it, with its `eventId` |
//! | while others wait | their connections end with us | they ask again |
//! | while leases run | their end, by the clock | gives those that have not ended a full time to live: they could not be renewed meanwhile |

mod batch;
pub(crate) mod file_lock;
pub(crate) mod queue;
mod store_files;
mod table;
mod writer;

use crate::model::{Change, Listing, Lock, Problem, Selection, Wanted};
use crate::store::Store;
use crate::store::sqlite::queue::{Place, Queue, Reply};
use crate::telemetry::Journal;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use store_files::Place as File;
use tokio::sync::{Semaphore, oneshot};
use tokio::time;
use writer::{Engine, Order};

pub(crate) use table::Unusable;

/// So many read at a time: each has descriptors of its own.
const READERS: usize = 8;

/// A store in one file.
pub(crate) struct Sqlite {
    path: PathBuf,
    orders: Sender<Order>,
    queue: Arc<Queue>,
    numbers: AtomicU64,
    file: Arc<File>,
    /// Connections that only read, and that nobody uses at the moment.
    readers: Mutex<Vec<Connection>>,
    reading: Semaphore,
}

impl Sqlite {
    /// Opens the store in that file, which may be empty. Tokens will be greater than `base`.
    pub(crate) fn open(path: &Path, base: u64, journal: Arc<Journal>) -> Result<Arc<Self>, Unusable> {
        let queue = Arc::new(Queue::default());
        let (orders, asked) = mpsc::channel();
        let engine = Engine::open(path, base, Arc::clone(&queue), orders.clone(), journal)?;
        let file = engine.file();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || engine.run(&asked))
            .map_err(|error| Unusable { why: format!("no thread: {error}"), hint: None })?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            orders,
            queue,
            numbers: AtomicU64::new(0),
            file,
            readers: Mutex::default(),
            reading: Semaphore::new(READERS),
        }))
    }

    async fn ask(&self, order: impl FnOnce(Reply) -> Order) -> Result<Lock, Problem> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?.map(super::grant::Given::accept)
    }

    /// Reads, on a thread that may block.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = Arc::clone(self);
        let _one = self.reading.acquire().await;
        let done = tokio::task::spawn_blocking(move || {
            store.file.check()?;
            let idle = store.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => table::open_to_read(&store.path).map_err(|error| fault(&error))?,
            };
            let result = read(&connection);
            // After a fault a new one is opened.
            if result.is_ok() {
                store.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            result.map_err(|error| fault(&error))
        });
        done.await.map_err(|error| Problem::Fault(error.to_string()))?
    }
}

#[tonic::async_trait]
impl Store for Arc<Sqlite> {
    async fn create(&self, wanted: Wanted) -> Result<Lock, Problem> {
        let until = wanted.wait.map(|wait| Instant::now() + wait);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let place = until.map(|_| Place { queue: Arc::clone(&self.queue), key: wanted.key.clone(), number });
        let last_try = Wanted { wait: None, ..wanted.clone() };
        // After the place, so that it is dropped before it.
        let (reply, mut answer) = oneshot::channel();
        self.orders.send(Order::Create { wanted, number, reply }).map_err(|_| stopped())?;
        let Some(until) = until else {
            return answer.await.map_err(|_| stopped())?.map(super::grant::Given::accept);
        };
        if let Ok(answer) = time::timeout_at(until.into(), &mut answer).await {
            return answer.map_err(|_| stopped())?.map(super::grant::Given::accept);
        }
        answer.close();
        // It may have come at the last moment.
        if let Ok(answer) = answer.try_recv() {
            return answer.map(super::grant::Given::accept);
        }
        drop(place);
        self.ask(|reply| Order::Create { wanted: last_try, number, reply }).await
    }

    async fn get(&self, id: &str) -> Result<Lock, Problem> {
        let wanted = id.to_owned();
        let found = self.read(move |connection| table::by_id(connection, &wanted)).await?;
        let mut lock = found.ok_or_else(|| Problem::Unknown(id.to_owned()))?;
        lock.queue = self.queue.of(&lock.key);
        Ok(lock)
    }

    async fn update(&self, id: &str, change: Change) -> Result<Lock, Problem> {
        self.ask(|reply| Order::Update { id: id.to_owned(), change, reply }).await
    }

    async fn remove(&self, id: &str) -> Result<Lock, Problem> {
        self.ask(|reply| Order::Remove { id: id.to_owned(), reply: Some(reply) }).await
    }

    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, Problem> {
        self.ask(|reply| Order::Renew { id: id.to_owned(), ttl, reply }).await
    }

    async fn list(&self, selection: Selection) -> Result<Listing, Problem> {
        let queue = Arc::clone(&self.queue);
        self.read(move |connection| table::list(connection, &selection, |key| queue.of(key))).await
    }

    async fn check(&self) -> Result<(), Problem> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Check { reply }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    fn stop(&self) {
        self.queue.stop();
    }
}

fn fault(error: &rusqlite::Error) -> Problem {
    Problem::Fault(error.to_string())
}

fn stopped() -> Problem {
    Problem::Fault("its thread has ended".to_owned())
}
