//! Giving back what was begun, when a signal ends the wait: else those behind would wait for one who is gone, until the
//! lease ends.
//!
//! A thread waits for the signals that end a process. What is at the server is written down before it is asked for; so
//! whenever the signal comes, there is nothing that it would not find. What was had before that, here, is let go of too: a
//! shell at its prompt, which goes on after Ctrl-C, has the descriptors open.

use crate::server;
use crate::settings::Settings;
use crate::sys;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// What may be at the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    id: Option<String>,
    /// A signal came, and gives it back.
    over: bool,
}

impl Pending {
    /// There may be this now, or nothing any more. Does not return if a signal came: it is about to end us.
    pub(crate) fn set(&self, id: Option<&str>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.over {
            state.id = id.map(str::to_owned);
            return;
        }
        drop(state);
        loop {
            thread::park();
        }
    }

    fn take(&self) -> Option<String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.over = true;
        state.id.take()
    }
}

/// A thread that waits for signals, and gives back what is pending when one comes.
#[derive(Debug)]
#[must_use = "it ends with `end`"]
pub(crate) struct Cancel {
    pub(crate) pending: Pending,
    /// `None`: there was no thread to be had. Then signals, which are held back, wait until we are done or have given up.
    thread: Option<JoinHandle<()>>,
}

impl Cancel {
    /// From now on a signal that is held back ends us, when what is pending was given back.
    pub(crate) fn begin(settings: &Settings) -> Self {
        Self::with(settings, |give_back| give_back())
    }

    /// The same, and `let_go` is called then, with what gives back what is pending.
    pub(crate) fn with(settings: &Settings, let_go: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> Self {
        let (pending, settings) = (Pending::default(), settings.clone());
        let theirs = pending.clone();
        let thread = sys::without_signals(|| {
            thread::Builder::new().spawn(move || {
                let Some(signal) = sys::next_signal() else { return };
                let id = theirs.take();
                let_go(&mut || {
                    if let (Some(id), Ok(mut server)) = (&id, server::connect(&settings)) {
                        let _ = server.release(id);
                    }
                });
                sys::die_of(signal)
            })
        });
        Self { pending, thread: thread.ok() }
    }

    /// Nothing is pending any more. The thread has ended when this returns: a process that is to be copied, or to wait for a
    /// child, has none beside it that could take its signals.
    pub(crate) fn end(self) {
        self.pending.set(None);
        if let Some(thread) = self.thread {
            sys::wake(&thread);
            let _ = thread.join();
        }
    }
}
