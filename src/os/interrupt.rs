//! Ctrl-C during a wait for another process: this process notes it, so that it can report to the user before it ends.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal_action::SignalAction;
use super::signal_counts;
use super::timer::Alarm;
use std::time::Duration;

/// Notes SIGINT, which then only makes blocking calls fail with [`std::io::ErrorKind::Interrupted`]. Dropping this
/// value restores the previous action.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Interrupts {
    old: SignalAction,
    alarm: Alarm,
}

impl Interrupts {
    /// Begins to note SIGINT. It stays ignored if our parent ignores it, as for a background job.
    pub fn notice() -> Self {
        extern "C" fn handle(_: libc::c_int) {
            signal_counts::note_interrupt();
            // The signal may have come just before the call that it should end.
            Alarm::soon();
        }
        let alarm = Alarm::new();
        // SAFETY: the handler stores into an atomic and makes one system call, which signal-safety(7) allows.
        let old = unsafe { SignalAction::handle(handle) }.replace_unless_ignored(libc::SIGINT);
        Self { old, alarm }
    }

    /// Returns true if SIGINT came.
    #[must_use]
    pub fn came(&self) -> bool {
        signal_counts::was_interrupted()
    }

    /// Makes blocking calls also fail after this time.
    pub fn or_after(&self, span: Option<Duration>) {
        self.alarm.after(span);
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.old.install(libc::SIGINT);
    }
}

/// The signals that keys of the terminal send: Ctrl-C and Ctrl-\.
const KEYBOARD: [libc::c_int; 2] = [libc::SIGINT, libc::SIGQUIT];

/// Returns true if this process ignores SIGINT or SIGQUIT.
#[must_use]
pub fn ignores_keyboard() -> bool {
    KEYBOARD.iter().any(|signal| SignalAction::current(*signal).is_ignore())
}

/// Makes SIGINT and SIGQUIT end this process, even if its parent made it ignore them.
pub fn heed_keyboard() {
    for signal in KEYBOARD {
        SignalAction::standard().install(signal);
    }
}
