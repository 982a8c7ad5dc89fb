//! Gives back what an acquisition has begun when a signal ends the wait. Otherwise those after it in the queue would wait for a
//! process that has ended, until its lease ends.
//!
//! A thread waits for the signals that end a process. A lease or a place in a queue is noted before the server is asked for it,
//! so the signal may come at any time. Locks that were acquired on this machine are released, too: a shell at its prompt,
//! which goes on after Ctrl-C, has the descriptors open.
//!
//! Where no thread can be created, the acquisition looks for such a signal each time that it reports how the wait goes.

use crate::server;
use crate::settings::Settings;
use crate::sys;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Releases what was acquired on this machine, and calls its argument, which gives back what is at the server.
type LetGo = Box<dyn FnOnce(&mut dyn FnMut()) + Send>;

/// What may be at the server.
#[derive(Clone)]
pub(crate) struct Pending {
    state: Arc<Mutex<State>>,
    /// True if a thread waits for signals.
    has_thread: bool,
}

struct State {
    id: Option<String>,
    settings: Settings,
    /// `None`: a signal came, and is about to end this process.
    let_go: Option<LetGo>,
}

impl Pending {
    /// Notes what there may be at the server from now on. Does not return if a signal came.
    pub(crate) fn set(&self, id: Option<&str>) {
        let mut state = self.lock();
        if state.let_go.is_some() {
            state.id = id.map(str::to_owned);
            return;
        }
        drop(state);
        loop {
            thread::park();
        }
    }

    /// Ends this process if a signal came that no thread waits for.
    pub(crate) fn heed_signals(&self) {
        if !self.has_thread
            && let Some(signal) = sys::signal_that_came()
        {
            self.end_by(signal);
        }
    }

    /// Gives everything back, and ends this process by the signal.
    fn end_by(&self, signal: i32) -> ! {
        let mut state = self.lock();
        let (id, settings, let_go) = (state.id.take(), state.settings.clone(), state.let_go.take());
        drop(state);
        if let Some(let_go) = let_go {
            let_go(&mut || {
                if let (Some(id), Ok(mut server)) = (&id, server::connect(&settings)) {
                    let _ = server.release(id);
                }
            });
        }
        sys::die_of(signal)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives back what is pending when a signal comes.
#[must_use = "it ends with `end`"]
pub(crate) struct Cancel {
    pub(crate) pending: Pending,
    thread: Option<JoinHandle<()>>,
}

impl Cancel {
    /// From now on a signal that is held back ends us, when what is pending was given back.
    pub(crate) fn begin(settings: &Settings) -> Self {
        Self::with(settings, |give_back| give_back())
    }

    /// The same, and `let_go` is called then, with what gives back what is pending.
    pub(crate) fn with(settings: &Settings, let_go: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> Self {
        let state = State { id: None, settings: settings.clone(), let_go: Some(Box::new(let_go)) };
        let mut pending = Pending { state: Arc::new(Mutex::new(state)), has_thread: true };
        let theirs = pending.clone();
        let wait = move || {
            if let Some(signal) = sys::next_signal() {
                theirs.end_by(signal);
            }
        };
        let thread = sys::without_signals(|| thread::Builder::new().spawn(wait)).ok();
        pending.has_thread = thread.is_some();
        Self { pending, thread }
    }

    /// Nothing is pending any more. The thread has ended when this returns: a process that is to be copied, or to wait for a
    /// child, has no other that could take its signals.
    pub(crate) fn end(self) {
        self.pending.set(None);
        if let Some(thread) = self.thread {
            sys::wake(&thread);
            let _ = thread.join();
        }
    }
}
