//! Threads: work that is divided among several threads, one companion thread next to a call that blocks, and a wait for the first of
//! several bytes, with a thread for each.
//!
//! No thread but the first takes a lock and keeps it. A second thread could take the lock of the shared open file description after
//! the first has reported a failure.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::general_heap::{prepare_for_threads, return_free_memory};
use super::mutex::lock_mutex;
use super::range::{unlock_byte, wait_lock_byte};
use super::signal_mask::SignalSet;
use std::fs::File;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A thread of this process.
#[derive(Debug, Clone, Copy)]
struct ThreadId(libc::pthread_t);

// SAFETY: any thread may pass it to pthread_kill(3). (In musl, its type is a pointer.)
unsafe impl Send for ThreadId {}
// SAFETY: as above; the number never changes.
unsafe impl Sync for ThreadId {}

impl ThreadId {
    fn current() -> Self {
        // SAFETY: it cannot fail.
        Self(unsafe { libc::pthread_self() })
    }

    /// Interrupts a system call in which the thread blocks, while an [`Alarm`](super::timer::Alarm) exists. The thread
    /// must not have ended.
    fn nudge(self) {
        // SAFETY: the thread has not ended, so its number is its own.
        unsafe { libc::pthread_kill(self.0, libc::SIGALRM) };
    }
}

/// Runs `start` so that the threads that it starts block all signals except SIGALRM. SIGALRM from the timer goes to the
/// first thread, and [`ThreadId::nudge`] sends it to a chosen one.
fn with_signals_left_to_us<T>(start: impl FnOnce() -> T) -> T {
    prepare_for_threads();
    let old = SignalSet::all_but(&[libc::SIGALRM]).set_mask();
    let done = start();
    old.restore();
    done
}

/// Makes all threads allocate from one heap. To give back a second heap would delay the end of this process.
fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Applies `work` to each part, in threads if they can be created, and returns the results in the order of the parts.
///
/// The calling thread does the first part, and each part for which no thread can be created: a limit on processes or
/// memory must not change the result. Signals are left to the calling thread.
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

/// The pause between two nudges of a thread that waits for a byte.
const NUDGE_BYTE_AFTER: Duration = Duration::from_millis(1);

/// The state of a thread that waits for a byte.
#[derive(Clone, Copy)]
enum ByteWait {
    Starting,
    Blocked(ThreadId),
    Ended,
}

/// The threads that wait for bytes: the first one, and one for each other byte.
struct ByteWaits {
    states: Mutex<Vec<ByteWait>>,
    changed: Condvar,
    /// True after the first grant or interruption.
    is_over: AtomicBool,
    first: ThreadId,
    /// True after the first thread is out of its system call.
    first_is_back: AtomicBool,
}

fn has_running(states: &[ByteWait]) -> bool {
    states.iter().any(|state| !matches!(state, ByteWait::Ended))
}

impl ByteWaits {
    /// Locks a byte for this process, and releases it. Fails with [`io::ErrorKind::Interrupted`] if a signal ends the wait.
    fn wait_and_release(&self, file: &File, byte: u64) -> io::Result<()> {
        wait_lock_byte(file, byte)?;
        self.is_over.store(true, Ordering::SeqCst);
        unlock_byte(file, byte)
    }

    /// The whole life of the thread for the byte with this index.
    fn run_thread(&self, file: &File, index: usize, byte: u64) {
        lock_mutex(&self.states)[index] = ByteWait::Blocked(ThreadId::current());
        let is_granted = !self.is_over.load(Ordering::SeqCst) && self.wait_and_release(file, byte).is_ok();
        let mut states = lock_mutex(&self.states);
        // From here on, the first thread does not nudge this one.
        states[index] = ByteWait::Ended;
        if !has_running(&states) {
            self.changed.notify_all();
        }
        drop(states);
        // The signal may arrive just before the first thread blocks. Then it has no effect.
        while is_granted && !self.first_is_back.load(Ordering::SeqCst) {
            self.first.nudge();
            thread::sleep(NUDGE_BYTE_AFTER);
        }
    }

