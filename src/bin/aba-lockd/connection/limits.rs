//! The number of connections, of REST and gRPC together: no more than there are descriptors for. Others stay in the backlog
//! of the kernel, and are accepted in the order in which they came.

use crate::model::Problem;
use crate::report;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are left to the store, the log and the listening sockets.
const RESERVED: usize = 48;

/// The number of connections where there are too few descriptors even for this.
const FEWEST: usize = 8;

/// Maximum number of connections, however many descriptors there may be: each costs memory.
const MOST: usize = 65_536;

/// One of this number of connections is kept free of callers that wait for a lock, for those that renew or release one.
const NOT_WAITING: usize = 4;

/// There is a crowd if fewer than one of this number of connections is free.
const FREE: usize = 4;

/// Minimum time between two log lines that say that no connection can be accepted.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// How many connections there may be, and how many of them may wait for a lock.
pub(crate) struct Limits {
    most: usize,
    connections: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    reported: Mutex<Option<Instant>>,
}

impl Limits {
    /// Raises the limit of open files of this process to its hard limit, and derives the others from it.
    pub(crate) fn new() -> Arc<Self> {
        let files = usize::try_from(aba_lock::os::raise_limit_of_open_files()).unwrap_or(usize::MAX);
        let most = files.saturating_sub(RESERVED).clamp(FEWEST, MOST);
        let (connections, waiting) = (Semaphore::new(most), Semaphore::new(most - most / NOT_WAITING));
        Arc::new(Self {
            most,
            connections: Arc::new(connections),
            waiting: Arc::new(waiting),
            reported: Mutex::default(),
        })
    }

    /// Waits until there is room for another connection.
    pub(super) async fn admit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return permit;
        }
        self.report(&format!("all {} connections are in use", self.most));
        Arc::clone(&self.connections).acquire_owned().await.expect("nothing closes the semaphore")
    }

    /// Returns true if most of the connections are in use.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.available_permits() < self.most / FREE
    }

    /// Room for a connection that waits for a lock, until it is dropped.
    pub(super) fn wait(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Problem::TooMany)
    }

    /// Logs why no connection can be accepted, at most once a minute.
    pub(super) fn report(&self, why: &str) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_some_and(|reported| reported.elapsed() < REPORT_EVERY) {
            return;
        }
        *reported = Some(Instant::now());
        report::message("error", "no_connection", why);
    }
}
