//! Signals during an acquisition: when a signal ends the wait, the lease or the place in the queue is given back.
//! Otherwise the waiters after this process would wait until the lease of a process that has ended expires.
//!
//! A thread waits for the signals that end a process. The id of a lease or of a place in a queue is noted before the
//! request for it is sent, so the signal may come at any time. Local locks that were acquired are released, too: an
//! interactive shell, which survives Ctrl-C, still has their descriptors open.
//!
//! If no thread can be created, the acquisition checks for a signal each time that it notes an id or reports the
//! progress of its wait.

use crate::os::signal;
use crate::server::connect;
use crate::settings::Settings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Releases the local locks. Its argument is a function that gives back the pending lease at the server.
type LocalRelease = Box<dyn FnOnce(&mut dyn FnMut()) + Send>;

/// The id of a lease, or of a place in a queue, that may exist at the server. The acquisition and the thread share it.
#[derive(Clone)]
pub(crate) struct PendingLease {
    state: Arc<Mutex<PendingState>>,
    /// True if a thread waits for signals.
    has_thread: bool,
}

struct PendingState {
    id: Option<String>,
    settings: Settings,
    /// `None`: a signal has arrived and is about to end this process.
    release: Option<LocalRelease>,
}

impl PendingLease {
    /// Notes the id that may exist at the server from now on. Does not return if a signal has arrived.
    pub(crate) fn set_id(&self, id: Option<&str>) {
        let mut state = self.lock_state();
        if state.release.is_some() {
            state.id = id.map(str::to_owned);
            return;
        }
        drop(state);
        loop {
            thread::park();
        }
    }

    /// Ends this process if a signal has arrived and no thread waits for it.
    pub(crate) fn check_signals(&self) {
        if !self.has_thread
            && let Some(signal) = signal::take_signal()
        {
            self.end_process(signal);
        }
    }

    /// Gives everything back, and ends this process by the signal.
    fn end_process(&self, signal: i32) -> ! {
        let mut state = self.lock_state();
        let (id, settings, release) = (state.id.take(), state.settings.clone(), state.release.take());
        drop(state);
        if let Some(release) = release {
            release(&mut || {
                if let (Some(id), Ok(mut server)) = (&id, connect::connect(&settings)) {
                    let _ = server.release(id);
                }
            });
        }
        signal::die_of_signal(signal)
    }

    fn lock_state(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reaction to signals during an acquisition.
#[must_use = "it must be ended with `end`"]
pub(crate) struct Cancellation {
    pub(crate) pending: PendingLease,
    thread: Option<JoinHandle<()>>,
}

impl Cancellation {
    /// Starts the reaction: a blocked signal gives the pending lease back, and ends this process.
    pub(crate) fn begin(settings: &Settings) -> Self {
        Self::begin_with(settings, |give_back| give_back())
    }

    /// Like [`Self::begin`], but calls `release`, whose argument is a function that gives the pending lease back.
    pub(crate) fn begin_with(settings: &Settings, release: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> Self {
        let state = PendingState { id: None, settings: settings.clone(), release: Some(Box::new(release)) };
        let mut pending = PendingLease { state: Arc::new(Mutex::new(state)), has_thread: true };
        let thread_pending = pending.clone();
        let wait = move || {
            if let Some(signal) = signal::wait_for_signal() {
                thread_pending.end_process(signal);
            }
        };
        let thread = signal::with_signals_blocked(|| thread::Builder::new().spawn(wait)).ok();
        pending.has_thread = thread.is_some();
        Self { pending, thread }
    }

    /// Ends the reaction to signals. The thread has ended when this returns: a process that forks, or that waits for a
    /// child, must have no other thread that could take its signals.
    pub(crate) fn end(self) {
        self.pending.set_id(None);
        if let Some(thread) = self.thread {
            signal::wake_thread(&thread);
            let _ = thread.join();
        }
    }
}
