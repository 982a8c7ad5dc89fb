//! Signals for a command that we wait for, while we also do something else: they are passed on, and noted, so that what
//! the command was for can be given up.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::passed_signal::{BEGUN, CAME, CHILD, pass_on};
use super::timer::Alarm;
use std::cell::Cell;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a command has to end after a signal, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// SIGPIPE is one of them because our own output may be closed. The command gets the default action for it back.
const SIGNALS: [libc::c_int; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];

/// Passes INT, TERM, HUP, QUIT and PIPE on, and the end of an inherited timer. While this lives, they do not end us, but make
/// blocking calls end with
/// [`io::ErrorKind::Interrupted`].
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Forward {
    old: [libc::sigaction; 5],
    old_child: libc::sigaction,
    since: Cell<Option<Instant>>,
    _alarm: Alarm,
}

impl Forward {
    /// Begins to note. What our parent ignores stays ignored.
    pub fn begin() -> Self {
        extern "C" fn seen(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
            CAME.store(signal, Ordering::Relaxed);
            // SAFETY: the kernel gives it; it lives as long as the handler runs.
            let by_kernel = !info.is_null() && unsafe { (*info).si_code } > 0;
            pass_on(signal, by_kernel);
            Alarm::soon();
        }
        BEGUN.store(true, Ordering::SeqCst);
        let alarm = Alarm::new();
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns; the handler stores
        // into atomics and makes system calls that are safe in a signal.
        unsafe {
            let (mut old, mut action): ([libc::sigaction; 5], libc::sigaction) = mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = seen;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO;
            for (signal, old) in SIGNALS.iter().zip(&mut old) {
                libc::sigaction(*signal, ptr::null(), old);
                if old.sa_sigaction != libc::SIG_IGN {
                    libc::sigaction(*signal, &raw const action, ptr::null_mut());
                }
            }
            // A parent that ignores SIGCHLD hands that on, and then a child's status is lost.
            let (standard, mut old_child): (libc::sigaction, libc::sigaction) = mem::zeroed();
            libc::sigaction(libc::SIGCHLD, &raw const standard, &raw mut old_child);
            Self { old, old_child, since: Cell::new(None), _alarm: alarm }
        }
    }

    /// Passes them on to this child from now on, and one that came before, too.
    pub fn to(&self, child: u32) {
        CHILD.store(child.cast_signed(), Ordering::Relaxed);
        if let Some(signal) = self.came() {
            pass_on(signal, false);
        }
    }

    /// The signal that came, if one did.
    #[must_use]
    pub fn came(&self) -> Option<i32> {
        Some(CAME.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// Waits until the child has ended, or with `look` only looks. Its exit status, 128 + n for signal n; a child that
    /// does not end after a signal is killed.
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
            let mut status = 0;
            // SAFETY: `status` lives until the call returns.
            match unsafe { libc::waitpid(child, &raw mut status, if look { libc::WNOHANG } else { 0 }) } {
                0 => return None,
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
                -1 => return Some(127),
                _ => {}
            }
            CHILD.store(0, Ordering::Relaxed);
            let by_signal = libc::WIFSIGNALED(status);
            return Some(if by_signal { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) });
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        BEGUN.store(false, Ordering::SeqCst);
        // SAFETY: they were filled by the calls in `begin`.
        unsafe {
            for (signal, old) in SIGNALS.iter().zip(&self.old) {
                libc::sigaction(*signal, old, ptr::null_mut());
            }
            libc::sigaction(libc::SIGCHLD, &raw const self.old_child, ptr::null_mut());
        }
    }
}
