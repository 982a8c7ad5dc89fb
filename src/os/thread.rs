//! Threads: work that is divided among several threads, and a wait for the first of several bytes, with a thread for each.
//! `os/companion.rs` has one more: a companion thread next to a call that blocks.
//!
//! No thread but the first takes a lock and keeps it. A second thread could take the lock of the shared open file description after
//! the first has reported a failure.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::general_heap::{prepare_for_forks, prepare_for_threads};
use super::mutex::lock_mutex;
use super::range::{unlock_byte, wait_lock_byte};
use super::signal_mask::SignalSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A thread of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadId(libc::pthread_t);

// SAFETY: any thread may pass it to pthread_kill(3). (In musl, its type is a pointer.)
unsafe impl Send for ThreadId {}
// SAFETY: as above; the number never changes.
unsafe impl Sync for ThreadId {}

impl ThreadId {
    pub(super) fn current() -> Self {
        // SAFETY: it cannot fail.
        Self(unsafe { libc::pthread_self() })
    }

    /// Interrupts a system call in which the thread blocks, while an [`Alarm`](super::timer::Alarm) exists. The thread
    /// must not have ended.
    pub(super) fn nudge(self) {
        // SAFETY: the thread has not ended, so its number is its own.
        unsafe { libc::pthread_kill(self.0, libc::SIGALRM) };
    }
}

/// Runs `start` so that the threads that it starts block all signals except SIGALRM. SIGALRM from the timer goes to the
/// first thread, and [`ThreadId::nudge`] sends it to a chosen one.
pub(super) fn with_signals_left_to_us<T>(start: impl FnOnce() -> T) -> T {
    let old = SignalSet::all_but(&[libc::SIGALRM]).set_mask();
    let done = start();
    old.restore();
    done
}

/// Makes all threads allocate from one heap. To give back a second heap would delay the end of this process.
pub(super) fn share_one_heap() {
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
    prepare_for_threads();
    prepare_for_forks();
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

/// The stack size of a thread, which needs little.
pub(super) const STACK: usize = 256 * 1024;

/// The pause between two nudges of a thread that waits for a byte.
const NUDGE_BYTE_AFTER: Duration = Duration::from_millis(1);

/// The state of a thread that waits for a byte.
#[derive(Clone, Copy)]
enum ByteWait {
    Starting,
    Blocked(ThreadId),
    /// It neither uses the file any more, nor may it be nudged.
    Ended,
}

/// The threads that wait for bytes: the first one, and one for each other byte.
struct ByteWaits {
    states: Mutex<ByteWaitStates>,
    /// Notified after the last thread has ended, and when the first thread is out of its system call.
    changed: Condvar,
    /// True after the first grant or interruption.
    is_over: AtomicBool,
    first: ThreadId,
}

struct ByteWaitStates {
    others: Vec<ByteWait>,
    /// True after the first thread is out of its system call. It may not be nudged any more.
    first_is_back: bool,
}

impl ByteWaitStates {
    fn has_running(&self) -> bool {
        self.others.iter().any(|state| !matches!(state, ByteWait::Ended))
    }
}

impl ByteWaits {
    /// Locks a byte for this process, and releases it. Fails with [`io::ErrorKind::Interrupted`] if a signal ends the wait.
    fn wait_and_release(&self, file: &File, byte: u64) -> io::Result<()> {
        wait_lock_byte(file, byte)?;
        self.is_over.store(true, Ordering::SeqCst);
        unlock_byte(file, byte)
    }

    /// The whole life of the thread for the byte with this index.
    fn run_thread(&self, file: Arc<File>, index: usize, byte: u64) {
        lock_mutex(&self.states).others[index] = ByteWait::Blocked(ThreadId::current());
        let is_granted = !self.is_over.load(Ordering::SeqCst) && self.wait_and_release(&file, byte).is_ok();
        // If this closed the file later, the process would lose the bytes that it has locked by then.
        drop(file);
        let mut states = lock_mutex(&self.states);
        states.others[index] = ByteWait::Ended;
        if !states.has_running() {
            self.changed.notify_all();
        }
        // The signal may arrive just before the first thread blocks. Then it has no effect.
        while is_granted && !states.first_is_back {
            self.first.nudge();
            states = self.wait_for_change(states);
        }
    }

    fn wait_for_change<'s>(&self, states: MutexGuard<'s, ByteWaitStates>) -> MutexGuard<'s, ByteWaitStates> {
        self.changed.wait_timeout(states, NUDGE_BYTE_AFTER).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Notes that the first thread is out of its system call. Returns true if a byte was granted.
    fn end_wait(&self) -> bool {
        let mut states = lock_mutex(&self.states);
        states.first_is_back = true;
        self.changed.notify_all();
        self.is_over.swap(true, Ordering::SeqCst)
    }

    /// Interrupts the other threads until all have ended.
    fn end_threads(&self) {
        let mut states = lock_mutex(&self.states);
        while states.has_running() {
            for state in &states.others {
                if let ByteWait::Blocked(thread) = state {
                    thread.nudge();
                }
            }
            // Only the last thread wakes this one. There can be a thousand.
            states = self.wait_for_change(states);
        }
    }
}

/// Blocks until one of the bytes of `file` is free, or until a signal comes ([`io::ErrorKind::Interrupted`]). An
/// [`Alarm`](super::timer::Alarm) must exist. The byte is not locked when this function returns.
///
/// There is a thread for each byte but the first. It locks its byte for this process, which the kernel grants at the release, and
/// releases the byte at once. When this function returns, no thread uses the file. This function does not wait for the ends of the
/// threads.
pub fn wait_for_any_byte(file: &Arc<File>, bytes: &[u64]) -> io::Result<()> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
    let waits = Arc::new(ByteWaits {
        states: Mutex::new(ByteWaitStates { others: vec![ByteWait::Starting; rest.len()], first_is_back: false }),
        changed: Condvar::new(),
        is_over: AtomicBool::new(false),
        first: ThreadId::current(),
    });
    prepare_for_threads();
    prepare_for_forks();
    let start = |(index, byte): (usize, &u64)| {
        let (byte, file, theirs) = (*byte, Arc::clone(file), Arc::clone(&waits));
        let started = thread::Builder::new().stack_size(STACK).spawn(move || theirs.run_thread(file, index, byte));
        started.map(drop).inspect_err(|_| {
            // The threads after this one are not started either.
            lock_mutex(&waits.states).others[index..].fill(ByteWait::Ended);
        })
    };
    let started: io::Result<()> = with_signals_left_to_us(|| rest.iter().enumerate().try_for_each(start));
    let waited = started.and_then(|()| {
        if waits.is_over.load(Ordering::SeqCst) { Ok(()) } else { waits.wait_and_release(file, *first) }
    });
    let is_granted = waits.end_wait();
    waits.end_threads();
    match waited {
        Err(error) if error.kind() == io::ErrorKind::Interrupted && is_granted => Ok(()),
        waited => waited,
    }
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
