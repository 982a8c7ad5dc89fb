//! A second thread, for what goes on beside a call that blocks. It never takes a lock, and has ended when the wait has.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::ptr;

/// A thread of this process, to be nudged.
#[derive(Debug, Clone, Copy)]
pub struct ThreadId(libc::pthread_t);

impl ThreadId {
    /// This one.
    #[must_use]
    pub fn current() -> Self {
        // SAFETY: it cannot fail.
        Self(unsafe { libc::pthread_self() })
    }

    /// Makes a system call in which it blocks end, under [`super::Alarm`]. It must not have been joined yet.
    pub fn nudge(self) {
        // SAFETY: the thread has not been joined, so its number is its own.
        unsafe { libc::pthread_kill(self.0, libc::SIGALRM) };
    }
}

/// Runs `start`, so that the threads that it starts leave every signal to this one; but for the alarm, by which they can be
/// nudged, and which goes to the first thread when it comes of itself.
pub fn with_signals_left_to_us<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigdelset(&raw mut all, libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let done = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut());
        done
    }
}
