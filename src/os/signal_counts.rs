//! Counters that signal handlers write, and that the timer reads before it is set: a signal that came since the caller
//! last looked must not be lost.

use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Number of SIGALRM signals so far.
static ALARMS_SEEN: AtomicIsize = AtomicIsize::new(0);

/// Value of [`ALARMS_SEEN`] when the caller of a [`Bell`](super::watch::Bell) last looked; -1 if there is no bell.
static BELL_LOOKED: AtomicIsize = AtomicIsize::new(-1);

/// True once SIGINT came while [`Interrupts`](super::interrupt::Interrupts) existed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Counts one SIGALRM. For signal handlers.
pub(super) fn count_alarm() {
    ALARMS_SEEN.fetch_add(1, Ordering::SeqCst);
}

/// Notes that the caller of a bell looks now.
pub(super) fn note_look() {
    BELL_LOOKED.store(ALARMS_SEEN.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// Notes that there is no bell.
pub(super) fn forget_bell() {
    BELL_LOOKED.store(-1, Ordering::SeqCst);
}

/// Returns true if there is a bell, and perhaps a change since its caller looked.
pub(super) fn bell_rang() -> bool {
    let looked = BELL_LOOKED.load(Ordering::SeqCst);
    looked >= 0 && looked != ALARMS_SEEN.load(Ordering::SeqCst)
}

/// Notes SIGINT. For signal handlers.
pub(super) fn note_interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Returns true if SIGINT came.
pub(super) fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
