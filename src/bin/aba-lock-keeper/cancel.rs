//! Giving back what was begun, when a signal ends the wait: else those behind would wait for one who is gone, until the
//! lease ends.
//!
//! A thread waits for the signals that end a process. What is at the server is written down before it is asked for; so
//! whenever the signal comes, there is nothing that it would not find.

use crate::server;
use crate::settings::Settings;
use crate::sys;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

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

/// From now on a signal that ends us gives back what is pending.
pub(crate) fn on_signals(settings: &Settings) -> (Pending, sys::HeldBack) {
    let held = sys::HeldBack::begin();
    let (pending, settings) = (Pending::default(), settings.clone());
    let theirs = pending.clone();
    // Without a thread to be had, signals are held back until we are done or have given up.
    let _ = thread::Builder::new().spawn(move || {
        let signal = sys::next_signal();
        if let (Some(id), Ok(mut server)) = (theirs.take(), server::connect(&settings)) {
            let _ = server.release(&id);
        }
        sys::die_of(signal)
    });
    (pending, held)
}
