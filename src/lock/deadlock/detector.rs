//! The deadlock detector of one waiter: it decides when the waiter searches for a circle, and whether this waiter or another
//! one must give up to break the circle that was found.
//!
//! The second thread of a wait calls it ([`wait`](crate::lock::wait)), and so does a `run-once` that waits for the lock
//! of a task. It keeps searches rare and cheap, because a thousand processes may wait at the same time. It aims at exactly
//! one error for each deadlock: if no waiter of a circle gave up, all would wait forever; if two did, one of them would fail
//! without need.
//!
//! A circle **stands still** if none of its processes has run between two looks at it. Only such a circle counts.

use super::ancestors::{
    all_ancestors_wait, holds_any_lock, holds_fcntl_above, list_with_ancestors, may_be_awaited, may_wait_for_child,
};
use super::circle::Circle;
use super::free_waits::list_free_waits;
use super::holder::holder_goes_on;
use super::pipes::{is_pipe_awaited, list_own_pipes};
use super::snapshot::Snapshot;
use crate::lock::holders;
use crate::lock::peer;
use crate::os::Mode;
use crate::os::proc::lock_table::{self, FileId};
use crate::os::proc::process::{self, ProcessStat};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The shortest time between two searches of a waiter.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time that each other waiter for the same lock adds to the interval, so that a thousand waiters do not keep a
/// machine busy.
pub(crate) const DELAY_PER_WAITER: Duration = Duration::from_millis(20);

/// The time that each other waiter for the same lock adds to the pause before a search for circles over pipes. It is longer,
/// because such a search examines the descriptors of all processes.
const PIPE_DELAY_PER_WAITER: Duration = Duration::from_millis(100);

/// The longest pause between two searches for circles over pipes, except on a busy machine or in a long queue.
const MAX_PIPE_INTERVAL: Duration = Duration::from_secs(8);

/// The pause after a search for circles over pipes is at least this many times as long as the search took. Without this
/// limit, many waiters on a busy machine would slow down each other's searches, so that none of them finds a circle.
const PAUSE_FACTOR: u32 = 20;

/// The longest pause that [`PAUSE_FACTOR`] can cause.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(16);

/// The time for which a circle must stand still before it is broken by a waiter that did not find it in its first
/// search. By then, the waiter that closed the circle has made its first search and should have given up.
const STANDSTILL: Duration = Duration::from_millis(500);

/// The time for which a circle must stand still if one of its processes waits only for a limited time. That wait may end
/// soon, and the circle with it.
const LIMITED_STANDSTILL: Duration = Duration::from_secs(5);

/// The age at which a process has certainly made its first search, even on a very busy machine.
const FIRST_SEARCH_WITHIN: Duration = Duration::from_secs(10);

/// The number of times that a waiter leaves a circle to a younger process. After that it breaks the circle itself,
/// because the younger process may be stopped (SIGSTOP).
const MAX_DEFERRALS: u32 = 4;

/// Maximum number of times that the interval of an idle waiter doubles. A waiter for which no process can wait looks
/// again with exponential backoff (2 s to 32 s), because an ancestor may acquire a lock later.
const MAX_DOUBLINGS: u32 = 5;

/// The number of checks that examine only the ancestors that wait for this process. Most waits end during that time.
const BRIEF_CHECKS: u32 = 2;

/// Maximum number of snapshots in one search. The search ends when two in a row show the same circle.
const MAX_SNAPSHOTS: u32 = 4;

