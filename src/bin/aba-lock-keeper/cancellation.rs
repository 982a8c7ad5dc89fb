//! Signals during an acquisition: when a signal ends the wait, the lease or the place in the queue is given back.
//! Otherwise the waiters after this process would wait until the lease of a process that has ended expires.
//!
//! A thread waits for the signals that end a process. The id of a lease or of a place in a queue is noted before the
//! request for it is sent, so the signal may come at any time. Local locks that were acquired are released, too: an
//! interactive shell, which survives Ctrl-C, still has their descriptors open.
//!
//! If no thread can be created, the acquisition checks for a signal each time that it notes an id or reports the
//! progress of its wait.
//!
//! # Interleavings
//!
//! "Main" is the thread that acquires, and "the thread" the one that waits for signals.
//!
//! | a signal arrives | what happens |
//! |---|---|
//! | before the id is noted | the thread ends this process. Main stops where it would note the id |
//! | while a request for the lease is on its way | the server may grant it after a search for the lease on another connection. So the thread keeps main from sending more, waits for the answer ([`in_flight`]), and then gives back |
//! | while a request waits at the server | its connection is closed for writing, so the server removes it from the queue. If the lease was granted a moment before, it is found and given back |
//! | the answer to a request does not arrive | the server may act on it later, so the thread looks for the lease again and again, for [`DOUBT_LIMIT`]. A lease that is granted after that ends after its first time to live (at most 30 s at a lock service) |
//! | after the answer, and before [`Cancellation::end`] | the thread gives the lease back, and main stops at its next request or in `end` |
//! | during `end`, and the thread has it before main says that the acquisition is over | as above: `end` does not return |
//! | during `end`, after that | the thread sends the signal to this process again, where it stays pending. The caller of `end` looks for it |
//! | after `end` | it is blocked until the caller looks for it, restores the mask, or exits |

use crate::os::clock::Moment;
use crate::os::signal;
use crate::server::{connect, in_flight};
use crate::settings::Settings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Releases the local locks. Its argument is a function that gives back the pending lease at the server.
type LocalRelease = Box<dyn FnOnce(&mut dyn FnMut()) + Send>;

/// The time in which a lease is looked for again if the server may still act on a request. A CI runner kills a cancelled job after
/// 7.5 s.
const DOUBT_LIMIT: Duration = Duration::from_millis(2500);

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// The id of a lease, or of a place in a queue, that may exist at the server. The acquisition and the thread share it.
#[derive(Clone)]
pub(crate) struct PendingLease {
    state: Arc<Mutex<PendingState>>,
    /// The process whose end ends the acquisition, too.
    parent: Option<u32>,
    /// True if a thread waits for signals.
    has_thread: bool,
}

struct PendingState {
    id: Option<String>,
    settings: Settings,
    /// `None`: a signal has arrived and is about to end this process.
    release: Option<LocalRelease>,
    /// True if the caller of [`Cancellation::end`] handles signals from now on.
    is_over: bool,
}

impl PendingLease {
    /// Notes the id that may exist at the server from now on. Does not return if a signal has arrived.
    pub(crate) fn set_id(&self, id: &str) {
        self.change(|state| state.id = Some(id.to_owned()));
    }

    /// Changes the state. Does not return if a signal is about to end this process.
    fn change(&self, change: impl FnOnce(&mut PendingState)) {
        let mut state = self.lock_state();
        if state.release.is_some() {
            change(&mut state);
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
            && let Some(signal) = signal::take_signal_or_end(self.parent)
        {
            self.handle_signal(signal);
        }
    }

    /// Gives everything back, and ends this process by the signal. If the acquisition is over, returns after it has sent the signal
    /// to this process again, in which all threads block it.
    fn handle_signal(&self, signal: i32) {
        let mut state = self.lock_state();
        if state.is_over {
            aba_lock::os::signal_self(signal);
            return;
        }
        let (id, settings, release) = (state.id.take(), state.settings.clone(), state.release.take());
        drop(state);
        in_flight::stop_others();
        in_flight::wait_for_answers();
        if let Some(release) = release {
            release(&mut || {
                if let Some(id) = &id {
                    give_back(&settings, id);
                }
            });
        }
        signal::die_of_signal(signal)
    }

    fn lock_state(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a lease back, or a place in a queue, which may not exist yet.
fn give_back(settings: &Settings, id: &str) {
    let (end, is_in_doubt) = (Moment::now().plus(DOUBT_LIMIT), in_flight::is_in_doubt());
    loop {
        let _ = connect::connect(settings).and_then(|mut server| server.release(id));
        if !is_in_doubt || end.is_past() {
            return;
        }
        thread::sleep(LOOK_PAUSE);
    }
}

/// The reaction to signals during an acquisition.
#[must_use = "it must be ended with `end`"]
pub(crate) struct Cancellation {
    pub(crate) pending: PendingLease,
    thread: Option<JoinHandle<()>>,
}

impl Cancellation {
    /// Starts the reaction: a blocked signal gives the pending lease back, and ends this process. With a `parent`, the end of that
    /// process does the same.
    pub(crate) fn begin(settings: &Settings, parent: Option<u32>) -> Self {
        Self::start(settings, parent, Box::new(|give_back| give_back()))
    }

    /// Like [`Self::begin`], but calls `release`, whose argument is a function that gives the pending lease back.
    pub(crate) fn begin_with(settings: &Settings, release: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> Self {
        Self::start(settings, None, Box::new(release))
    }

    fn start(settings: &Settings, parent: Option<u32>, release: LocalRelease) -> Self {
        let state = PendingState { id: None, settings: settings.clone(), release: Some(release), is_over: false };
        let mut pending = PendingLease { state: Arc::new(Mutex::new(state)), parent, has_thread: true };
        let thread_pending = pending.clone();
        let wait = move || {
            if let Some(signal) = signal::wait_for_signal(parent) {
                thread_pending.handle_signal(signal);
            }
        };
        let thread = signal::with_signals_blocked(|| thread::Builder::new().spawn(wait)).ok();
        pending.has_thread = thread.is_some();
        Self { pending, thread }
    }

    /// Ends the reaction to signals. The thread has ended when this returns: a process that forks, or that waits for a
    /// child, must have no other thread that could take its signals. Does not return if a signal is about to end this process.
    ///
    /// A later signal is pending, so the caller must look for it ([`signal::BlockedSignals::find_pending`]) before it leaves the lease
    /// to another process.
    pub(crate) fn end(self) {
        self.pending.change(|state| state.is_over = true);
        if let Some(thread) = self.thread {
            signal::wake_thread(&thread);
            let _ = thread.join();
        }
    }
}
