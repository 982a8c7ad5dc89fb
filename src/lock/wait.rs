//! Blocking until a lock is granted.
//!
//! The kernel keeps exclusive waiters in the order in which they began to wait (`__locks_insert_block` in its `fs/locks.c`).
//! It does not hand the lock over: a release wakes the first waiter, which then tries again.
//!
//! 1. A holds the lock. B and C wait, in this order.
//! 2. A releases it. The kernel wakes B.
//! 3. N, which does not wait yet, tries the lock before B runs, and gets it. B waits again, still before C.
//!
//! A shared request is granted while only shared locks are held, also where an exclusive request waits. A waiter that is
//! interrupted goes back to the end of the queue. So the first thread only waits: the reports to the user and the search for
//! deadlocks are for a second thread ([`os::with_companion`]). That one never takes the lock, does nothing for a moment, as
//! most waits are over by then, does nothing any more when the wait is over, and ends before that when there is nothing left
//! to do: a process that was granted the lock does not have to wait for its end.

use crate::base::target::Target;
use crate::lock::deadlock::ancestors;
use crate::lock::deadlock::circle::Circle;
use crate::lock::deadlock::detector::{DELAY_PER_WAITER, DeadlockDetector};
use crate::lock::holders::{self, LockState};
use crate::lock::inherit;
use crate::os::proc::lock_table;
use crate::os::{self, Mode};
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a wait lasts before anything is made of it.
const MOMENT: Duration = Duration::from_millis(100);

/// More than so many who wait for one lock are a crowd: each looks at all others only when it is its turn, or a thousand of
/// them would read a thousand lines a thousand times.
const CROWD: usize = 16;

/// How often to interrupt the wait until that is noticed.
const RING_AGAIN: Duration = Duration::from_millis(20);

/// What is done before each time that the call blocks. `Continue`: when to be called again, if not only after a signal.
pub(crate) type Meanwhile<'m> = &'m mut dyn FnMut() -> ControlFlow<(), Option<Duration>>;

/// Blocks in flock(2) under a timer that repeats. No polling. `false`: the deadline passed, or `meanwhile` would not wait
/// any longer.
pub(crate) fn block(
    alarm: &os::Alarm,
    lock: &File,
    mode: Mode,
    deadline: Option<Instant>,
    meanwhile: Meanwhile,
) -> io::Result<bool> {
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    loop {
        // What `meanwhile` prints may not be read by anybody.
        alarm.after(left());
        let ControlFlow::Continue(interval) = meanwhile() else { return Ok(false) };
        let left = left();
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        alarm.after([left, interval].into_iter().flatten().min());
        match os::wait_lock(lock, mode) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A wait for a lock, to be told of.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// The lock.
    pub target: &'a Target,
    over: &'a AtomicBool,
    /// How many wait: to be asked once, as that is not cheap where it is many.
    queue: OnceCell<usize>,
}

impl Waiting<'_> {
    /// Who has it ([`holders::observe_briefly`]). Of no use when the wait comes to its end meanwhile.
    #[must_use]
    pub fn state(&self) -> LockState {
        if self.is_one_of_a_crowd() {
            return holders::observe_taker(&self.target.path);
        }
        holders::observe_briefly_until(&self.target.path, self.over)
    }

    fn number(&self) -> usize {
        let count = || lock_table::queue(lock_table::file_id(&holders::identify_file(&self.target.path))).len();
        *self.queue.get_or_init(count)
    }

    fn is_one_of_a_crowd(&self) -> bool {
        self.number() > CROWD
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Which place in the queue we have, from 1, and how many wait. `None`: we are the only one, or it cannot be known.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        let file = lock_table::file_id(&holders::identify_file(&self.target.path));
        let queue: Vec<u32> = if self.is_one_of_a_crowd() {
            lock_table::queue(file)
        } else {
            lock_table::list().iter().filter(|one| one.waits && one.file == file).map(|one| one.lock.locker).collect()
        };
        let ours = std::process::id();
        let (at, number) = match queue.iter().position(|pid| *pid == ours) {
            Some(at) => (at + 1, queue.len()),
            // We are about to.
            None => (queue.len() + 1, queue.len() + 1),
        };
        (number > 1).then_some((at, number))
    }
}

/// Is told of contention, so that the user can be; beside the wait, by a second thread.
pub trait Contention: Send {
    /// How often to call [`Contention::tick`], if at all.
    fn interval(&self) -> Option<Duration>;
    /// Another has this lock; we wait.
    fn begins(&mut self, waiting: &Waiting);
    /// We still wait.
    fn tick(&mut self, waiting: &Waiting);
    /// We do not wait any more.
    fn ends(&mut self);
}

