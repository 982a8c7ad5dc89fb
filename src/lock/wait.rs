//! Waits until a lock is granted, in flock(2) or fcntl(2) and without polling.
//!
//! [`acquire`](super::acquire) calls `wait_for_grant` for a lock that another process holds. While the first thread waits, a
//! second one ([`os::with_companion`]) reports the wait to the user and searches for deadlocks. A task calls
//! `block_until_granted`, and does these things itself.
//!
//! # The order of waiters
//!
//! The kernel keeps the exclusive waiters of a lock in the order in which they began to wait (`__locks_insert_block` in its
//! `fs/locks.c`). A release does not hand the lock over. It wakes the first waiter, which then tries again:
//!
//! 1. A holds the lock. B and C wait, in this order.
//! 2. A releases it. The kernel wakes B.
//! 3. N, which does not wait yet, tries the lock before B runs, and gets it. B waits again, still before C.
//!
//! The kernel grants a shared request while only shared locks are held, even if an exclusive request waits. So shared callers do not
//! ask the kernel then, but wait at a turnstile. `lock/turnstile.rs` has this order, and that of `--priority`.
//!
//! # Two threads
//!
//! A waiter that is interrupted goes back to the end of the queue. That is why the first thread does nothing but wait. The
//! second thread never takes the lock. It starts after a moment, because most waits are over by then, and takes no step after
//! the wait has ended. It ends as soon as it has nothing left to do. As long as other processes acquire the lock, it only looks
//! at the time of the record now and then (`holder_changes`). So a long queue that moves costs little.
//!
//! The second thread is created before the first one blocks, although most waits end before it has work. It cannot be created
//! later: the first thread sleeps in flock(2), a signal that wakes it would cost its place in the queue, and no other thread of
//! the process exists. A thread that only sleeps costs about 30 µs of processor time (`os/companion` says how).
//!
//! # The end of a wait
//!
//! 1. The second thread sleeps between two steps. flock(2) returns in the first thread.
//! 2. The first thread takes the step away, under a mutex. When the second thread wakes, it finds no step, and ends.
//! 3. If the process exits or becomes a command, the kernel ends the second thread, which runs no more code. Otherwise the first
//!    thread wakes it, so that it ends now.
//!
//! Until the second thread has ended, it may have a copy of each descriptor that was open at its first step. So a call that goes on without
//! the lock releases it explicitly (`release_all` in `lock_wait`).
//!
//! If flock(2) returns during a step, the first thread sets `over` and waits for the end of the step. The expensive parts of a
//! step look at `over` again and again.

mod holder_changes;

use crate::base::target::{Kind, Target};
use crate::lock::deadlock::circle::Circle;
use crate::lock::deadlock::detector::{DELAY_PER_WAITER, DeadlockDetector};
use crate::lock::holders::{self, LockState, ranges};
use crate::lock::inherit;
use crate::lock::kill::ForcedRelease;
use crate::lock::log_flag;
use crate::lock::request::{AfterGrant, Request};
use crate::os::proc::lock_table;
use crate::os::{self, Mode};
use holder_changes::HolderChanges;
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time after which a wait is reported and the search for deadlocks begins.
pub(super) const MOMENT: Duration = Duration::from_millis(100);

/// The length of a queue above which a waiter examines no other process at once: it reports only the holder that the
/// record names, and its first search for deadlocks is delayed in proportion to the queue. Otherwise each of a thousand
/// waiters would read the facts about all thousand.
const LONG_QUEUE: usize = 16;

/// The pause between two attempts to interrupt the first thread.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

/// A function that is called each time before the thread blocks. `Continue` contains the time after which the function
/// must be called again; `None` means only after a signal. `Break` ends the wait.
pub(crate) type BeforeBlocking<'f> = &'f mut dyn FnMut() -> ControlFlow<(), Option<Duration>>;

/// A function that blocks until the lock is granted, or until a signal comes ([`io::ErrorKind::Interrupted`]).
pub(crate) type BlockOnce<'f> = &'f mut dyn FnMut() -> io::Result<()>;

