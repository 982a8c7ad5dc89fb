//! The store in one SQLite file, for one service on one machine.
//!
//! The writer thread (`writer`) makes all changes. It takes all commands that are pending into one transaction (`BEGIN
//! IMMEDIATE`, WAL, `synchronous=FULL`), so that the check, the token and the lock are on disk together before a caller
//! gets an answer, and all commands that arrived during the last sync share the next one. A unique constraint
//! guarantees mutual exclusion. Other threads only read.
//!
//! A key has one exclusive lock, or several locks that share it: the writer thread decides about each request with the rule in
//! `aba_lock_protocol::sharing`, from the locks that are in the table at that moment. The table is the only memory of the
//! holders, so a decision and its effect are one transaction. The queue is in memory, because it ends with the connections of
//! the waiters.
//!
//! Two services on one file would have two queues, so `file_lock` excludes a second one. A file that is removed or
//! replaced while it is in use is a fault (`store_files`).
//!
//! # If the service is killed
//!
//! | moment | consequence | recovery |
//! |---|---|---|
//! | before the commit | the lock is free, and no caller got an answer | none is needed |
//! | after the commit, before the answer | the caller does not know that it holds the lock | the lock expires if it has a time to live; otherwise `list` shows it with its `eventId` |
//! | while callers wait | their connections are closed | they ask again |
//! | while one of several holders releases a slot | before the commit, the slot is held; after it, the first waiters hold their locks, too, because the release and the grants are one transaction | as above |
//! | while locks with a time to live are held | their expiry is on disk, in the time of day | the next service gives the unexpired ones their full time to live, because they could not be renewed in between |
//!
//! # Other interleavings
//!
//! | event | consequence |
//! |---|---|
//! | a lock expires while a request for its key arrives | a batch expires locks before it executes commands, so the first waiters get the slot or the key, and the request is decided after them |
//! | a client is stopped, its lock expires, and it continues | its token is smaller than those that were granted since; its renewal and its release get 404, also if its slot has another holder by now, because each acquisition has an id of its own |
//! | the first waiter gives up or disconnects, and the next one could run next to the holders | the departure sends a command to the writer thread, which decides on the queue again |
//! | a waiter disconnects while it is granted | the grant is taken back, which is a release |
//! | a request with another number of slots waits, and the lock is free when its turn comes | it is granted, and its number counts from then on |
//! | the same, and the lock is held with the first number | it is refused when its turn comes, so that it does not delay the others |

pub(crate) mod file_lock;

mod batch;
mod command;
mod history;
mod queue;
mod store_files;
mod table;
mod writer;

use crate::error::CallError;
use crate::event_feed::EventFeed;
use crate::model::{Lock, LockFields, LockKey, LockPage, LockQuery, LockRequest, Waiter};
use crate::past_lock::{EndCause, HistoryPage, HistoryQuery};
use crate::store::grant::{GrantSender, PendingGrant};
use crate::store::lock_store::LockStore;
use crate::telemetry::Telemetry;
use command::WriterCommand;
use queue::{QueueGuard, WaitQueues};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use store_files::StoreFiles;
use table::StoreFileError;
use tokio::sync::{Semaphore, oneshot};
use tokio::time;
use writer::StoreWriter;

/// Maximum number of concurrent readers, because each one opens descriptors.
const MAX_READERS: usize = 8;

pub(crate) struct SqliteStore {
    path: PathBuf,
    commands: Sender<WriterCommand>,
    queues: Arc<WaitQueues>,
    next_number: AtomicU64,
    files: Arc<StoreFiles>,
    /// Connections for reading that are not in use.
    idle_readers: Mutex<Vec<Connection>>,
    reader_permits: Semaphore,
}

