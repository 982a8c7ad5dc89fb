//! The last signal that was passed on to a child, and the function that passes one on. Only signal handlers and
//! [`Forward`](super::forward::Forward) use them.

use super::signal::{is_in_our_group, signal_child};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// True while a [`Forward`](super::forward::Forward) exists.
pub(super) static IS_FORWARDING: AtomicBool = AtomicBool::new(false);
/// The last signal that came; 0 if none did.
pub(super) static LAST_SIGNAL: AtomicI32 = AtomicI32::new(0);
/// The child that gets the signals; 0 if there is none.
pub(super) static CHILD: AtomicI32 = AtomicI32::new(0);

/// Treats a signal like a forwarded one. Returns false, and does nothing, if no [`Forward`](super::forward::Forward)
/// exists.
pub(super) fn note(signal: libc::c_int) -> bool {
    let is_forwarding = IS_FORWARDING.load(Ordering::SeqCst);
    if is_forwarding {
        LAST_SIGNAL.store(signal, Ordering::Relaxed);
        pass_on(signal, false);
    }
    is_forwarding
}

/// Sends a signal to the child, unless the kernel sent it to the whole process group because of a key on the terminal.
pub(super) fn pass_on(signal: libc::c_int, by_kernel: bool) {
    let child = CHILD.load(Ordering::Relaxed);
    if child > 0 && !(by_kernel && is_in_our_group(child)) {
        signal_child(child, signal);
    }
}
