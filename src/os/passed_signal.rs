//! The signal that was passed on to a child last, and the function that passes one on. Signal handlers use both.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal::signal_child;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// True while there is a [`Forward`](super::forward::Forward).
pub(super) static BEGUN: AtomicBool = AtomicBool::new(false);
/// The last signal that came; 0 if none did.
pub(super) static CAME: AtomicI32 = AtomicI32::new(0);
/// The child that gets the signals; 0 if there is none.
pub(super) static CHILD: AtomicI32 = AtomicI32::new(0);

/// Treats a signal that is not one of these as if it was, where there is a [`Forward`](super::forward::Forward). For signal handlers.
pub(super) fn note(signal: libc::c_int) -> bool {
    let begun = BEGUN.load(Ordering::SeqCst);
    if begun {
        CAME.store(signal, Ordering::Relaxed);
        pass_on(signal, false);
    }
    begun
}

/// A terminal sends to the whole group: a second one would be "now, without cleaning up" to many programs.
pub(super) fn pass_on(signal: libc::c_int, by_kernel: bool) {
    let child = CHILD.load(Ordering::Relaxed);
    // SAFETY: both only ask.
    let is_sent_already = || by_kernel && unsafe { libc::getpgid(child) == libc::getpgrp() };
    if child > 0 && !is_sent_already() {
        signal_child(child, signal);
    }
}
