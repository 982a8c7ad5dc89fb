//! Signal sets and the signal mask of a thread (sigsetops(3), `pthread_sigmask(3)`). Masks are inherited by new
//! threads, by children and across execve(2).

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::ptr;

/// A set of signals.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignalSet(pub(super) libc::sigset_t);

impl SignalSet {
    pub(super) fn new(signals: &[libc::c_int]) -> Self {
        // SAFETY: all bytes zero are valid for this type, and the pointer lives until each call returns.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            Self(set)
        }
    }

    /// All signals except these.
    pub(super) fn all_but(signals: &[libc::c_int]) -> Self {
        // SAFETY: all bytes zero are valid for this type, and the pointer lives until each call returns.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&raw mut set);
            for signal in signals {
                libc::sigdelset(&raw mut set, *signal);
            }
            Self(set)
        }
    }

    pub(super) fn contains(&self, signal: libc::c_int) -> bool {
        // SAFETY: the set was initialized by a constructor or by the kernel.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }

    /// Adds these signals to the mask of this thread. Returns the mask before.
    pub(super) fn block(&self) -> Self {
        self.change_mask(libc::SIG_BLOCK)
    }

    /// Removes these signals from the mask of this thread. Returns the mask before.
    pub(super) fn unblock(&self) -> Self {
        self.change_mask(libc::SIG_UNBLOCK)
    }

    /// Makes this set the mask of this thread. Returns the mask before.
    pub(super) fn set_mask(&self) -> Self {
        self.change_mask(libc::SIG_SETMASK)
    }

    /// Makes this set the mask of this thread.
    pub(super) fn restore(&self) {
        // SAFETY: the pointer lives until the call returns.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }

    fn change_mask(&self, how: libc::c_int) -> Self {
        // SAFETY: all bytes zero are valid for this type, and the pointers live until the call returns.
        unsafe {
            let mut old: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(how, &raw const self.0, &raw mut old);
            Self(old)
        }
    }
}
