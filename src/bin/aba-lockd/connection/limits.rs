//! The limit of connections of REST and gRPC together, so that the service never runs out of descriptors.
//!
//! `listener` waits for a permit before it accepts a connection. Further clients stay in the kernel's backlog and are
//! accepted in the order in which they connected. A REST call that waits for a lock needs a second permit.

use crate::error::CallError;
use crate::report;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are reserved for the store, the log and the listening sockets.
const RESERVED: usize = 48;

/// Minimum number of connections, even if the limit of open files is too low for it.
const MIN_CONNECTIONS: usize = 8;

/// Maximum number of connections, because each one uses memory.
const MAX_CONNECTIONS: usize = 65_536;

/// One in this number of connections never waits for a lock, so that holders can always renew and release locks.
const NON_WAITING_SHARE: usize = 4;

/// Connections are scarce if fewer than one in this number is free.
const FREE_SHARE: usize = 4;

/// Minimum interval between two log lines that report that no connection can be accepted.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct ConnectionLimits {
    max: usize,
    connections: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    last_report: Mutex<Option<Instant>>,
}

impl ConnectionLimits {
    /// Raises the limit of open files of this process to its hard limit, and derives the other limits from it.
    pub(crate) fn new() -> Arc<Self> {
        let files = usize::try_from(aba_lock::os::raise_limit_of_open_files()).unwrap_or(usize::MAX);
        let max = files.saturating_sub(RESERVED).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        let (connections, waiting) = (Semaphore::new(max), Semaphore::new(max - max / NON_WAITING_SHARE));
        Arc::new(Self {
            max,
            connections: Arc::new(connections),
            waiting: Arc::new(waiting),
            last_report: Mutex::default(),
        })
    }

    /// Waits until another connection is allowed.
    pub(super) async fn admit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return permit;
        }
        self.report(&format!("all {} connections are in use", self.max));
        Arc::clone(&self.connections).acquire_owned().await.expect("nothing closes the semaphore")
    }

    /// Returns true if few connections are free.
    pub(super) fn are_scarce(&self) -> bool {
        self.connections.available_permits() < self.max / FREE_SHARE
    }

    /// Permits one more call to wait for a lock, until the permit is dropped.
    pub(super) fn permit_wait(&self) -> Result<OwnedSemaphorePermit, CallError> {
        Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| CallError::TooMany)
    }

    /// Logs why no connection can be accepted, at most once a minute.
    pub(super) fn report(&self, why: &str) {
        let mut last_report = self.last_report.lock().unwrap_or_else(PoisonError::into_inner);
        if last_report.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        *last_report = Some(Instant::now());
        report::log_message("error", "no_connection", why);
    }
}
