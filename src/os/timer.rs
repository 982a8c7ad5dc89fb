//! The timer that makes blocking calls return. All waits of the library run under an [`Alarm`].
//!
//! A program may have called alarm(2) before it became this program (`perl -e 'alarm 10; exec @ARGV' aba-lock ...`). A
//! process has only one such timer, and execve(2) keeps it. So this module must not lose the inherited timer:
//!
//! 1. The first [`Alarm`] notes when the inherited timer expires.
//! 2. The timer is never set to a later time than that.
//! 3. When that time comes, the handler ends this process, as the signal would have done. While a
//!    [`Forward`](super::forward::Forward) exists, the handler passes the signal on to the child instead.
//! 4. The last [`Alarm`] sets the timer to the remaining time, for the command that this process becomes.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal_action::SignalAction;
use super::signal_mask::SignalSet;
use super::{passed_signal, signal, signal_counts};
use std::cell::Cell;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The number of [`Alarm`]s.
static ALARMS: AtomicUsize = AtomicUsize::new(0);

/// The number of handlers and threads that are in [`Alarm::soon`].
static RINGING: AtomicUsize = AtomicUsize::new(0);

/// True if the timer was set since the first [`Alarm`], or was inherited. Most waits have no time limit, and never set it.
static RUNS: AtomicBool = AtomicBool::new(false);

/// The time at which the inherited timer expires, in microseconds of the monotonic clock; 0 if there is none.
static INHERITED: AtomicU64 = AtomicU64::new(0);

/// The interval of the inherited timer, in microseconds.
static INHERITED_INTERVAL: AtomicU64 = AtomicU64::new(0);

/// True if the inherited timer ends this process: its signal is neither ignored nor blocked.
static INHERITED_ENDS_US: AtomicBool = AtomicBool::new(false);

/// Makes blocking calls fail with [`std::io::ErrorKind::Interrupted`] at chosen times. Dropping it restores the
/// previous handler, mask and timer, which a command that this process becomes then inherits.
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct Alarm {
    old_action: SignalAction,
    old_mask: SignalSet,
    /// True after [`Alarm::when_parent_ends`].
    heeds_parent: Cell<bool>,
}

/// The interval between two rings.
const AGAIN: Duration = Duration::from_millis(20);

/// The interval at which an alarm rings on other systems than Linux, so that the caller notices the end of its parent.
#[cfg(not(linux))]
const LOOK_AT_PARENT: Duration = Duration::from_secs(1);

impl Alarm {
    /// Installs the handler; [`Alarm::after`] and [`Alarm::when_parent_ends`] make it ring.
    pub fn new() -> Self {
        // The signal may come just before the call that it should interrupt. So it comes again until the caller sets
        // the timer.
        extern "C" fn handle(_: libc::c_int) {
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
        // SAFETY: the handler uses atomics, and makes system calls that signal-safety(7) allows.
        let old_action = unsafe { SignalAction::handle(handle) }.replace(libc::SIGALRM);
        // A parent may have blocked the signal, and masks are inherited.
        let old_mask = SignalSet::new(&[libc::SIGALRM]).unblock();
        if ALARMS.fetch_add(1, Ordering::SeqCst) == 0 {
            let ends_us = old_action.is_standard() && !old_mask.contains(libc::SIGALRM);
            INHERITED_ENDS_US.store(ends_us, Ordering::SeqCst);
        }
        Self { old_action, old_mask, heeds_parent: Cell::new(false) }
    }

    /// Rings once `span` has passed, and then again and again. With `None` it rings only for another reason.
    pub fn after(&self, span: Option<Duration>) {
        #[cfg(not(linux))]
        let span =
            if self.heeds_parent.get() { Some(span.unwrap_or(LOOK_AT_PARENT).min(LOOK_AT_PARENT)) } else { span };
        // A value of zero would switch the timer off.
        Self::set(span.map_or(Duration::ZERO, |span| span.max(Duration::from_micros(1))), AGAIN);
        // A signal that came just before must still interrupt the next call.
        if signal_counts::was_interrupted() || signal_counts::bell_rang() {
            Self::soon();
        }
    }

    /// Rings after 20 ms, and then again and again, if an [`Alarm`] exists. For signal handlers and other threads: it
    /// makes one system call.
    pub fn soon() {
        RINGING.fetch_add(1, Ordering::SeqCst);
        if ALARMS.load(Ordering::SeqCst) > 0 {
            Self::set(AGAIN, AGAIN);
        }
        RINGING.fetch_sub(1, Ordering::SeqCst);
    }

    /// Rings when the parent has ended, so that this process does not wait for a script that is gone. It may also ring when only a
    /// thread of the parent has ended, and on other systems than Linux every second: the caller compares
    /// [`parent_id`](super::this_process::parent_id).
    pub fn when_parent_ends(&self) {
        self.heeds_parent.set(true);
        #[cfg(linux)]
        // SAFETY: it takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGALRM);
        }
    }