impl SqliteStore {
    /// Opens the store in this file, which may be empty. Tokens will be greater than `token_base`.
    pub(crate) fn open(
        path: &Path,
        token_base: u64,
        telemetry: Arc<Telemetry>,
        feed: Arc<EventFeed>,
    ) -> Result<Arc<Self>, StoreFileError> {
        let queues = Arc::new(WaitQueues::new(Arc::clone(&feed)));
        let (commands, pending) = mpsc::channel();
        let writer = StoreWriter::open(path, token_base, Arc::clone(&queues), commands.clone(), telemetry, feed)?;
        let files = writer.files();
        thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(&pending)).map_err(|error| {
            StoreFileError {
                why: format!("cannot start a thread: {}", aba_lock::base::text::format_io_error(&error)),
                hint: None,
            }
        })?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            commands,
            queues,
            next_number: AtomicU64::new(0),
            files,
            idle_readers: Mutex::default(),
            reader_permits: Semaphore::new(MAX_READERS),
        }))
    }

    fn send(&self, command: WriterCommand) -> Result<(), CallError> {
        self.commands.send(command).map_err(|_| writer_ended())
    }

    async fn run_command(&self, new_command: impl FnOnce(GrantSender) -> WriterCommand) -> Result<Lock, CallError> {
        let (reply, answer) = oneshot::channel();
        self.send(new_command(reply))?;
        answer.await.map_err(|_| writer_ended())?.map(PendingGrant::accept)
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, CallError> {
        let store = Arc::clone(self);
        let _permit = self.reader_permits.acquire().await;
        let done = tokio::task::spawn_blocking(move || {
            let idle_readers = || store.idle_readers.lock().unwrap_or_else(PoisonError::into_inner);
            store.files.check()?;
            let idle = idle_readers().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => table::open_to_read(&store.path).map_err(|error| to_fault(&error))?,
            };
            let result = read(&connection);
            // A connection that has failed is not used again.
            if result.is_ok() {
                idle_readers().push(connection);
            }
            result.map_err(|error| to_fault(&error))
        });
        done.await.map_err(|error| CallError::Fault(error.to_string()))?
    }
}

#[tonic::async_trait]
impl LockStore for Arc<SqliteStore> {
    async fn create(&self, request: LockRequest) -> Result<Lock, CallError> {
        let deadline = request.wait.map(|wait| Instant::now() + wait);
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let Some(deadline) = deadline else {
            return self.run_command(|reply| WriterCommand::Create { request, number, reply }).await;
        };
        let guard = QueueGuard {
            queues: Arc::clone(&self.queues),
            key: request.key.clone(),
            number,
            commands: self.commands.clone(),
        };
        let last_try = LockRequest { wait: None, ..request.clone() };
        // The receiver is declared after the guard, so it is dropped before the guard.
        let (reply, mut answer) = oneshot::channel();
        self.send(WriterCommand::Create { request, number, reply })?;
        if let Ok(answer) = time::timeout_at(deadline.into(), &mut answer).await {
            return answer.map_err(|_| writer_ended())?.map(PendingGrant::accept);
        }
        answer.close();
        // The answer may have been sent between the timeout and the close.
        if let Ok(answer) = answer.try_recv() {
            return answer.map(PendingGrant::accept);
        }
        drop(guard);
        self.run_command(|reply| WriterCommand::Create { request: last_try, number, reply }).await
    }

    async fn get(&self, id: &str) -> Result<Lock, CallError> {
        let wanted = id.to_owned();
        let found = self.read(move |connection| table::find_by_id(connection, &wanted)).await?;
        let mut lock = found.ok_or_else(|| CallError::Unknown(id.to_owned()))?;
        lock.queue = self.queues.list(&lock.key);
        Ok(lock)
    }

    async fn update(&self, id: &str, changes: LockFields, by: &str) -> Result<Lock, CallError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.run_command(|reply| WriterCommand::Update { id, changes, by, reply }).await
    }

    async fn remove(&self, id: &str, cause: EndCause) -> Result<Lock, CallError> {
        self.run_command(|reply| WriterCommand::Remove { id: id.to_owned(), cause, reply: Some(reply) }).await
    }

    async fn renew(&self, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError> {
        self.run_command(|reply| WriterCommand::Renew { id: id.to_owned(), ttl, reply }).await
    }

    async fn list(&self, query: LockQuery) -> Result<LockPage, CallError> {
        let queues = Arc::clone(&self.queues);
        self.read(move |connection| table::list_page(connection, &query, |key| queues.list(key))).await
    }

    async fn list_history(&self, query: HistoryQuery) -> Result<HistoryPage, CallError> {
        let before = history::parse_place(&query)?;
        self.read(move |connection| history::list(connection, &query, before)).await
    }

    fn list_waiters(&self, key: &LockKey) -> Vec<Waiter> {
        self.queues.list(key)
    }

    async fn check(&self) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        self.send(WriterCommand::Check { reply })?;
        answer.await.map_err(|_| writer_ended())?
    }

    fn count_waiters(&self) -> usize {
        self.queues.count()
    }

    fn stop(&self) {
        self.queues.close();
    }
}

fn to_fault(error: &rusqlite::Error) -> CallError {
    CallError::Fault(error.to_string())
}

fn writer_ended() -> CallError {
    CallError::Fault("its thread ended unexpectedly".to_owned())
}
