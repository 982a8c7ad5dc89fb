//! Passes signals on to a child while this process waits for it and also does other work, as `update` does with its
//! command.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::passed_signal::{CHILD, IS_FORWARDING, LAST_SIGNAL, pass_on};
use super::signal_action::SignalAction;
use super::timer::Alarm;
use super::wait::{decode_status, wait_for_child};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The time that a command gets to end after a signal, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// The signals that are passed on. SIGPIPE is among them because our own output may be closed. The command gets its
/// default action back.
const SIGNALS: [libc::c_int; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];

/// Passes INT, TERM, HUP, QUIT and PIPE on, and the end of an inherited timer. While this value lives, these signals do
/// not end this process, but make blocking calls fail with [`std::io::ErrorKind::Interrupted`]. Dropping the value
/// restores the previous actions.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Forward {
    old: [SignalAction; 5],
    old_child: SignalAction,
    since: Cell<Option<Instant>>,
    _alarm: Alarm,
}

impl Forward {
    /// Begins to note signals. A signal that our parent ignores stays ignored.
    pub fn begin() -> Self {
        extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
            LAST_SIGNAL.store(signal, Ordering::Relaxed);
            // SAFETY: the kernel passes the pointer; it lives as long as the handler runs.
            let by_kernel = !info.is_null() && unsafe { (*info).si_code } > 0;
            pass_on(signal, by_kernel);
            Alarm::soon();
        }
        IS_FORWARDING.store(true, Ordering::SeqCst);
        let alarm = Alarm::new();
        // SAFETY: the handler stores into atomics and makes system calls that signal-safety(7) allows.
        let action = unsafe { SignalAction::handle_with_info(handle) };
        let old = SIGNALS.map(|signal| action.replace_unless_ignored(signal));
        // If our parent ignores SIGCHLD, so does this process, and the kernel would not keep the status of a child.
        let old_child = SignalAction::standard().replace(libc::SIGCHLD);
        Self { old, old_child, since: Cell::new(None), _alarm: alarm }
    }

    /// Passes signals on to this child from now on, and also a signal that came before.
    pub fn to(&self, child: u32) {
        CHILD.store(child.cast_signed(), Ordering::Relaxed);
        if let Some(signal) = self.came() {
            pass_on(signal, false);
        }
    }

    /// The last signal that came.
    #[must_use]
    pub fn came(&self) -> Option<i32> {
        Some(LAST_SIGNAL.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// Waits until the child has ended, and returns its exit status, or 128 + n for signal n. With `look`, this does
    /// not wait, and returns `None` if the child still runs. A child that does not end in time after a signal is
    /// killed.
    pub fn wait(&self, look: bool) -> Option<i32> {
        let child = CHILD.load(Ordering::Relaxed);
        loop {
            if self.came().is_some() {
                let since = self.since.get().unwrap_or_else(Instant::now);
                self.since.set(Some(since));
                if since.elapsed() > GRACE {
                    pass_on(libc::SIGKILL, false);
                }
            }
            match wait_for_child(child, if look { libc::WNOHANG } else { 0 }) {
                Ok(None) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Some(127),
                Ok(Some(status)) => {
                    CHILD.store(0, Ordering::Relaxed);
                    return Some(decode_status(status));
                }
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        IS_FORWARDING.store(false, Ordering::SeqCst);
        for (signal, old) in SIGNALS.iter().zip(&self.old) {
            old.install(*signal);
        }
        self.old_child.install(libc::SIGCHLD);
    }
}
