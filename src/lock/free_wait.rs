//! Waits until locks are free, without acquiring them (`aba-lock wait`).
//!
//! A waiter that acquires the lock for an instant, even shared, makes attempts of other processes fail that do not wait. So
//! this one only observes the lock:
//!
//! 1. It watches the lock file with inotify(7).
//! 2. It looks into the kernel's table of locks. If no process holds the lock, it ends.
//! 3. It waits for an event or a timer, and goes to 2.
//!
//! # Promises
//!
//! - An attempt of another process never fails because of this one. It creates no lock file, and opens one for
//!   writing only if another user may have a lease on it.
//! - A lock counts as free if it was free at some moment. With several locks, each was free at some moment, not all of them at
//!   the same time. A lock that is free only for an instant may be missed: the waiter then waits for the next moment.
//! - A file that does not exist is free. If the file at the path is replaced, only the new one counts.
//! - A process that releases the lock with its last close is noticed within some milliseconds; any other release, such as
//!   that of `flock -u` or of `unlock --fd`, within a second.
//!
//! # Events and the timer
//!
//! The kernel sends the event of a close before it releases the lock, and none for a release without a close:
//!
//! 1. H ends. The kernel sends the event.
//! 2. The waiter looks: H still holds the lock.
//! 3. The kernel releases the lock. No further event follows.
//!
//! So the waiter looks again after pauses that double from a millisecond to a second, and each event starts them
//! anew. A pause is also a multiple of the time that the last look took, so that a lock file that other processes open all
//! the time does not keep this one busy. If events are not available, because this user may not read the file or the limit of inotify
//! is reached, the end of a process that called flock(2) ends the pause, too.
//!
//! A process that waits in this way is not in the kernel's queue, so `status` does not list it. It holds nothing, so it
//! leaves nothing if it is killed.

use crate::base::target::{Kind, Target};
use crate::lock::deadlock::circle::Circle;
use crate::lock::deadlock::detector::DeadlockDetector;
use crate::lock::error::LockError;
use crate::lock::events::{self, LockEvent};
use crate::lock::holders::{self, Availability, ranges};
use crate::lock::open::{INSTANT, check_links, check_lock_file, find_planted_names, stays_leased};
use crate::lock::wait::{Contention, MOMENT, Waiting};
use crate::os::proc::{lock_table, process};
use crate::os::{self, FileWatch, Mode, Process};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

/// The pause after the first look, and after an event.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between two looks.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A pause is at least this many times as long as the look before it took.
const PAUSE_FACTOR: u32 = 20;

/// The longest pause that [`PAUSE_FACTOR`] can cause.
const MAX_BUSY_PAUSE: Duration = Duration::from_millis(250);

/// A wait without a second thread is never over during a search or a report.
static NEVER: AtomicBool = AtomicBool::new(false);

/// The locks to wait for, and the limits of the wait.
#[derive(Debug)]
pub struct FreeRequest {
    pub targets: Vec<Target>,
    /// The mode in which the lock could be acquired at the end of the wait: for `Shared`, only exclusive holders count.
    pub mode: Mode,
    /// True if the wait ends when one of the locks is free.
    pub any: bool,
    /// The limit of the wait. `None`: forever.
    pub limit: Option<Duration>,
}

/// The result of a wait that did not fail.
#[derive(Debug)]
pub enum FreeOutcome {
    /// The lock that was found free last.
    Free(Target),
    /// It cannot be determined from here whether this lock is held.
    Unknown(Target),
}

/// Waits until all of the locks, or any of them, are free.
///
/// Fails with [`LockError::TimedOut`] or [`LockError::Deadlock`], or if a lock file cannot be examined.
pub fn wait_until_free(request: FreeRequest, contention: &mut dyn Contention) -> Result<FreeOutcome, LockError> {
    let mut wait = FreeWait::new(&request);
    let done = wait.run(request.targets, contention);
    if wait.has_reported {
        contention.ends();
    }
    done
}

/// A lock that was held at the last look.
struct HeldTarget {
    target: Target,
    detector: Option<DeadlockDetector>,
    next_search: Option<Instant>,
    circle: Option<Circle>,
    /// True if it was held by fcntl(2), and not by flock(2).
    is_fcntl: bool,
    /// The processes that called flock(2), if their end is the only event that is available.
    lockers: Vec<Process>,
}