/// Blocks in `block_once`, under a timer that repeats, until the lock is granted. Returns false if the deadline passed, or
/// if `before_blocking` ended the wait.
pub(crate) fn block_until_granted(
    alarm: &os::Alarm,
    block_once: BlockOnce,
    deadline: Option<Instant>,
    before_blocking: BeforeBlocking,
) -> io::Result<bool> {
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    loop {
        // The timer runs already now, because `before_blocking` can block if it prints and no process reads.
        alarm.after(left());
        let ControlFlow::Continue(interval) = before_blocking() else { return Ok(false) };
        let left = left();
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        alarm.after([left, interval].into_iter().flatten().min());
        match block_once() {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A wait for a lock, as [`Contention`] sees it.
#[derive(Debug)]
pub struct Waiting<'a> {
    pub target: &'a Target,
    over: &'a AtomicBool,
    /// The number of waiters. It is read once, because that is expensive for a long queue.
    queue_len: OnceCell<usize>,
    /// False if this process is not in the queue, because it does not ask for the lock.
    queues: bool,
    /// True if another thread of this process is in the queue during the report.
    is_queued: bool,
    /// The mode, if the wait is for a lock of fcntl(2), for which the kernel shows no queue.
    fcntl: Option<Mode>,
}

impl<'a> Waiting<'a> {
    /// Returns a wait of a process that only waits until the lock is free.
    pub(super) fn without_queue(target: &'a Target, over: &'a AtomicBool) -> Self {
        Self { target, over, queue_len: OnceCell::new(), queues: false, is_queued: false, fcntl: None }
    }

    /// Returns the holder ([`holders::observe_briefly`]). The result is of no use if the wait ends before this returns.
    #[must_use]
    pub fn state(&self) -> LockState {
        if let Some(mode) = self.fcntl {
            let range = ranges::find_conflicting_range(&self.target.path, mode, 0, 0);
            return LockState { range, ..LockState::default() };
        }
        if self.has_long_queue() {
            return holders::observe_taker(&self.target.path);
        }
        let state = holders::observe_briefly_until(&self.target.path, self.over);
        let range = match &state.holding {
            None if self.queues => ranges::find_lock_of_others(&self.target.path),
            None if self.target.kind == Kind::Users => ranges::find_range_lock(&self.target.path),
            _ => None,
        };
        // A process in the queue has opened the file.
        let may_be_leased = !self.queues && state.holding.is_none() && range.is_none();
        let lease = if may_be_leased { holders::find_lease(&self.target.path).map(Box::new) } else { None };
        LockState { range, lease, ..state }
    }

    fn queue_len(&self) -> usize {
        let file = || lock_table::file_id(&holders::identify_file(&self.target.path));
        let count = || lock_table::lines::count_waiters(file(), self.is_queued.then(std::process::id));
        *self.queue_len.get_or_init(count)
    }

    fn has_long_queue(&self) -> bool {
        self.queue_len() > LONG_QUEUE
    }

    /// Returns true if the wait has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Returns the position of this process in the queue, from 1, and the length of the queue. `None`: no other process
    /// waits, or the queue cannot be read.
    #[must_use]
    pub fn queue_position(&self) -> Option<(usize, usize)> {
        if !self.queues {
            return None;
        }
        let file = lock_table::file_id(&holders::identify_file(&self.target.path));
        let queue: Vec<u32> = if self.has_long_queue() {
            lock_table::queue(file)
        } else {
            lock_table::list().iter().filter(|one| one.waits && one.file == file).map(|one| one.lock.locker).collect()
        };
        let ours = std::process::id();
        let (position, len) = match queue.iter().position(|pid| *pid == ours) {
            Some(at) => (at + 1, queue.len()),
            // This process is about to begin its wait.
            None => (queue.len() + 1, queue.len() + 1),
        };
        (len > 1).then_some((position, len))
    }
}

/// Callbacks that report contention to the user. A second thread calls them while the first one waits.
pub trait Contention: Send {
    /// Returns false if the other functions report nothing.
    fn reports(&self) -> bool {
        true
    }
    /// Returns the time between two calls of [`Contention::tick`]. `None`: it is never called.
    fn interval(&self) -> Option<Duration>;
    /// Called once, when another process holds the lock and this one waits.
    fn begins(&mut self, waiting: &Waiting);
    /// Called after each interval of the wait.
    fn tick(&mut self, waiting: &Waiting);
    /// Called when the wait has ended.
    fn ends(&mut self);
    /// Called between two waits, when this process has tried to end the holder of `target` (`--replace`).
    fn replaces(&mut self, _target: &Target, _release: &ForcedRelease) {}
}

/// The work of the second thread.
struct Watcher<'a> {
    contention: &'a mut dyn Contention,
    changes: HolderChanges<'a>,
    detector: Option<DeadlockDetector>,
    waiting: Waiting<'a>,
    /// True if a look was skipped, because other processes acquired the lock.
    has_seen_changes: bool,
    /// True if this process was awaited at an earlier step, so that it has delayed its first search in a long queue.
    was_awaited: bool,
    has_reported: bool,
    next_look: Option<Instant>,
    next_tick: Option<Instant>,
}

impl Watcher<'_> {
    /// Returns true if it is time for a report or for a search.
    fn has_work(&mut self) -> bool {
        let now = Instant::now();
        if self.next_look.is_some_and(|next| next <= now)
            && let Some(pause) = self.changes.skip_look()
        {
            self.has_seen_changes = true;
            self.next_look = Some(now + pause);
        }
        self.has_reported |= !self.contention.reports();
        let is_due = |next: Option<Instant>| next.is_some_and(|next| next <= now);
        !self.has_reported || is_due(self.next_look) || is_due(self.next_tick)
    }

    /// Returns the pause until the next step, or `None` if there is none.
    fn next_pause(&self) -> Option<Duration> {
        let next = [self.next_tick, self.next_look].into_iter().flatten().min();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Searches for a deadlock and reports the wait, each if it is time. Returns the circle that this process must break.
    fn step(&mut self) -> Result<(), Circle> {
        let now = Instant::now();
        if self.next_look.is_some_and(|next| next <= now) {
            let later = self.look()?;
            self.next_look = later.map(|later| Instant::now() + later);
        }
        if !self.has_reported {
            self.has_reported = true;
            self.contention.begins(&self.waiting);
            self.schedule_tick();
        } else if self.next_tick.is_some_and(|next| next <= now) {
            self.contention.tick(&self.waiting);
            self.schedule_tick();
        }
        Ok(())
    }

    /// Searches for a deadlock, if a few reads do not show that there is none. Returns the pause until the next look, `None` if
    /// there is none, or the circle that this process must break.
    fn look(&mut self) -> Result<Option<Duration>, Circle> {
        let is_first_step = self.detector.is_none();
        let detector = self.detector.get_or_insert_with(|| DeadlockDetector::new(&self.waiting.target.path));
        detector.set_fcntl(self.waiting.fcntl);
        if self.has_seen_changes {
            detector.note_progress();
        }
        if is_first_step && detector.is_held_by_active_process() {
            return Ok(Some(detector.interval()));
        }
        if !detector.may_be_awaited(self.waiting.over) {
            // A process for which no other can wait is in no circle. That is known without a look at all others.
            return Ok((!detector.is_done()).then(|| detector.interval()));
        }
        if !mem::replace(&mut self.was_awaited, true) && self.waiting.has_long_queue() {
            return Ok(Some(DELAY_PER_WAITER * u32::try_from(self.waiting.queue_len()).unwrap_or(u32::MAX)));
        }
        detector.search(self.waiting.over).map_or(Ok(Some(detector.interval())), Err)
    }

    fn schedule_tick(&mut self) {
        self.next_tick = self.contention.interval().and_then(|interval| Instant::now().checked_add(interval));
    }
}

/// The search for deadlocks during a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadlockSearch {
    Repeated,
    /// The wait is not for the lock itself, but for a process that ends its holder.
    Never,
}

