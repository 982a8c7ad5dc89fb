//! A companion: a second thread next to a call that blocks.
//!
//! Most waits end while their companion still sleeps, so its start and its end must be cheap. Its stack is a static one, because the
//! first mapping of a process takes three pages for page tables. It is started without the standard library, whose threads have an
//! alternate stack for signals, a name and a result. Until its first step, a companion neither allocates nor frees memory.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::general_heap::{prepare_for_forks, prepare_for_threads, return_free_memory};
use super::heap::Heap;
use super::mutex::lock_mutex;
use super::thread::{STACK, ThreadId, share_one_heap, with_signals_left_to_us};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::AtomicBool;
#[cfg(target_os = "linux")]
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The time that the companion gets to end before it is nudged.
const NUDGE_AFTER: Duration = Duration::from_millis(20);

/// The pause from which on the companion gives unused memory back to the kernel.
const LONG_PAUSE: Duration = Duration::from_millis(500);

/// The part of [`STACK`] that is certainly below the first frame of a companion. The C library uses the rest.
const STACK_BELOW: usize = STACK - 32 * 1024;

/// The size of a page, or a multiple of it.
const PAGE: usize = 4096;

/// The distance from a frame to the memory that is given back. The frame itself and the system call use it.
const FRAMES: usize = 1024;

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
    /// The pause before the first step.
    delay: Duration,
}

/// Runs `main`. If `main` takes longer than `delay`, a second thread runs `step` repeatedly, each time after the pause
/// that the step before returned, until a step returns `None`. If `main` ends during a step, this function calls
/// `hurry`, which should make the step end soon. Returns an error, and runs nothing, if there can be no second thread.
///
/// A step that allocates memory or needs much of the stack calls [`prepare_long_step`] before.
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
    let shared = Arc::new(Shared { companion: Mutex::new(Companion::Sleeping(step)), changed: Condvar::new(), delay });
    share_one_heap();
    prepare_for_threads();
    with_signals_left_to_us(|| start_thread(Arc::clone(&shared)))?;
    // `end` must not exist before the thread does: without a thread `main` does not run, and `hurry` would interrupt
    // the work that the caller does instead.
    let mut end = EndsCompanion { shared: &shared, hurry, wakes: true };
    let done = main();
    end.wakes = !ends(&done);
    drop(end);
    Ok(done)
}

/// Prepares a step that may allocate memory, and may need the whole stack.
pub fn prepare_long_step() {
    Heap::leave_area();
    prepare_for_forks();
    FIRST_STACK.guard();
}

/// The stack of the first companion of this process. A later one may start while this one ends, and gets a stack of its own.
static FIRST_STACK: Stack = Stack(UnsafeCell::new([0; GUARD + STACK]));

static FIRST_STACK_IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The size of the part of a stack that may become inaccessible, so that a stack that is too short ends the process.
const GUARD: usize = 16 * 1024;

/// The alignment is [`PAGE`].
#[repr(align(4096))]
struct Stack(UnsafeCell<[u8; GUARD + STACK]>);

// SAFETY: only one thread uses it as its stack, and no other code reads or writes it.
unsafe impl Sync for Stack {}

impl Stack {
    fn start(&self) -> *mut c_void {
        self.0.get().cast()
    }

    fn guard(&self) {
        // SAFETY: no data is in this part of the static. If the call fails, the stack has no guard.
        unsafe { libc::mprotect(self.start(), GUARD, libc::PROT_NONE) };
    }
}

/// Starts the thread of a companion.
fn start_thread(shared: Arc<Shared>) -> io::Result<()> {
    extern "C" fn run(shared: *mut c_void) -> *mut c_void {
        // SAFETY: the pointer is from `into_raw`, and only this thread uses it.
        let shared = unsafe { Arc::from_raw(shared.cast_const().cast::<Shared>()) };
        run_companion(&shared);
        ptr::null_mut()
    }
    let shared = Arc::into_raw(shared);
    // SAFETY: all bytes zero are valid for these types, and the pointers live until each call returns. The stack is long enough, no other
    // thread uses it, and it lives forever.
    let failure = unsafe {
        let mut attributes: libc::pthread_attr_t = mem::zeroed();
        libc::pthread_attr_init(&raw mut attributes);
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_attr_setstacksize(&raw mut attributes, STACK);
        // Elsewhere, the C library allocates each stack.
        #[cfg(target_os = "linux")]
        if !FIRST_STACK_IS_TAKEN.swap(true, Ordering::Relaxed) {
            libc::pthread_attr_setstack(&raw mut attributes, FIRST_STACK.start().byte_add(GUARD), STACK);
        }
        let mut thread: libc::pthread_t = mem::zeroed();
        let failure = libc::pthread_create(&raw mut thread, &raw const attributes, run, shared.cast_mut().cast());
        libc::pthread_attr_destroy(&raw mut attributes);
        failure
    };
    if failure == 0 {
        return Ok(());
    }
    // SAFETY: no thread has got it.
    drop(unsafe { Arc::from_raw(shared) });
    Err(io::Error::from_raw_os_error(failure))
}

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

fn run_companion(shared: &Shared) {
    let first = 0_u8;
    let mut pause = shared.delay;
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
            // The thread frees memory at its end.
            prepare_for_forks();
            self.shared.changed.notify_all();
        }
    }
}
