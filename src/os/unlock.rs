//! Being ended while we wait for one more lock of a script's: those that we have taken already are on descriptors of the
//! script, so our end alone would not release them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal::die_of;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// More than a shell library has descriptors for.
const MOST: usize = 64;

static TAKEN: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];

/// Has INT, TERM, HUP and QUIT release locks before they end us. Dropping it puts back what was in force.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct UnlocksAtEnd {
    old: Option<[libc::sigaction; 4]>,
}

impl UnlocksAtEnd {
    /// Begins with these descriptors; does nothing if there are none. What our parent ignores stays ignored.
    pub fn begin(taken: &[RawFd]) -> Self {
        extern "C" fn seen(signal: libc::c_int) {
            for fd in TAKEN.iter().map(|fd| fd.load(Ordering::Relaxed)).take_while(|fd| *fd >= 0) {
                // SAFETY: it takes numbers, and may be called in a signal.
                unsafe { libc::flock(fd, libc::LOCK_UN) };
            }
            die_of(signal);
        }
        if taken.is_empty() {
            return Self { old: None };
        }
        for (at, fd) in taken.iter().take(MOST).enumerate() {
            TAKEN[at].store(*fd, Ordering::Relaxed);
        }
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns; the handler loads from
        // atomics, and makes system calls that are safe in a signal. It stays blocked there until it has returned.
        unsafe {
            let (mut old, mut action): ([libc::sigaction; 4], libc::sigaction) = mem::zeroed();
            action.sa_sigaction = seen as extern "C" fn(libc::c_int) as libc::sighandler_t;
            for (signal, old) in SIGNALS.iter().zip(&mut old) {
                libc::sigaction(*signal, ptr::null(), old);
                if old.sa_sigaction != libc::SIG_IGN {
                    libc::sigaction(*signal, &raw const action, ptr::null_mut());
                }
            }
            Self { old: Some(old) }
        }
    }
}

impl Drop for UnlocksAtEnd {
    fn drop(&mut self) {
        for (signal, old) in SIGNALS.iter().zip(self.old.iter().flatten()) {
            // SAFETY: it was filled by the call in `begin`.
            unsafe { libc::sigaction(*signal, &raw const *old, ptr::null_mut()) };
        }
        if self.old.is_some() {
            for fd in &TAKEN {
                fd.store(-1, Ordering::Relaxed);
            }
        }
    }
}
