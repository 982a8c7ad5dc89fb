//! The background tasks of the store. They survive the request that started them, and end with the service.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time;

/// Maximum time that the end of the service waits for the tasks.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct BackgroundTasks {
    runtime: Handle,
    /// Tasks that must complete.
    finite: Mutex<JoinSet<()>>,
    /// Tasks that run until the service ends.
    endless: Mutex<JoinSet<()>>,
}

fn lock(tasks: &Mutex<JoinSet<()>>) -> MutexGuard<'_, JoinSet<()>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BackgroundTasks {
    /// Creates a set of tasks that run on the current runtime.
    pub(super) fn new() -> Self {
        Self { runtime: Handle::current(), finite: Mutex::default(), endless: Mutex::default() }
    }

    /// Runs a task to completion, even if the caller is dropped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut finite = lock(&self.finite);
        while finite.try_join_next().is_some() {}
        finite.spawn_on(task, &self.runtime);
    }

    pub(super) fn spawn_endless(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.endless).spawn_on(task, &self.runtime);
    }

    /// Waits for the tasks that must complete, then stops the others.
    pub(super) async fn close(&self) {
        let all_complete = async {
            // A task may spawn another one.
            loop {
                let mut finite = std::mem::take(&mut *lock(&self.finite));
                if finite.is_empty() {
                    return;
                }
                while finite.join_next().await.is_some() {}
            }
        };
        let _ = time::timeout(CLOSE_TIMEOUT, all_complete).await;
        let mut endless = std::mem::take(&mut *lock(&self.endless));
        endless.shutdown().await;
    }
}