/// The result of a wait.
pub(super) enum WaitOutcome {
    Granted,
    /// The deadline passed, or `may_go_on` returned `Break`.
    GivenUp,
    /// The wait would never have ended.
    Deadlock(Circle),
}

/// Waits for the lock of `target`, which is open as `file`, in `block_once`. `may_go_on` is called each time before the thread
/// blocks.
pub(super) fn wait_for_grant(
    contention: &mut dyn Contention,
    (target, file, request): (&Target, &File, &Request),
    block_once: BlockOnce,
    alarm: &os::Alarm,
    deadline: Option<Instant>,
    may_go_on: &mut dyn FnMut() -> ControlFlow<()>,
    search: DeadlockSearch,
) -> io::Result<WaitOutcome> {
    let over = AtomicBool::new(false);
    let found: OnceLock<Circle> = OnceLock::new();
    let mut watcher = Watcher {
        contention: &mut *contention,
        // Programs that lock a file with fcntl(2) write no record.
        changes: HolderChanges::new((target.kind == Kind::Named && !request.fcntl).then_some(file)),
        detector: None,
        waiting: Waiting {
            target,
            over: &over,
            queue_len: OnceCell::new(),
            queues: search == DeadlockSearch::Repeated && !request.fcntl,
            is_queued: search == DeadlockSearch::Repeated && !request.fcntl,
            fcntl: request.fcntl.then_some(request.mode),
        },
        has_seen_changes: false,
        was_awaited: false,
        has_reported: false,
        next_look: (search == DeadlockSearch::Repeated).then(Instant::now),
        next_tick: None,
    };
    let has_slots = request.slots.is_some();
    // The watcher reads lock files. If it closed the one of this wait, the bytes that the first thread holds would be released.
    let kept = OnceLock::new();
    let keep_open = || _ = kept.get_or_init(|| os::KeptFile::keep(file).ok());
    let mut is_separate = false;
    let watch = || {
        // On a busy machine, this thread may wake after the deadline, before the first one notices that it has passed.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
        if found.get().is_none() {
            if !watcher.has_work() {
                return watcher.next_pause();
            }
            if !mem::replace(&mut is_separate, true) {
                os::prepare_long_step();
                if !os::separate_descriptors() {
                    keep_open();
                }
            }
            match watcher.step() {
                Ok(()) => return watcher.next_pause(),
                Err(circle) => _ = found.set(circle),
            }
        }
        // If the signal arrives just before the first thread blocks, it has no effect. It is repeated until the wait ends.
        os::Alarm::soon();
        Some(INTERRUPT_AGAIN)
    };
    let hurry = || over.store(true, Ordering::Relaxed);
    let mut before_blocking = || {
        let stop = found.get().is_some() || may_go_on().is_break();
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(None) }
    };
    os::make_room(file, inherit::LOWEST_FD);
    // A process that logs the release of the lock does not become the command. The second thread would keep the lock, because it has
    // descriptors of its own.
    let is_logged = || file.metadata().is_ok_and(|data| log_flag::is_logged(data.mode()));
    let ends = || match request.after_grant {
        AfterGrant::GoesOn => false,
        AfterGrant::BecomesCommand => !is_logged(),
        AfterGrant::Exits => true,
    };
    let granted = os::with_companion(
        MOMENT,
        watch,
        hurry,
        || block_until_granted(alarm, &mut *block_once, deadline, &mut before_blocking),
        |granted| matches!(granted, Ok(true)) && ends(),
    );
    let granted = match granted {
        Ok(granted) => granted,
        // A wait for slots needs threads.
        Err(error) if has_slots => Err(error),
        // No thread could be started, so this one does the steps of the watcher each time before it blocks.
        Err(_) => {
            keep_open();
            watcher.waiting.is_queued = false;
            block_until_granted(alarm, block_once, deadline, &mut || {
                if may_go_on().is_break() {
                    return ControlFlow::Break(());
                }
                if watcher.has_work()
                    && let Err(circle) = watcher.step()
                {
                    _ = found.set(circle);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(watcher.next_pause())
            })
        }
    };
    contention.ends();
    Ok(match (granted?, found.into_inner()) {
        (true, _) => WaitOutcome::Granted,
        // On a busy machine, the watcher may find a deadlock after the deadline, before this thread notices that it has passed.
        (false, Some(circle)) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
            WaitOutcome::Deadlock(circle)
        }
        (false, _) => WaitOutcome::GivenUp,
    })
}