    /// Interrupts the other threads until all have ended.
    fn end_threads(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.first_is_back.store(true, Ordering::SeqCst);
        let mut states = lock_mutex(&self.states);
        while has_running(&states) {
            for state in states.iter() {
                if let ByteWait::Blocked(thread) = state {
                    thread.nudge();
                }
            }
            // Only the last thread wakes this one. There can be a thousand.
            (states, _) = self.changed.wait_timeout(states, NUDGE_BYTE_AFTER).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Blocks until one of the bytes of `file` is free, or until a signal comes ([`io::ErrorKind::Interrupted`]). An
/// [`Alarm`](super::timer::Alarm) must exist. The byte is not locked when this function returns.
///
/// There is a thread for each byte but the first. It locks its byte for this process, which the kernel grants at the release,
/// releases the byte at once, and ends. All threads have ended when this function returns.
pub fn wait_for_any_byte(file: &File, bytes: &[u64]) -> io::Result<()> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
    let waits = ByteWaits {
        states: Mutex::new(vec![ByteWait::Starting; rest.len()]),
        changed: Condvar::new(),
        is_over: AtomicBool::new(false),
        first: ThreadId::current(),
        first_is_back: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let waits = &waits;
        let start = |(index, byte): (usize, &u64)| {
            let byte = *byte;
            let started = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || waits.run_thread(file, index, byte));
            started.map(drop).inspect_err(|_| {
                // The threads after this one are not started either.
                lock_mutex(&waits.states)[index..].fill(ByteWait::Ended);
            })
        };
        let started: io::Result<()> = with_signals_left_to_us(|| rest.iter().enumerate().try_for_each(start));
        let waited = started.and_then(|()| {
            if waits.is_over.load(Ordering::SeqCst) { Ok(()) } else { waits.wait_and_release(file, *first) }
        });
        let is_granted = waits.is_over.load(Ordering::SeqCst);
        waits.end_threads();
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && is_granted => Ok(()),
            waited => waited,
        }
    })
}

/// Gives the calling thread descriptors of its own. If it opens a file and closes it, the locks that this process holds on bytes
/// of that file stay. Returns false if the system does not allow that, as container runtimes do by default. Then only a
/// [`KeptFile`](super::KeptFile) protects those locks.
#[must_use]
pub fn separate_descriptors() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes a number.
    let is_separate = unsafe { libc::unshare(libc::CLONE_FILES) } == 0;
    // There are no such locks.
    #[cfg(not(target_os = "linux"))]
    let is_separate = true;
    is_separate
}

/// The time that the companion gets to end before it is nudged.
const NUDGE_AFTER: Duration = Duration::from_millis(20);

/// The stack size of a thread, which needs little.
const STACK: usize = 256 * 1024;

/// One step of a companion. It returns the pause until the next step, or `None` after the last.
type CompanionStep = Box<dyn FnMut() -> Option<Duration> + Send>;

/// The state of a companion.
enum Companion {
    Sleeping(CompanionStep),
    /// It takes a step in this thread.
    Working(ThreadId),
    Ended,
}

/// The data that both threads use.
struct Shared {
    companion: Mutex<Companion>,
    changed: Condvar,
}

/// Runs `main`. If `main` takes longer than `delay`, a second thread runs `step` repeatedly, each time after the pause
/// that the step before returned, until a step returns `None`. If `main` ends during a step, this function calls
/// `hurry`, which should make the step end soon. Returns an error, and runs nothing, if there can be no second thread.
///
/// No step runs after this function has returned. Usually the companion sleeps at that time; then this function does
/// not wait for its thread, which would take as long as everything else together. If `ends` returns true, this process
/// exits or becomes a command soon, which ends the sleeping thread. Then the thread is not woken: to run and to free its
/// memory, it would take processor time from the process that continues next. Otherwise it is woken, and ends at once.
pub fn with_companion<'w, W: FnMut() -> Option<Duration> + Send + 'w, T>(
    delay: Duration,
    step: W,
    hurry: impl Fn(),
    main: impl FnOnce() -> T,
    ends: impl FnOnce(&T) -> bool,
) -> io::Result<T> {
    let step: Box<dyn FnMut() -> Option<Duration> + Send + 'w> = Box::new(step);
    // SAFETY: the data that it borrows lives until this function returns, and it is dropped before that:
    // `EndsCompanion` does so, also if `main` panics. The thread takes the step out of `shared` under the mutex, or
    // finds that it is gone.
    let step: CompanionStep = unsafe { mem::transmute(step) };
    let shared = Arc::new(Shared { companion: Mutex::new(Companion::Sleeping(step)), changed: Condvar::new() });
    let theirs = Arc::clone(&shared);
    let begin = || thread::Builder::new().stack_size(STACK).spawn(move || run_companion(&theirs, delay));
    share_one_heap();
    with_signals_left_to_us(begin)?;
    // `end` must not exist before the thread does: without a thread `main` does not run, and `hurry` would interrupt
    // the work that the caller does instead.
    let mut end = EndsCompanion { shared: &shared, hurry, wakes: true };
    let done = main();
    end.wakes = !ends(&done);
    drop(end);
    Ok(done)
}