/// The state of one call of [`wait_until_free`].
struct FreeWait {
    mode: Mode,
    any: bool,
    limit: Option<Duration>,
    started: Instant,
    watch: FileWatch,
    has_reported: bool,
    next_tick: Option<Instant>,
}

impl FreeWait {
    fn new(request: &FreeRequest) -> Self {
        Self {
            mode: request.mode,
            any: request.any,
            limit: request.limit,
            started: Instant::now(),
            watch: FileWatch::new(),
            has_reported: false,
            next_tick: None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.limit.and_then(|limit| self.started.checked_add(limit))
    }

    fn run(&mut self, targets: Vec<Target>, contention: &mut dyn Contention) -> Result<FreeOutcome, LockError> {
        let deadline = self.deadline();
        let next_search = Some(self.started + MOMENT);
        let begin = |target| HeldTarget {
            target,
            detector: None,
            next_search,
            circle: None,
            is_fcntl: false,
            lockers: Vec::new(),
        };
        let mut held: Vec<HeldTarget> = targets.into_iter().map(begin).collect();
        let mut pause = FIRST_PAUSE;
        let mut is_first = true;
        loop {
            let look = Instant::now();
            if let Some(outcome) = self.look(&mut held)? {
                return Ok(outcome);
            }
            if is_first {
                let event = LockEvent::Contended { is_skipped: false, waits: deadline != Some(self.started) };
                for one in &held {
                    log(&event, one);
                }
            }
            is_first = false;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(self.time_out(&held));
            }
            let looked = Instant::now();
            let rest = ((looked - look) * PAUSE_FACTOR).min(MAX_BUSY_PAUSE);
            self.report(&held, contention);
            self.search(&mut held)?;
            let due = held.iter().filter_map(|one| one.next_search).chain(self.next_report()).chain(deadline);
            let now = Instant::now();
            let left = due.min().map_or(LAST_PAUSE, |due| due.saturating_duration_since(now));
            // Events that come during this rest are not lost: they end the wait below at once.
            let busy = rest.saturating_sub(now - looked).min(left);
            thread::sleep(busy);
            let lockers: Vec<Process> = held.iter_mut().flat_map(|one| one.lockers.drain(..)).collect();
            let limit = pause.min(left.saturating_sub(busy));
            pause = if self.watch.wait(&lockers, limit) {
                FIRST_PAUSE
            } else if limit == pause {
                (pause * 2).min(LAST_PAUSE)
            } else {
                pause
            };
        }
    }

