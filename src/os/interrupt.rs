//! Ctrl-C while somebody else's work goes on: to be noticed, so that the user can be told, and then died of.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal_counts;
use super::timer::Alarm;
use std::mem;
use std::ptr;
use std::time::Duration;

/// Notices SIGINT, which then only makes blocking calls end, with [`std::io::ErrorKind::Interrupted`]. Dropping it puts
/// back what was in force.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Interrupts {
    old: libc::sigaction,
    alarm: Alarm,
}

impl Interrupts {
    /// Begins to notice. It stays ignored where our parent ignores it, as for a background job.
    pub fn notice() -> Self {
        extern "C" fn seen(_: libc::c_int) {
            signal_counts::note_interrupt();
            // It may have come just before the call that it is to end.
            Alarm::soon();
        }
        let alarm = Alarm::new();
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns; the handler stores
        // into an atomic and makes one system call.
        unsafe {
            let (mut old, mut action): (libc::sigaction, libc::sigaction) = mem::zeroed();
            action.sa_sigaction = seen as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(libc::SIGINT, ptr::null(), &raw mut old);
            if old.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut());
            }
            Self { old, alarm }
        }
    }

    /// Whether one came.
    #[must_use]
    pub fn came(&self) -> bool {
        signal_counts::was_interrupted()
    }

    /// Makes blocking calls end also when this time has passed.
    pub fn or_after(&self, span: Option<Duration>) {
        self.alarm.after(span);
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // SAFETY: it was filled by the call in `notice`.
        unsafe {
            libc::sigaction(libc::SIGINT, &raw const self.old, ptr::null_mut());
        }
    }
}

const KEYBOARD: [libc::c_int; 2] = [libc::SIGINT, libc::SIGQUIT];

/// Returns true if this process ignores SIGINT or SIGQUIT.
#[must_use]
pub fn ignores_keyboard() -> bool {
    KEYBOARD.iter().any(|signal| {
        // SAFETY: all bytes zero are valid for this type, and it lives until the call returns.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            libc::sigaction(*signal, ptr::null(), &raw mut action);
            action.sa_sigaction == libc::SIG_IGN
        }
    })
}

/// Makes SIGINT and SIGQUIT end this process, even if its parent made it ignore them.
pub fn heed_keyboard() {
    for signal in KEYBOARD {
        // SAFETY: all bytes zero are valid for this type (SIG_DFL is zero), and it lives until the call returns.
        unsafe {
            let standard: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, &raw const standard, ptr::null_mut());
        }
    }
}