/// The pause from which on the companion gives unused memory back to the kernel.
const LONG_PAUSE: Duration = Duration::from_millis(500);

/// The part of [`STACK`] that is certainly below the first frame of a companion. The C library uses the rest.
const STACK_BELOW: usize = STACK - 32 * 1024;

/// The size of a page, or a multiple of it.
const PAGE: usize = 4096;

/// The distance from a frame to the memory that is given back. The frame itself and the system call use it.
const FRAMES: usize = 1024;

/// Gives the pages of the stack below the frame of the caller back to the kernel, which returns zeros if they are used
/// again. A step uses much more of the stack than the sleep after it, and a thousand waiters may sleep.
///
/// # Safety
/// `first` must be an address in the first frame of a companion, and the caller must run in the same thread.
unsafe fn release_unused_stack(first: usize) {
    let here = 0_u8;
    let start = (first - STACK_BELOW).next_multiple_of(PAGE);
    let end = (ptr::from_ref(&here).addr() - FRAMES) / PAGE * PAGE;
    if start < end {
        // SAFETY: the range is part of the stack of this thread, and no frame is in it.
        unsafe { libc::madvise(ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
    }
}

fn run_companion(shared: &Shared, delay: Duration) {
    let first = 0_u8;
    let mut pause = delay;
    let mut companion = lock_mutex(&shared.companion);
    loop {
        let sleeps = |companion: &mut Companion| matches!(companion, Companion::Sleeping(_));
        (companion, _) =
            shared.changed.wait_timeout_while(companion, pause, sleeps).unwrap_or_else(PoisonError::into_inner);
        let working = Companion::Working(ThreadId::current());
        let Companion::Sleeping(mut step) = mem::replace(&mut *companion, working) else {
            *companion = Companion::Ended;
            return;
        };
        drop(companion);
        let Some(next) = step() else {
            // The first thread may free the data that the step borrows as soon as it sees `Ended`.
            drop(step);
            *lock_mutex(&shared.companion) = Companion::Ended;
            shared.changed.notify_all();
            return;
        };
        pause = next;
        if pause >= LONG_PAUSE {
            return_free_memory();
            // SAFETY: `first` is in this frame, which is the first one of the companion.
            unsafe { release_unused_stack(ptr::from_ref(&first).addr()) };
        }
        companion = lock_mutex(&shared.companion);
        *companion = Companion::Sleeping(step);
        shared.changed.notify_all();
    }
}

/// Ends the companion when it is dropped.
struct EndsCompanion<'s, S: Fn()> {
    shared: &'s Shared,
    hurry: S,
    /// True if the thread of a sleeping companion is woken.
    wakes: bool,
}

impl<S: Fn()> Drop for EndsCompanion<'_, S> {
    fn drop(&mut self) {
        (self.hurry)();
        let mut companion = lock_mutex(&self.shared.companion);
        while let Companion::Working(thread) = *companion {
            let (again, timeout) =
                self.shared.changed.wait_timeout(companion, NUDGE_AFTER).unwrap_or_else(PoisonError::into_inner);
            companion = again;
            // The companion may be blocked in a write to a pipe from which no process reads.
            if timeout.timed_out() && matches!(*companion, Companion::Working(_)) {
                thread.nudge();
            }
        }
        let sleeps = matches!(mem::replace(&mut *companion, Companion::Ended), Companion::Sleeping(_));
        drop(companion);
        if sleeps && self.wakes {
            self.shared.changed.notify_all();
        }
    }
}