    /// Looks at all locks. Returns the outcome if the wait is over, and otherwise keeps those that are held.
    fn look(&mut self, held: &mut Vec<HeldTarget>) -> Result<Option<FreeOutcome>, LockError> {
        let mut at = 0;
        while let Some(one) = held.get_mut(at) {
            match self.look_at(one)? {
                Availability::Held => at += 1,
                Availability::Unknown => return Ok(Some(FreeOutcome::Unknown(held.remove(at).target))),
                Availability::Free => {
                    let free = held.remove(at);
                    if self.has_reported {
                        log(&LockEvent::Free { waited: self.started.elapsed() }, &free);
                    }
                    if self.any || held.is_empty() {
                        return Ok(Some(FreeOutcome::Free(free.target)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns whether a process holds the lock. The watch begins before the look: otherwise a release between the two would be
    /// missed.
    fn look_at(&mut self, held: &mut HeldTarget) -> Result<Availability, LockError> {
        let target = &*held.target.resolved();
        let Some(data) = check_lock_file(target)? else { return Ok(Availability::Free) };
        let is_watched = self.watch.add(&target.path);
        if !is_watched {
            held.lockers = open_lockers(target);
        }
        let may_be_fcntl = target.kind == Kind::Users;
        held.is_fcntl = may_be_fcntl && ranges::is_listed(&target.path, self.mode);
        if held.is_fcntl {
            return Ok(Availability::Held);
        }
        let found = holders::find_conflict(&target.path, self.mode);
        let is_range_held = || may_be_fcntl && ranges::find_conflicting_range(&target.path, self.mode, 0, 0).is_some();
        if found != Availability::Held && !is_range_held() {
            // The lock cannot be acquired either while the file cannot be opened.
            let left = self.deadline().map_or(INSTANT, |deadline| deadline.saturating_duration_since(Instant::now()));
            let patience = if self.limit == Some(Duration::ZERO) { INSTANT } else { left.min(INSTANT) };
            // Only the owner of a private file can take a lease on it.
            let is_leased = found == Availability::Free
                && data.mode() & 0o077 != 0
                && os::is_leased(&target.path)
                && stays_leased(&target.path, patience.min(holders::find_lease_patience(&target.path)));
            if found == Availability::Free
                && find_planted_names(target, data.nlink()).is_some_and(|it| !it.is_replaceable())
            {
                check_links(target, data.nlink())?;
            }
            // Also if the file was removed during the look.
            return Ok(if is_leased { Availability::Held } else { found });
        }
        held.is_fcntl = found != Availability::Held;
        Ok(Availability::Held)
    }

    /// Reports the wait after a moment, and on a terminal again and again.
    fn report(&mut self, held: &[HeldTarget], contention: &mut dyn Contention) {
        let now = Instant::now();
        if self.next_report().is_none_or(|next| next > now) {
            return;
        }
        if self.has_reported {
            contention.tick(&Waiting::without_queue(&held[0].target, &NEVER));
        } else {
            self.has_reported = true;
            for one in held {
                contention.begins(&Waiting::without_queue(&one.target, &NEVER));
            }
        }
        self.next_tick = contention.interval().and_then(|interval| Instant::now().checked_add(interval));
    }

    fn next_report(&self) -> Option<Instant> {
        if self.has_reported { self.next_tick } else { Some(self.started + MOMENT) }
    }

    /// Searches for deadlocks where it is time. One circle is enough, except for a wait for any of the locks.
    fn search(&self, held: &mut [HeldTarget]) -> Result<(), LockError> {
        for one in held.iter_mut() {
            if one.next_search.is_none_or(|next| next > Instant::now()) {
                continue;
            }
            let path = &one.target.path;
            let detector = one.detector.get_or_insert_with(|| DeadlockDetector::for_free_wait(path));
            detector.set_fcntl(one.is_fcntl.then_some(self.mode));
            let is_awaited = detector.may_be_awaited(&NEVER);
            one.circle = if is_awaited { detector.search(&NEVER) } else { None };
            let goes_on = is_awaited || !detector.is_done();
            one.next_search = goes_on.then(|| Instant::now() + detector.interval());
        }
        let is_stuck = held.iter().all(|one| one.circle.is_some());
        let Some(first) = held.iter_mut().find(|one| (is_stuck || !self.any) && one.circle.is_some()) else {
            return Ok(());
        };
        let Some(circle) = first.circle.take() else { return Ok(()) };
        log(&LockEvent::Deadlock { circle: &circle.to_string() }, first);
        Err(LockError::Deadlock { label: first.target.label.clone(), circle: Box::new(circle) })
    }

    /// Returns the error for a wait that reached its limit. It names the first of the locks, of which there is one at least.
    fn time_out(&self, held: &[HeldTarget]) -> LockError {
        for one in held {
            log(&LockEvent::TimedOut { waited: self.started.elapsed(), is_skipped: false }, one);
        }
        let target = &held[0].target;
        let (label, path, kind) = (target.label.clone(), target.path.clone(), target.kind);
        LockError::TimedOut { label, path, kind, after: self.limit.unwrap_or_default() }
    }
}

fn log(event: &LockEvent, held: &HeldTarget) {
    events::log_event(event, &held.target, std::process::id(), None);
}

/// Opens the processes that called flock(2) for the file of `target` and still run.
fn open_lockers(target: &Target) -> Vec<Process> {
    let file = lock_table::file_id(&holders::identify_file(&target.path));
    let all = lock_table::list_held().unwrap_or_default();
    let lockers = all.iter().filter(|one| !one.waits && one.file == file).map(|one| one.lock.locker);
    lockers.filter_map(|pid| Process::open(pid, process::read_stat(pid)?.start)).collect()
}