/// Searches for circles that go through one wait of this process.
#[derive(Debug)]
pub struct DeadlockDetector {
    path: PathBuf,
    /// The file at `path`. It is identified when it is first needed, because most waits end before that.
    file: OnceCell<FileId>,
    /// The number of other waiters for the same lock at the last search. `None` before the first one.
    waiters: Option<usize>,
    /// True after the first search. A circle that the first search finds may have been closed by this wait.
    searched: bool,
    /// The circle that the last search found.
    found: Option<Standstill>,
    /// The number of searches that found a circle which stood still for long enough, and left it to another process.
    deferrals: u32,
    /// The number of checks whether another process may wait for this one.
    checks: u32,
    /// True if all ancestors wait for this process, and for nothing else. Then no other process of the session is at the other
    /// end of a pipe.
    all_wait: bool,
    /// True if the last check did not examine all ancestors.
    has_unknown_ancestors: bool,
    /// The number of checks in a row that found no lock through which another process could wait for this one.
    idle: u32,
    /// False if it is known that neither this process nor an ancestor that waits for it has a pipe open.
    has_pipe: bool,
    /// The time of the next search for circles over pipes, and the pause after it.
    next_pipe_search: Option<(Instant, Duration)>,
    /// True if the queue was counted, and the search for circles over pipes delayed in proportion to it.
    counted_queue: bool,
    /// True if the next search includes circles over pipes.
    through_pipes: bool,
    /// True if the searches include the processes that wait for a lock without asking for it.
    sees_free_waits: bool,
    /// The mode, if the wait is for a lock of fcntl(2). Only this wait of all those for such locks is seen.
    fcntl: Option<Mode>,
    /// True if the last search saw a circle that did not stand still, or lost a circle that stood still before.
    moved: bool,
}

/// A circle that stands still: two snapshots in a row showed it, and none of its processes ran in between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standstill {
    circle: Circle,
    /// The number of context switches of each of the other processes. It grows if the process runs.
    sleeps: Vec<Option<u64>>,
    since: Instant,
}

