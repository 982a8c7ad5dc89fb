//! Ctrl-C while somebody else's work goes on: to be noticed, so that the user can be told, and then died of.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

static SEEN: AtomicBool = AtomicBool::new(false);

/// Notices SIGINT, which then only ends what blocks: [`super::Watch::wait`]. Dropping it puts back what was in force.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Interrupts {
    old_action: libc::sigaction,
    old_mask: libc::sigset_t,
}

impl Interrupts {
    /// Begins to notice. It stays ignored where our parent ignores it, as for a background job.
    pub fn notice() -> Self {
        extern "C" fn seen(_: libc::c_int) {
            SEEN.store(true, Ordering::Relaxed);
        }
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns; the handler only
        // stores into an atomic.
        unsafe {
            let (mut notice, mut action): (Self, libc::sigaction) = mem::zeroed();
            action.sa_sigaction = seen as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(libc::SIGINT, ptr::null(), &raw mut notice.old_action);
            libc::sigprocmask(libc::SIG_BLOCK, ptr::null(), &raw mut notice.old_mask);
            if notice.old_action.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut());
                // It is let in by the wait alone (ppoll(2)): one that comes just before that would be slept over.
                #[cfg(target_os = "linux")]
                {
                    let mut set: libc::sigset_t = mem::zeroed();
                    libc::sigemptyset(&raw mut set);
                    libc::sigaddset(&raw mut set, libc::SIGINT);
                    libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
                }
            }
            notice
        }
    }

    /// Whether one came.
    #[must_use]
    pub fn came(&self) -> bool {
        SEEN.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // SAFETY: both were filled by the calls in `notice`.
        unsafe {
            libc::sigaction(libc::SIGINT, &raw const self.old_action, ptr::null_mut());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
        }
    }
}

/// Dies of SIGINT. A shell whose command merely ends with 130 takes it that the command has dealt with the Ctrl-C, and
/// goes on with the script.
pub fn die_of_interrupt() {
    // SAFETY: all bytes zero are valid for these types (SIG_DFL is zero), and they live until each call returns.
    unsafe {
        let standard: libc::sigaction = mem::zeroed();
        libc::sigaction(libc::SIGINT, &raw const standard, ptr::null_mut());
        libc::raise(libc::SIGINT);
    }
}