/// What goes on beside a wait.
struct Watcher<'a> {
    contention: &'a mut dyn Contention,
    detector: Option<DeadlockDetector>,
    waiting: Waiting<'a>,
    told: bool,
    next_look: Option<Instant>,
    next_tick: Option<Instant>,
}

impl Watcher<'_> {
    /// Tells, and looks, if it is time. How long there is nothing to do then, if there will be something; or the circle that we
    /// are to break.
    fn step(&mut self) -> Result<Option<Duration>, Circle> {
        let now = Instant::now();
        if self.next_look.is_some_and(|next| next <= now) {
            let first = self.detector.is_none();
            let detector = self.detector.get_or_insert_with(|| DeadlockDetector::new(&self.waiting.target.path));
            // Who has nothing for which another may wait is in no circle, and that is known without a look at all others.
            let later = if !detector.may_be_awaited() {
                (!ancestors::all_ancestors_wait()).then(|| detector.interval())
            } else if first && self.waiting.is_one_of_a_crowd() {
                Some(DELAY_PER_WAITER * u32::try_from(self.waiting.number()).unwrap_or(u32::MAX))
            } else if let Some(circle) = detector.search() {
                return Err(circle);
            } else {
                Some(detector.interval())
            };
            self.next_look = later.map(|later| Instant::now() + later);
        }
        if !self.told {
            self.told = true;
            self.contention.begins(&self.waiting);
            self.tick_later();
        } else if self.next_tick.is_some_and(|next| next <= now) {
            self.contention.tick(&self.waiting);
            self.tick_later();
        }
        let next = [self.next_tick, self.next_look].into_iter().flatten().min();
        Ok(next.map(|next| next.saturating_duration_since(Instant::now())))
    }

    fn tick_later(&mut self) {
        self.next_tick = self.contention.interval().and_then(|interval| Instant::now().checked_add(interval));
    }
}

/// How a wait ended.
pub(super) enum Waited {
    /// The lock is held.
    Granted,
    /// The deadline passed, or `meanwhile` would not wait any longer.
    GivenUp,
    /// It would never have ended.
    Circle(Circle),
}

/// Waits for the lock of `target`, which is open as `file`.
pub(super) fn wait(
    contention: &mut dyn Contention,
    (target, file, mode): (&Target, &File, Mode),
    alarm: &os::Alarm,
    deadline: Option<Instant>,
    meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
) -> io::Result<Waited> {
    let over = AtomicBool::new(false);
    let found = Mutex::new(None);
    let mut watcher = Watcher {
        contention: &mut *contention,
        detector: None,
        waiting: Waiting { target, over: &over, queue: OnceCell::new() },
        told: false,
        next_look: Some(Instant::now()),
        next_tick: None,
    };
    let watch = || {
        if held(&found).is_none() {
            match watcher.step() {
                Ok(pause) => return pause,
                Err(circle) => *held(&found) = Some(circle),
            }
        }
        // The first thread may be about to block, and not hear it: again, until it has.
        os::Alarm::soon();
        Some(RING_AGAIN)
    };
    let hurry = || over.store(true, Ordering::Relaxed);
    let mut go_on = || {
        let stop = held(&found).is_some() || meanwhile().is_break();
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(None) }
    };
    os::make_room(file, inherit::LOWEST_FD);
    let granted = os::with_companion(MOMENT, watch, hurry, || block(alarm, file, mode, deadline, &mut go_on));
    let granted = match granted {
        Ok(granted) => granted,
        // No thread to be had: then we do it ourselves, between one time that we block and the next.
        Err(_) => block(alarm, file, mode, deadline, &mut || {
            if meanwhile().is_break() {
                return ControlFlow::Break(());
            }
            match watcher.step() {
                Ok(pause) => ControlFlow::Continue(pause),
                Err(circle) => {
                    *held(&found) = Some(circle);
                    ControlFlow::Break(())
                }
            }
        }),
    };
    contention.ends();
    Ok(match (granted?, held(&found).take()) {
        (true, _) => Waited::Granted,
        // On a busy machine a circle may be found after the deadline, and before the first thread notices that it has passed.
        (false, Some(circle)) if deadline.is_none_or(|deadline| Instant::now() < deadline) => Waited::Circle(circle),
        (false, _) => Waited::GivenUp,
    })
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