impl DeadlockDetector {
    /// Returns a detector for a wait for the lock file at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: OnceCell::new(),
            waiters: None,
            searched: false,
            found: None,
            deferrals: 0,
            checks: 0,
            all_wait: false,
            has_unknown_ancestors: false,
            idle: 0,
            has_pipe: true,
            next_pipe_search: None,
            counted_queue: false,
            through_pipes: false,
            sees_free_waits: false,
            fcntl: None,
            moved: false,
        }
    }

    /// Returns true if the holder of the lock goes on by itself, so that no circle exists at present. This is the first step of
    /// a wait. It is much cheaper than [`may_be_awaited`](Self::may_be_awaited), and counts as a search that found nothing.
    #[must_use]
    pub fn is_held_by_active_process(&mut self) -> bool {
        self.schedule_pipe_search();
        let goes_on = self.fcntl.is_none() && holder_goes_on(&self.path);
        self.searched |= goes_on;
        goes_on
    }

    /// Counts as a search that found nothing: other processes have acquired the lock during the wait.
    pub(crate) fn note_progress(&mut self) {
        self.schedule_pipe_search();
        self.searched = true;
    }

    /// Returns a detector for a process that waits until the lock at `path` is free, without asking for it
    /// ([`free_wait`](crate::lock::free_wait)). The kernel lists no such wait, and only a detector like this one looks for them:
    /// each circle through such a wait has a process that does.
    #[must_use]
    pub(crate) fn for_free_wait(path: &Path) -> Self {
        Self { sees_free_waits: true, ..Self::new(path) }
    }

    /// Sets the mode, if the wait is for a lock of fcntl(2) and not for one of flock(2).
    pub(crate) fn set_fcntl(&mut self, mode: Option<Mode>) {
        self.fcntl = mode;
    }

    /// Returns true if [`search`](Self::search) is necessary, because another process may wait for this one: this process
    /// or an ancestor holds a lock, an ancestor is a `run-once`, or a process sleeps at a pipe that one of them has open.
    /// Also returns true after a search that found a circle.
    ///
    /// The first checks examine only the ancestors that wait for this process at present, because no other ones are part
    /// of a circle. Later checks examine all, because an ancestor that holds a lock may begin to wait: then the next search
    /// must follow soon.
    #[must_use]
    pub fn may_be_awaited(&mut self, stop: &AtomicBool) -> bool {
        let us = std::process::id();
        self.checks += 1;
        let (all, mut was_cut) = (self.checks > BRIEF_CHECKS, false);
        let holds = list_with_ancestors(us)
            .take_while(|pid| {
                let counts = all || *pid == us || may_wait_for_child(*pid);
                was_cut |= !counts;
                counts
            })
            .any(|pid| (pid != us && peer::is_run_once(pid)) || holds_any_lock(pid))
            || self.holds_fcntl_above();
        self.has_unknown_ancestors = was_cut;
        self.idle = if holds || was_cut { 0 } else { self.idle + 1 };
        self.all_wait = all_ancestors_wait();
        if holds || !self.all_wait {
            self.check_pipes(stop);
        }
        holds || self.through_pipes || self.found.is_some()
    }

    /// Returns true if this process never has to search again: no other process can wait for it, now or later.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.has_unknown_ancestors && self.all_wait
    }

    /// Sets the time of the first search for circles over pipes. It is delayed, because most waits end before it.
    fn schedule_pipe_search(&mut self) -> (Instant, Duration) {
        *self.next_pipe_search.get_or_insert_with(|| (Instant::now() + INTERVAL, INTERVAL))
    }

    /// Makes the next search include circles over pipes, if such a search is due and a process sleeps at a pipe of this
    /// process. The other parts of a pipeline may start later, and a pipe takes a while to fill, so the check is repeated
    /// at growing intervals.
    fn check_pipes(&mut self, stop: &AtomicBool) {
        let now = Instant::now();
        let (next, pause) = self.schedule_pipe_search();
        if next > now {
            return;
        }
        let pipes = list_own_pipes(std::process::id());
        self.has_pipe = !pipes.is_empty();
        let may_be_stuck = self.has_pipe && (self.fcntl.is_some() || !holder_goes_on(&self.path));
        if may_be_stuck && !mem::replace(&mut self.counted_queue, true) {
            // The waiters for one lock must not all examine all processes at the same time.
            let others = u32::try_from(self.count_other_waiters()).unwrap_or(u32::MAX);
            let delay = PIPE_DELAY_PER_WAITER.saturating_mul(others);
            if !delay.is_zero() {
                self.next_pipe_search = Some((now + delay, pause + delay));
                return;
            }
        }
        self.through_pipes = may_be_stuck && is_pipe_awaited(&pipes, stop);
        // The next search no longer counts as the first one: the wait began some time ago, so the other processes of a
        // circle may have searched, too.
        self.searched = true;
        self.next_pipe_search = Some((now + pause, (pause * 2).min(pause.max(MAX_PIPE_INTERVAL))));
        self.pause_after_search(now);
    }

    /// Delays the next search for circles over pipes in proportion to the duration of the last one, which began at `start`.
    fn pause_after_search(&mut self, start: Instant) {
        if let Some((next, _)) = &mut self.next_pipe_search {
            let pause = (start.elapsed() * PAUSE_FACTOR).min(MAX_BUSY_PAUSE);
            *next = (*next).max(Instant::now() + pause);
        }
    }

    /// Searches for a circle, and returns it if this process must break it. The process that must do so is:
    ///
    /// 1. At first, the process that closed the circle: its first search finds it. Several processes may be about to make
    ///    their first search. Then it is the youngest of them.
    /// 2. When the circle has stood still for so long that these first searches are over: the youngest of all its
    ///    processes that search.
    /// 3. After some more searches: any process.
    ///
    /// The search ends soon, and finds nothing, if `stop` is set during it: a process that is granted the lock must not wait
    /// for the end of a search.
    #[must_use]
    pub fn search(&mut self, stop: &AtomicBool) -> Option<Circle> {
        let first = !self.searched;
        self.searched = true;
        let (start, moved) = (Instant::now(), mem::take(&mut self.moved));
        let through_pipes = mem::take(&mut self.through_pipes) || self.found.is_some();
        let Some(found) = self.find_standstill(through_pipes, stop) else {
            self.moved |= self.found.take().is_some();
            self.deferrals = 0;
            if self.moved && !moved {
                // On a busy machine, a process of a circle may still run for a moment after the circle was closed, so the
                // next search follows soon.
                self.next_pipe_search = Some((Instant::now() + INTERVAL, INTERVAL * 2));
            } else if through_pipes {
                self.pause_after_search(start);
            }
            return None;
        };
        let since = match &self.found {
            Some(before) if (&before.circle, &before.sleeps) == (&found.circle, &found.sleeps) => before.since,
            _ => found.since,
        };
        let circle = found.circle.clone();
        self.found = Some(Standstill { since, ..found });
        let us = std::process::id();
        let searches = |pid: &u32| *pid == us || peer::is_recording_helper(*pid);
        let mut candidates: Vec<ProcessStat> =
            circle.waiters.iter().copied().filter(searches).filter_map(process::read_stat).collect();
        // A wait for a limited time may end the circle by itself.
        let standstill = if circle.limited { LIMITED_STANDSTILL } else { STANDSTILL };
        if first && !circle.limited {
            candidates.retain(|seen| seen.pid == us || seen.age().is_none_or(|age| age < FIRST_SEARCH_WITHIN));
        } else if since.elapsed() < standstill {
            return None;
        } else {
            self.deferrals += 1;
        }
        let youngest = candidates.iter().max_by_key(|seen| (seen.start, seen.pid));
        let is_ours = youngest.is_none_or(|seen| seen.pid == us);
        (is_ours || self.deferrals >= MAX_DEFERRALS).then_some(circle)
    }

    /// Returns the time until the next search.
    #[must_use]
    pub fn interval(&self) -> Duration {
        if self.found.is_some() && self.deferrals == 0 {
            return STANDSTILL;
        }
        if self.idle == 0 || self.found.is_some() {
            return INTERVAL.max(DELAY_PER_WAITER * u32::try_from(self.waiters.unwrap_or(0)).unwrap_or(u32::MAX));
        }
        let interval = INTERVAL * (1 << self.idle.min(MAX_DOUBLINGS));
        match self.next_pipe_search {
            Some((next, _)) if self.has_pipe => interval.min(next.saturating_duration_since(Instant::now())),
            _ => interval,
        }
    }

    fn holds_fcntl_above(&self) -> bool {
        self.fcntl.is_some() && holds_fcntl_above(&self.path)
    }

    fn file(&self) -> FileId {
        *self.file.get_or_init(|| lock_table::file_id(&holders::identify_file(&self.path)))
    }

    /// Returns the number of other waiters for the same lock.
    fn count_other_waiters(&self) -> usize {
        let waiter = (!self.sees_free_waits).then(std::process::id);
        lock_table::lines::count_waiters(self.file(), waiter).saturating_sub(1)
    }

    /// Takes snapshots until two in a row show the same circle, and none of its processes ran in between.
    fn find_standstill(&mut self, through_pipes: bool, stop: &AtomicBool) -> Option<Standstill> {
        if self.found.is_none() && self.fcntl.is_none() && holder_goes_on(&self.path) {
            // A snapshot would show no circle, and takes a hundred times as long.
            if self.waiters.is_none() {
                self.waiters = Some(self.count_other_waiters());
            }
            return None;
        }
        let us = std::process::id();
        let mut last = None;
        for _ in 0..MAX_SNAPSHOTS {
            let circle = self.find_circle(us, through_pipes, stop).filter(|_| !stop.load(Ordering::Relaxed))?;
            // A process that waits without asking for the lock looks again each second, and stays in the circle.
            let looks_again = |pid: u32| self.sees_free_waits && peer::find_awaited_lock(pid).is_some();
            let others = circle.members.iter().filter(|pid| **pid != us && !looks_again(**pid));
            let sleeps: Vec<_> = others.map(|pid| process::times_it_slept(*pid)).collect();
            if last.as_ref() == Some(&(circle.clone(), sleeps.clone())) {
                return Some(Standstill { circle, sleeps, since: Instant::now() });
            }
            last = Some((circle, sleeps));
        }
        self.moved = true;
        None
    }

    fn find_circle(&mut self, us: u32, through_pipes: bool, stop: &AtomicBool) -> Option<Circle> {
        let file = if self.fcntl.is_some() { self.file().of_fcntl() } else { self.file() };
        let listed = lock_table::list();
        let waits = listed.iter().filter(|one| one.waits && one.lock.locker != us);
        self.waiters = Some(waits.clone().filter(|one| one.file == file).count());
        // Without pipes, a circle contains a process that waits for a lock of this process or of an ancestor.
        let mut wanted: HashSet<FileId> = waits.map(|one| one.file).collect();
        wanted.insert(file);
        let mut free_waits = Vec::new();
        if self.sees_free_waits {
            free_waits = list_free_waits();
            free_waits.retain(|(pid, _)| *pid != us);
            free_waits.push((us, file));
            wanted.extend(free_waits.iter().map(|(_, file)| *file));
        }
        if !through_pipes && !may_be_awaited(us, &wanted) && !self.holds_fcntl_above() {
            return None;
        }
        let mut snapshot = Snapshot::new(&listed, Some((us, file)), &free_waits, stop);
        if let Some(mode) = self.fcntl {
            snapshot.add_fcntl_holders(file, &self.path, mode);
        }
        snapshot.find_circle(us)
    }
}