    /// Stops the timer, for a process that exits soon and does not become a command. Restores nothing, which saves time for
    /// the script that waits for the exit. The handler stays installed, and does not ring again.
    pub fn leave(self) {
        ALARMS.fetch_sub(1, Ordering::SeqCst);
        Self::set(Duration::ZERO, Duration::ZERO);
        // The signal for the end of the parent would interrupt the last output.
        self.ignore_parent();
        mem::forget(self);
    }

    /// Undoes [`Alarm::when_parent_ends`]. Otherwise, a signal that the program before this one has chosen for the end of its
    /// parent stays chosen.
    fn ignore_parent(&self) {
        #[cfg(linux)]
        if self.heeds_parent.get() {
            // SAFETY: it takes numbers.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            }
        }
    }

    /// Sets the timer, at the latest to the time at which an inherited timer would end this process.
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
    /// Stops the timer before the previous handler is restored. Otherwise the timer could ring in the command that this
    /// process becomes:
    ///
    /// 1. The signal is ignored, and a pending one is discarded.
    /// 2. `ALARMS` goes down. A handler or a thread in [`Alarm::soon`] sees that no alarm is left, or has passed that
    ///    test.
    /// 3. This thread waits until `RINGING` is 0, so that none of them sets the timer any more.
    /// 4. The timer is stopped or set to the rest of the inherited one, and handler and mask are restored.
    fn drop(&mut self) {
        SignalAction::ignore().install(libc::SIGALRM);
        let is_last = ALARMS.fetch_sub(1, Ordering::SeqCst) == 1;
        while RINGING.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let left = left_of_inherited().filter(|_| is_last);
        let interval = left.map_or(0, |_| INHERITED_INTERVAL.load(Ordering::SeqCst));
        set_timer(left.unwrap_or_default(), Duration::from_micros(interval));
        self.ignore_parent();
        self.old_action.install(libc::SIGALRM);
        self.old_mask.restore();
        // The inherited timer may have expired while the signal was ignored.
        if is_last && left_of_inherited() == Some(Duration::ZERO) {
            // SAFETY: it takes a number.
            unsafe { libc::raise(libc::SIGALRM) };
        }
        if is_last {
            INHERITED.store(0, Ordering::SeqCst);
        }
    }
}

fn set_timer(first: Duration, again: Duration) {
    if !first.is_zero() {
        RUNS.store(true, Ordering::SeqCst);
    } else if !RUNS.load(Ordering::SeqCst) {
        // A handler or another thread that is about to set the timer does that after this call.
        return;
    }
    let time = |span: Duration| libc::timeval {
        tv_sec: span.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_usec: span.subsec_micros().cast_signed().into(),
    };
    let timer = libc::itimerval { it_interval: time(again), it_value: time(first) };
    // SAFETY: `timer` lives until the call returns.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}

/// Notes the timer that ran before the first [`Alarm`].
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
    RUNS.store(left > 0, Ordering::SeqCst);
    INHERITED_INTERVAL.store(micros(timer.it_interval), Ordering::SeqCst);
}

/// The remaining time of the inherited timer, if there is one. Signal handlers call it, too.
fn left_of_inherited() -> Option<Duration> {
    let end = Some(INHERITED.load(Ordering::SeqCst)).filter(|end| *end > 0)?;
    Some(Duration::from_micros(end.saturating_sub(now())))
}

/// The time of the monotonic clock, which the timer follows, in microseconds.
fn now() -> u64 {
    // SAFETY: all bytes zero are a valid `timespec`, and it lives until the call returns.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time
    };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}
