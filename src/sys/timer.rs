//! The timer under which blocking calls wait.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::interrupt;
use std::mem;
use std::ptr;
use std::time::Duration;

/// Makes blocking calls end now and then, with [`std::io::ErrorKind::Interrupted`]. Dropping it puts everything
/// back as it was: handler, mask and timer, so that a command that we become finds its parent's.
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct Alarm {
    old_action: libc::sigaction,
    old_mask: libc::sigset_t,
}

/// How soon it rings again.
const AGAIN: Duration = Duration::from_millis(20);

impl Alarm {
    /// Installs the handler; [`Alarm::after`] and [`Alarm::when_parent_ends`] make it ring.
    pub fn new() -> Self {
        // The signal may land just before the call that it is to interrupt: it comes again until it is put off.
        extern "C" fn again(_: libc::c_int) {
            Alarm::soon();
        }
        // SAFETY: all bytes zero are valid for these types, and they are ours to be written to.
        let (mut action, mut alarm): (Self, libc::sigaction) = unsafe { mem::zeroed() };
        alarm.sa_sigaction = again as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // Without SA_RESTART: the call that waits is to end.
        alarm.sa_flags = 0;
        // SAFETY: the pointers live until each call returns; the handler makes one system call, which is safe in a signal.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGALRM);
            libc::sigaction(libc::SIGALRM, &raw const alarm, &raw mut action.old_action);
            // A parent may have blocked it, and masks are inherited.
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, &raw mut action.old_mask);
        }
        action
    }

    /// Rings once `span` has passed, and then again and again. `None`: not before something else makes it ring.
    pub fn after(&self, span: Option<Duration>) {
        // A value of zero would switch it off.
        Self::set(span.map_or(Duration::ZERO, |span| span.max(Duration::from_micros(1))), AGAIN);
        // One that came just before is not to be put off.
        if interrupt::came() {
            Self::soon();
        }
    }

    /// Rings in a moment, and then again and again. For signal handlers and other threads: it makes one system call.
    pub fn soon() {
        Self::set(AGAIN, AGAIN);
    }

    /// Rings when the parent has ended (Linux), so that we do not wait for a script that is gone. May ring
    /// when only a thread of it has: the caller compares [`super::parent_id`].
    pub fn when_parent_ends(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: it takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGALRM);
        }
    }

    fn set(first: Duration, again: Duration) {
        let time = |span: Duration| libc::timeval {
            tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(span.subsec_micros().cast_signed()),
        };
        let timer = libc::itimerval { it_interval: time(again), it_value: time(first) };
        // SAFETY: `timer` lives until the call returns.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // It would go on ringing in the command that we become.
        Self::set(Duration::ZERO, Duration::ZERO);
        // SAFETY: both were filled by the calls in `new`.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            libc::sigaction(libc::SIGALRM, &raw const self.old_action, ptr::null_mut());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
        }
    }
}
