//! An alarm that interrupts blocking system calls.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::ptr;
use std::time::Duration;

/// The pause between repeated rings.
const REPEAT: Duration = Duration::from_millis(50);

/// An alarm that makes a blocking system call of this process return with [`std::io::ErrorKind::Interrupted`]. The end
/// of a child process does the same.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// A timer on the clock that counts the time in which the machine is suspended, so it rings as soon as the machine
    /// wakes up. `None`: this user has no timers left. An interval timer replaces it, which stands still while the
    /// machine is suspended.
    timer: Option<libc::timer_t>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        extern "C" fn ignore(_: libc::c_int) {}
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns. The handler does
        // nothing.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
            for signal in [libc::SIGALRM, libc::SIGCHLD] {
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
            let (mut event, mut timer): (libc::sigevent, libc::timer_t) = mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGALRM;
            let is_created = libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer) == 0;
            Self { timer: is_created.then_some(timer) }
        }
    }

    /// Rings after `span`, and then again every [`REPEAT`]: the first ring may come just before the call that it must
    /// interrupt.
    pub(crate) fn ring_after(&self, span: Duration) {
        let first = span.max(Duration::from_millis(1));
        let seconds = |span: Duration| libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX);
        if let Some(timer) = self.timer {
            let value = |span: Duration| libc::timespec {
                tv_sec: seconds(span),
                tv_nsec: libc::c_long::from(span.subsec_nanos().cast_signed()),
            };
            let value = libc::itimerspec { it_interval: value(REPEAT), it_value: value(first) };
            // SAFETY: the timer belongs to this process and is never deleted; `value` lives until the call returns.
            unsafe { libc::timer_settime(timer, 0, &raw const value, ptr::null_mut()) };
            return;
        }
        let value = |span: Duration| libc::timeval {
            tv_sec: seconds(span),
            tv_usec: libc::suseconds_t::from(span.subsec_micros()),
        };
        let value = libc::itimerval { it_interval: value(REPEAT), it_value: value(first) };
        // SAFETY: `value` lives until the call returns.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const value, ptr::null_mut()) };
    }
}
