//! A second thread, for what goes on beside a call that blocks. It never takes a lock, and does nothing any more
//! when the wait is over.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::io;
use std::mem;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A thread of this process, to be nudged.
#[derive(Debug, Clone, Copy)]
struct ThreadId(libc::pthread_t);

impl ThreadId {
    /// This one.
    fn current() -> Self {
        // SAFETY: it cannot fail.
        Self(unsafe { libc::pthread_self() })
    }

    /// Makes a system call in which it blocks end, under [`Alarm`](super::timer::Alarm). It must not have ended.
    fn nudge(self) {
        // SAFETY: it has not ended, so its number is its own.
        unsafe { libc::pthread_kill(self.0, libc::SIGALRM) };
    }
}

/// Runs `start`, so that the threads that it starts leave every signal to this one; but for the alarm, by which they can be
/// nudged, and which goes to the first thread when it comes of itself.
fn with_signals_left_to_us<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigdelset(&raw mut all, libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let done = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut());
        done
    }
}

/// Has the threads take memory from one heap. One of its own would be more to give back at the end, for which somebody waits.
fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Applies `work` to each part, in threads where they can be created, and returns the results in the order of the parts.
///
/// The calling thread does the first part, and each part for which no thread can be created: a limit on processes or memory
/// must not change the result. Signals are left to the calling thread.
pub fn map_in_threads<P: Copy + Send, T: Send>(parts: &[P], work: impl Fn(P) -> T + Sync) -> Vec<T> {
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let work = &work;
    thread::scope(|scope| {
        let start = |part: P| (part, thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || work(part)));
        let started: Vec<_> = with_signals_left_to_us(|| rest.iter().copied().map(start).collect());
        let mut results = vec![work(*first)];
        results.extend(started.into_iter().map(|(part, thread)| {
            let result = thread.ok().and_then(|thread| thread.join().ok());
            result.unwrap_or_else(|| work(part))
        }));
        results
    })
}

/// How long the companion may take to end before it is nudged.
const NUDGE_AFTER: Duration = Duration::from_millis(20);

/// A companion needs little room.
const STACK: usize = 256 * 1024;

/// What a companion does next: one step, and how long there is nothing to do then. `None`: it was the last.
type Step = Box<dyn FnMut() -> Option<Duration> + Send>;

/// How far a companion is.
enum Work {
    /// It sleeps.
    Later(Step),
    /// It takes a step.
    Now(ThreadId),
    Ended,
}

/// What the two threads share.
struct Shared {
    work: Mutex<Work>,
    bell: Condvar,
}

/// Runs `main`, and beside it, when that has taken `moment`, `step` in a thread of its own, again and again, each time after
/// the pause that it returns, and until it returns none. When `main` has come to its end in the middle of a step, `hurry` is
/// called, which is to end that soon. `Err`: there is no thread to be had, and nothing was done.
///
/// No step is taken after this has returned. Most often the companion sleeps then, and its thread is not waited for: that
/// would take as long as the rest.
pub fn with_companion<'w, W: FnMut() -> Option<Duration> + Send + 'w, T>(
    moment: Duration,
    step: W,
    hurry: impl Fn(),
    main: impl FnOnce() -> T,
) -> io::Result<T> {
    let step: Box<dyn FnMut() -> Option<Duration> + Send + 'w> = Box::new(step);
    // SAFETY: what it borrows lives until this function returns, and it is dropped before: `End` sees to that, also where
    // `main` panics. The thread takes it out of `shared` under the mutex, or finds that it is not there any more.
    let step: Step = unsafe { mem::transmute(step) };
    let shared = Arc::new(Shared { work: Mutex::new(Work::Later(step)), bell: Condvar::new() });
    let theirs = Arc::clone(&shared);
    let begin = || thread::Builder::new().stack_size(STACK).spawn(move || accompany(&theirs, moment));
    share_one_heap();
    with_signals_left_to_us(begin)?;
    // Only now: if there is no thread, `main` has not run, and `hurry` would cut short what the caller does instead.
    let end = End { shared: &shared, hurry };
    let done = main();
    drop(end);
    Ok(done)
}

fn accompany(shared: &Shared, moment: Duration) {
    let mut pause = moment;
    let mut work = held(&shared.work);
    loop {
        let sleeps = |work: &mut Work| matches!(work, Work::Later(_));
        (work, _) = shared.bell.wait_timeout_while(work, pause, sleeps).unwrap_or_else(PoisonError::into_inner);
        let Work::Later(mut step) = mem::replace(&mut *work, Work::Now(ThreadId::current())) else {
            *work = Work::Ended;
            return;
        };
        drop(work);
        let Some(next) = step() else {
            // What it borrows may be gone as soon as that is known.
            drop(step);
            *held(&shared.work) = Work::Ended;
            shared.bell.notify_all();
            return;
        };
        pause = next;
        work = held(&shared.work);
        *work = Work::Later(step);
        shared.bell.notify_all();
    }
}

/// Brings the companion to its end.
struct End<'s, S: Fn()> {
    shared: &'s Shared,
    hurry: S,
}

impl<S: Fn()> Drop for End<'_, S> {
    fn drop(&mut self) {
        (self.hurry)();
        let mut work = held(&self.shared.work);
        while let Work::Now(thread) = *work {
            let (again, timeout) =
                self.shared.bell.wait_timeout(work, NUDGE_AFTER).unwrap_or_else(PoisonError::into_inner);
            work = again;
            // It may be about to print to somebody who does not read.
            if timeout.timed_out() && matches!(*work, Work::Now(_)) {
                thread.nudge();
            }
        }
        let sleeps = matches!(mem::replace(&mut *work, Work::Ended), Work::Later(_));
        drop(work);
        if sleeps {
            // It ends beside what we do next: the end of a process, or its becoming another, waits for all its threads.
            self.shared.bell.notify_all();
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
