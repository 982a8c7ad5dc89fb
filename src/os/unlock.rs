//! Releases locks when a signal ends this process while it waits for one more lock.
//!
//! A script can ask for several locks at once. The locks that are acquired already are on descriptors of the script, so
//! the end of this process would not release them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal::die_of;
use super::signal_action::SignalAction;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The maximum number of locks. The shell library has fewer descriptors for locks (200 to 254).
const MAX_LOCKS: usize = 64;

/// The descriptors whose locks the handler releases; -1 after the last one.
static TAKEN: [AtomicI32; MAX_LOCKS] = [const { AtomicI32::new(-1) }; MAX_LOCKS];

/// True if the locks are those of fcntl(2).
static ARE_RANGES: AtomicBool = AtomicBool::new(false);

/// Makes INT, TERM, HUP and QUIT release locks before they end this process. Dropping it restores the previous
/// actions.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct UnlocksAtEnd {
    old: Option<[SignalAction; 4]>,
}

impl UnlocksAtEnd {
    /// Installs the signal handlers for the locks on these descriptors: those of flock(2), or those of fcntl(2) on whole files.
    /// Does nothing if there are none. An ignored signal stays ignored.
    pub fn begin(taken: &[RawFd], are_ranges: bool) -> Self {
        extern "C" fn handle(signal: libc::c_int) {
            for fd in TAKEN.iter().map(|fd| fd.load(Ordering::Relaxed)).take_while(|fd| *fd >= 0) {
                if ARE_RANGES.load(Ordering::Relaxed) {
                    unlock_whole_file(fd);
                } else {
                    // SAFETY: it takes numbers, and may be called in a signal handler.
                    unsafe { libc::flock(fd, libc::LOCK_UN) };
                }
            }
            die_of(signal);
        }
        if taken.is_empty() {
            return Self { old: None };
        }
        for (slot, fd) in TAKEN.iter().zip(taken) {
            slot.store(*fd, Ordering::Relaxed);
        }
        ARE_RANGES.store(are_ranges, Ordering::Relaxed);
        // SAFETY: the handler loads from atomics, and makes system calls that signal-safety(7) allows. The signal stays
        // blocked until the handler has returned.
        let action = unsafe { SignalAction::handle(handle) };
        Self { old: Some(SIGNALS.map(|signal| action.replace_unless_ignored(signal))) }
    }
}

/// Releases the locks of fcntl(2) that belong to the description of `fd`. May be called in a signal handler.
fn unlock_whole_file(fd: RawFd) {
    #[cfg(linux)]
    // SAFETY: all bytes zero are a valid `flock`: from byte 0 to the end. It lives until the call returns, and signal-safety(7) allows
    // the call.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::c_short::try_from(libc::F_UNLCK).unwrap_or_default();
        libc::fcntl(fd, libc::F_OFD_SETLK, &raw mut lock);
    }
    #[cfg(not(linux))]
    let _ = fd;
}

impl Drop for UnlocksAtEnd {
    fn drop(&mut self) {
        for (signal, old) in SIGNALS.iter().zip(self.old.iter().flatten()) {
            old.install(*signal);
        }
        if self.old.is_some() {
            for fd in &TAKEN {
                fd.store(-1, Ordering::Relaxed);
            }
        }
    }
}
