//! Blocking until a lock is had.
//!
//! Most waits are over in a moment, and nothing is made of them. For the others: the kernel serves those who wait in the
//! order in which they began (`__locks_insert_block` in its `fs/locks.c`), and who is interrupted goes back to the end of
//! the queue; which all do once, each after the same moment, so that the order stays. From there on the one who waits
//! does nothing else: what is to be done meanwhile, to tell the user and to look for deadlocks, is for a second thread.
//! That one never takes the lock, and has ended when the wait has.

use super::{Contention, Mode, Target};
use crate::deadlock::{Circle, Lookout};
use crate::holders::{self, State};
use crate::{kernel, sys};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a wait lasts before anything is made of it.
const MOMENT: Duration = Duration::from_millis(100);

/// How soon to look for a circle that two closed at once: both looked before either of them waited.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long the second thread may take to end before it is nudged.
const NUDGE_AFTER: Duration = Duration::from_millis(20);

/// A second thread needs little room.
const STACK: usize = 256 * 1024;

/// What is done before each time that the call blocks. `Continue`: when to be called again, if not only after a signal.
pub(crate) type Meanwhile<'m> = &'m mut dyn FnMut() -> ControlFlow<(), Option<Duration>>;

/// Blocks in flock(2) under a timer that repeats. No polling. `false`: the deadline passed, or `meanwhile` would not wait
/// any longer.
pub(crate) fn block(
    alarm: &sys::Alarm,
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
        match sys::wait_lock(lock, mode) {
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
}

impl Waiting<'_> {
    /// Who has it. Of no use when the wait comes to its end meanwhile.
    #[must_use]
    pub fn state(&self) -> State {
        holders::of_until(&self.target.path, self.over)
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Which place in the queue we have, from 1, and how many wait. `None`: we are the only one, or it cannot be known.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        let file = kernel::file_id(&holders::wanted(&self.target.path));
        let queue: Vec<u32> =
            kernel::list().iter().filter(|one| one.waits && one.file == file).map(|one| one.lock.locker).collect();
        let ours = std::process::id();
        let (at, number) = match queue.iter().position(|pid| *pid == ours) {
            Some(at) => (at + 1, queue.len()),
            // We are about to.
            None => (queue.len() + 1, queue.len() + 1),
        };
        (number > 1).then_some((at, number))
    }
}

/// What goes on beside a wait.
struct Watcher<'a> {
    contention: &'a mut dyn Contention,
    lookout: Lookout,
    waiting: Waiting<'a>,
    begun: bool,
    next_look: Instant,
    next_tick: Option<Instant>,
}

impl Watcher<'_> {
    /// Tells, and looks, if it is time. How long there is nothing to do then; or the circle that we are to break.
    fn step(&mut self) -> Result<Duration, Circle> {
        if !self.begun {
            self.begun = true;
            self.contention.begins(&self.waiting);
            self.tick_later();
        } else if self.next_tick.is_some_and(|next| next <= Instant::now()) {
            self.contention.tick(&self.waiting);
            self.tick_later();
        }
        if self.next_look <= Instant::now() {
            if let Some(circle) = self.lookout.look() {
                return Err(circle);
            }
            self.next_look = Instant::now() + self.lookout.interval();
        }
        let next = self.next_tick.map_or(self.next_look, |next| next.min(self.next_look));
        Ok(next.saturating_duration_since(Instant::now()))
    }

    fn tick_later(&mut self) {
        self.next_tick = self.contention.interval().and_then(|interval| Instant::now().checked_add(interval));
    }
}

/// What the two threads share.
#[derive(Default)]
struct Shared {
    found: Option<Circle>,
    watcher: Option<sys::ThreadId>,
    ended: bool,
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
    alarm: &sys::Alarm,
    deadline: Option<Instant>,
    meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
) -> io::Result<Waited> {
    let moment = Instant::now() + MOMENT;
    let first = deadline.map_or(moment, |deadline| deadline.min(moment));
    let mut interrupted = false;
    let granted = block(alarm, file, mode, Some(first), &mut || {
        interrupted = meanwhile().is_break();
        if interrupted { ControlFlow::Break(()) } else { ControlFlow::Continue(None) }
    })?;
    if granted {
        return Ok(Waited::Granted);
    }
    if interrupted || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Ok(Waited::GivenUp);
    }
    let mut lookout = Lookout::new(&target.path);
    if let Some(circle) = lookout.before() {
        return Ok(Waited::Circle(circle));
    }
    let over = AtomicBool::new(false);
    let (shared, bell) = (Mutex::new(Shared::default()), Condvar::new());
    let mut watcher = Watcher {
        contention: &mut *contention,
        lookout,
        waiting: Waiting { target, over: &over },
        begun: false,
        next_look: Instant::now() + LOOK_AGAIN,
        next_tick: None,
    };
    let watch = |watcher: &mut Watcher| {
        held(&shared).watcher = Some(sys::ThreadId::current());
        while !over.load(Ordering::Relaxed) {
            match watcher.step() {
                Ok(pause) => {
                    let shared = held(&shared);
                    if !over.load(Ordering::Relaxed) {
                        drop(bell.wait_timeout(shared, pause));
                    }
                }
                Err(circle) => {
                    held(&shared).found = Some(circle);
                    // It may be about to block.
                    while !over.load(Ordering::Relaxed) {
                        sys::Alarm::soon();
                        let shared = held(&shared);
                        if !over.load(Ordering::Relaxed) {
                            drop(bell.wait_timeout(shared, NUDGE_AFTER));
                        }
                    }
                }
            }
        }
        held(&shared).ended = true;
        bell.notify_all();
    };
    let mut granted = || {
        block(alarm, file, mode, deadline, &mut || {
            let stop = held(&shared).found.is_some() || meanwhile().is_break();
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(None) }
        })
    };
    let granted = thread::scope(|scope| {
        let watcher = &mut watcher;
        let thread = thread::Builder::new().stack_size(STACK);
        let begin = || thread.spawn_scoped(scope, || watch(watcher));
        let Ok(running) = sys::with_signals_left_to_us(begin) else { return None };
        let granted = granted();
        // It may be about to print to somebody who does not read.
        let mut state = held(&shared);
        over.store(true, Ordering::Relaxed);
        bell.notify_all();
        while !state.ended {
            let (again, timeout) = bell.wait_timeout(state, NUDGE_AFTER).unwrap_or_else(PoisonError::into_inner);
            state = again;
            if let (true, Some(thread)) = (timeout.timed_out() && !state.ended, state.watcher) {
                thread.nudge();
            }
        }
        drop(state);
        let _ = running.join();
        Some(granted)
    });
    let granted = match granted {
        Some(granted) => granted,
        // No thread to be had: then we do it ourselves, between one time that we block and the next.
        None => block(alarm, file, mode, deadline, &mut || {
            if meanwhile().is_break() {
                return ControlFlow::Break(());
            }
            match watcher.step() {
                Ok(pause) => ControlFlow::Continue(Some(pause)),
                Err(circle) => {
                    held(&shared).found = Some(circle);
                    ControlFlow::Break(())
                }
            }
        }),
    };
    contention.ends();
    Ok(match (granted?, held(&shared).found.take()) {
        (true, _) => Waited::Granted,
        (false, Some(circle)) => Waited::Circle(circle),
        (false, None) => Waited::GivenUp,
    })
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
