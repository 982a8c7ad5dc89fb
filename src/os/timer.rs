//! The timer under which blocking calls wait.
//!
//! A program may have called alarm(2) before it became us (`perl -e 'alarm 10; exec @ARGV' aba-lock ...`). There is one such timer
//! for a process, and execve(2) keeps it. So the first [`Alarm`] notes when the inherited timer ends. Each setting of the timer ends
//! at that time at the latest, and the handler does then what the signal would have done: it ends this process. The last
//! [`Alarm`] sets what is left of it for the command that this process becomes.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::{passed_signal, signal, signal_counts};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How many [`Alarm`]s there are.
static ALARMS: AtomicUsize = AtomicUsize::new(0);

/// How many handlers and threads are about to make it ring soon.
static RINGING: AtomicUsize = AtomicUsize::new(0);

/// When the inherited timer ends, in microseconds of the monotonic clock; 0: there is none.
static INHERITED: AtomicU64 = AtomicU64::new(0);

/// After how many microseconds the inherited timer ends again.
static INHERITED_INTERVAL: AtomicU64 = AtomicU64::new(0);

/// Returns true if the inherited timer ends this process: its signal is neither ignored nor blocked.
static INHERITED_ENDS_US: AtomicBool = AtomicBool::new(false);

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
            signal_counts::count_alarm();
            if INHERITED_ENDS_US.load(Ordering::SeqCst) && left_of_inherited() == Some(Duration::ZERO) {
                INHERITED.store(0, Ordering::SeqCst);
                if !passed_signal::note(libc::SIGALRM) {
                    signal::die_of(libc::SIGALRM);
                }
            }
            Alarm::soon();
        }
        if ALARMS.load(Ordering::SeqCst) == 0 {
            note_inherited();
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
        // SAFETY: it was filled by the call above.
        let is_blocked = unsafe { libc::sigismember(&raw const action.old_mask, libc::SIGALRM) } == 1;
        if ALARMS.fetch_add(1, Ordering::SeqCst) == 0 {
            let ends_us = action.old_action.sa_sigaction == libc::SIG_DFL && !is_blocked;
            INHERITED_ENDS_US.store(ends_us, Ordering::SeqCst);
        }
        action
    }

    /// Rings once `span` has passed, and then again and again. `None`: not before something else makes it ring.
    pub fn after(&self, span: Option<Duration>) {
        // A value of zero would switch it off.
        Self::set(span.map_or(Duration::ZERO, |span| span.max(Duration::from_micros(1))), AGAIN);
        // One that came just before is not to be put off.
        if signal_counts::was_interrupted() || signal_counts::bell_rang() {
            Self::soon();
        }
    }

    /// Rings in a moment, and then again and again; not where there is none any more. For signal handlers and other threads:
    /// it makes one system call.
    pub fn soon() {
        RINGING.fetch_add(1, Ordering::SeqCst);
        if ALARMS.load(Ordering::SeqCst) > 0 {
            Self::set(AGAIN, AGAIN);
        }
        RINGING.fetch_sub(1, Ordering::SeqCst);
    }

    /// Rings when the parent has ended (Linux), so that we do not wait for a script that is gone. May ring
    /// when only a thread of it has: the caller compares [`parent_id`](super::this_process::parent_id).
    pub fn when_parent_ends(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: it takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGALRM);
        }
    }

    /// Ends it in a process that ends soon, and becomes no other: nothing needs to be put back, as somebody waits for that end.
    /// The signal does nothing any more.
    pub fn leave(self) {
        ALARMS.fetch_sub(1, Ordering::SeqCst);
        Self::set(Duration::ZERO, Duration::ZERO);
        // What is still to be said would be cut short.
        #[cfg(target_os = "linux")]
        // SAFETY: it takes numbers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        }
        mem::forget(self);
    }

    /// Sets the timer, but not for later than the end of an inherited timer that would end this process.
    fn set(first: Duration, again: Duration) {
        let left = left_of_inherited().filter(|_| INHERITED_ENDS_US.load(Ordering::SeqCst));
        let first = match left {
            Some(left) if first.is_zero() || left < first => left.max(Duration::from_micros(1)),
            _ => first,
        };
        set_timer(first, again);
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // It would go on ringing in the command that we become. One that came just now is forgotten with its handler; and a
        // handler that runs by now, or a thread, either sees that there is none any more, or is waited for.
        // SAFETY: all bytes zero are a valid `sigaction`, and it lives until the call returns.
        unsafe {
            let mut ignore: libc::sigaction = mem::zeroed();
            ignore.sa_sigaction = libc::SIG_IGN;
            libc::sigaction(libc::SIGALRM, &raw const ignore, ptr::null_mut());
        }
        let is_last = ALARMS.fetch_sub(1, Ordering::SeqCst) == 1;
        while RINGING.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let left = left_of_inherited().filter(|_| is_last);
        let interval = left.map_or(0, |_| INHERITED_INTERVAL.load(Ordering::SeqCst));
        set_timer(left.unwrap_or_default(), Duration::from_micros(interval));
        // SAFETY: both were filled by the calls in `new`.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            libc::sigaction(libc::SIGALRM, &raw const self.old_action, ptr::null_mut());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
            // The inherited timer may have ended while the signal was ignored.
            if is_last && left_of_inherited() == Some(Duration::ZERO) {
                libc::raise(libc::SIGALRM);
            }
        }
        if is_last {
            INHERITED.store(0, Ordering::SeqCst);
        }
    }
}

fn set_timer(first: Duration, again: Duration) {
    let time = |span: Duration| libc::timeval {
        tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(span.subsec_micros().cast_signed()),
    };
    let timer = libc::itimerval { it_interval: time(again), it_value: time(first) };
    // SAFETY: `timer` lives until the call returns.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}

/// Notes the timer that runs before there is an [`Alarm`].
fn note_inherited() {
    // SAFETY: all bytes zero are a valid `itimerval`, and it lives until the call returns.
    let timer = unsafe {
        let mut timer: libc::itimerval = mem::zeroed();
        libc::getitimer(libc::ITIMER_REAL, &raw mut timer);
        timer
    };
    let micros = |time: libc::timeval| -> u64 {
        let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
        seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(micros.unwrap_or(0))
    };
    let left = micros(timer.it_value);
    INHERITED.store(if left == 0 { 0 } else { now().saturating_add(left) }, Ordering::SeqCst);
    INHERITED_INTERVAL.store(micros(timer.it_interval), Ordering::SeqCst);
}

/// How long the inherited timer still runs, if there is one. For signal handlers, too.
fn left_of_inherited() -> Option<Duration> {
    let end = Some(INHERITED.load(Ordering::SeqCst)).filter(|end| *end > 0)?;
    Some(Duration::from_micros(end.saturating_sub(now())))
}

/// Microseconds of the monotonic clock, by which the timer goes.
fn now() -> u64 {
    // SAFETY: all bytes zero are a valid `timespec`, and it lives until the call returns.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time
    };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}
