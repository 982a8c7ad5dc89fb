//! The requests of this process that are not answered yet, for [`crate::cancellation`].
//!
//! A server may act on a request after it has answered a later one on another connection. So before a pending lease is given
//! back, no other thread may send a request any more, and the requests on their way must have been answered:
//!
//! 1. The thread that gives back calls [`stop_others`]. From here on, a request of another thread does not begin.
//! 2. It calls [`wait_for_answers`]. A short request is answered, or reaches its time limit.
//! 3. A request that waits at the server for the lock would be answered much later. Its connection is closed for writing, so the
//!    server takes it from the queue and answers, unless it has answered before.
//!
//! If a request ends without an answer, the server may still act on it: [`is_in_doubt`].
//!
//! All numbers are atomic, because a process that forks has no lock that its child could find locked.

use crate::os::clock::Moment;
use crate::os::descriptor;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The longest wait for the answers to short requests: a little more than the time limit of one request.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

/// The longest wait for the answer to a request that waited for the lock, after its connection was closed for writing.
const WAITING_LIMIT: Duration = Duration::from_secs(1);

/// The pause between two looks at the numbers.
const PAUSE: Duration = Duration::from_millis(2);

/// The number of short requests, and of requests that may wait at the server.
static SHORT: AtomicU32 = AtomicU32::new(0);
static WAITING: AtomicU32 = AtomicU32::new(0);

static IS_STOPPED: AtomicBool = AtomicBool::new(false);
static IS_IN_DOUBT: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// True in the thread that has called [`stop_others`].
    static IS_EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// A request that counts until the value is dropped.
#[must_use = "the request counts until it is dropped"]
pub(super) struct InFlight(&'static AtomicU32);

impl InFlight {
    /// Begins a request. Does not return if another thread has stopped all others.
    pub(super) fn begin(may_wait: bool) -> Self {
        let number = if may_wait { &WAITING } else { &SHORT };
        // The number grows before the look, and `stop_others` sets the flag before it looks at the number. So at least one
        // of the two threads sees the other.
        number.fetch_add(1, Ordering::SeqCst);
        let request = Self(number);
        if IS_STOPPED.load(Ordering::SeqCst) && !IS_EXEMPT.get() {
            drop(request);
            loop {
                thread::park();
            }
        }
        request
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Notes that a request has ended without an answer, so the server may still act on it.
pub(super) fn note_doubt() {
    IS_IN_DOUBT.store(true, Ordering::SeqCst);
}

/// Returns true if a server may still act on a request of this process.
pub(crate) fn is_in_doubt() -> bool {
    IS_IN_DOUBT.load(Ordering::SeqCst)
}

/// Keeps all other threads from beginning a request, until the end of this process.
pub(crate) fn stop_others() {
    IS_EXEMPT.set(true);
    IS_STOPPED.store(true, Ordering::SeqCst);
}

/// Waits until all requests are answered, but not long.
pub(crate) fn wait_for_answers() {
    let wait = |number: &AtomicU32, limit| {
        let end = Moment::now().plus(limit);
        while number.load(Ordering::SeqCst) > 0 {
            if end.is_past() {
                return note_doubt();
            }
            thread::sleep(PAUSE);
        }
    };
    wait(&SHORT, SHORT_LIMIT);
    if WAITING.load(Ordering::SeqCst) > 0 {
        descriptor::end_own_streams();
        wait(&WAITING, WAITING_LIMIT);
    }
}
