//! The deadlock detector of one waiter: when it searches, and whether it breaks the circle that it finds.
//!
//! The second thread of a wait calls it ([`wait`](crate::lock::wait)), and so does a `run-once` that waits for the lock
//! of a task. It keeps searches rare and cheap, because a thousand processes may wait at the same time. It makes
//! exactly one process of a circle give up: two errors for one deadlock would be one too many, and none would leave it
//! standing.

use super::ancestors::{holds_any_lock, list_with_ancestors, may_be_awaited};
use super::circle::Circle;
use super::pipes::{is_pipe_awaited, list_own_pipes};
use super::snapshot::Snapshot;
use crate::lock::holders;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId};
use crate::os::proc::process::{self, ProcessStat};
use std::collections::HashSet;
use std::mem;
use std::path::Path;
use std::time::{Duration, Instant};

/// The time between two searches of a waiter.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time that each other waiter for the same lock adds to the interval, so that a thousand waiters do not keep a
/// machine busy.
pub(crate) const DELAY_PER_WAITER: Duration = Duration::from_millis(20);

/// The same for a search for circles over pipes.
const PIPE_DELAY_PER_WAITER: Duration = Duration::from_millis(100);

/// The longest pause between two searches for circles over pipes, except on a busy machine or in a long queue.
const MAX_PIPE_INTERVAL: Duration = Duration::from_secs(8);

/// The pause after a search for circles over pipes is at least this many times as long as the search took. Without this
/// limit, many waiters on a busy machine would slow down each other's searches, so that none of them finds a circle.
const PAUSE_FACTOR: u32 = 20;

/// The longest pause that [`PAUSE_FACTOR`] can cause.
const MAX_BUSY_PAUSE: Duration = Duration::from_secs(16);

/// The time that a circle must have stood still before a process that waited already breaks it. A process that begins
/// to wait has searched by then.
const STANDSTILL: Duration = Duration::from_millis(500);

/// The same for a circle in which a process waits for a limited time, which may end soon.
const LIMITED_STANDSTILL: Duration = Duration::from_secs(5);

/// The age at which a process has certainly searched for the first time, also on a very busy machine.
const FIRST_SEARCH_WITHIN: Duration = Duration::from_secs(10);

/// The number of searches after which a process breaks a circle although another process should: that one may be
/// stopped.
const MAX_DEFERRALS: u32 = 4;

/// A waiter that holds no lock searches again with exponential backoff (2 s to 32 s), because an ancestor may have
/// acquired a lock since.
const MAX_DOUBLINGS: u32 = 5;

/// Maximum number of snapshots in one search. The search ends when two in a row show the same circle.
const MAX_SNAPSHOTS: u32 = 4;

/// Searches for circles that go through one wait of this process.
#[derive(Debug)]
pub struct DeadlockDetector {
    file: FileId,
    /// The number of other waiters for the same lock at the last search.
    waiters: usize,
    /// False until the first search. Only the first search can find a circle that this process has just closed.
    searched: bool,
    found: Option<Standstill>,
    /// The number of searches since the circle has stood still for long enough.
    deferrals: u32,
    /// The number of checks in a row in which no process could wait for this one.
    idle: u32,
    /// False if it is known that neither this process nor an ancestor that waits for it has a pipe open.
    has_pipe: bool,
    /// The time of the next search for circles over pipes, and the pause after it.
    next_pipe_search: Option<(Instant, Duration)>,
    /// True if the next search is also for a circle over pipes.
    through_pipes: bool,
    /// True if a process ran in the circle of the last search, or of the one before.
    moved: bool,
}

/// A circle in which no process has run between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standstill {
    circle: Circle,
    /// The number of times that each of the other processes has slept.
    sleeps: Vec<Option<u64>>,
    since: Instant,
}

impl DeadlockDetector {
    /// Returns a detector for a wait for the lock file at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            file: lock_table::file_id(&holders::identify_file(path)),
            waiters: 0,
            searched: false,
            found: None,
            deferrals: 0,
            idle: 0,
            has_pipe: true,
            next_pipe_search: None,
            through_pipes: false,
            moved: false,
        }
    }

    /// Returns true if another process may wait for this one, so that [`search`](Self::search) is necessary: this
    /// process or an ancestor holds a lock, or a process sleeps at a pipe that one of them has open. Also true after a
    /// circle was found.
    #[must_use]
    pub fn may_be_awaited(&mut self) -> bool {
        let us = std::process::id();
        let holds = list_with_ancestors(us).any(|pid| (pid != us && peer::is_run_once(pid)) || holds_any_lock(pid));
        self.idle = if holds { 0 } else { self.idle + 1 };
        self.check_pipes();
        holds || self.through_pipes || self.found.is_some()
    }

    /// Makes the next search include circles over pipes, if it is time for that and a process sleeps at a pipe of this
    /// process. The other parts of a pipeline may start later, and a pipe takes a while to fill, so this is repeated at
    /// growing intervals. Waiters for the same lock take turns.
    fn check_pipes(&mut self) {
        let now = Instant::now();
        let (next, pause) = *self.next_pipe_search.get_or_insert_with(|| {
            let before = u32::try_from(lock_table::queue(self.file).len()).unwrap_or(u32::MAX);
            // Most waits end before that.
            let pause = INTERVAL.saturating_add(PIPE_DELAY_PER_WAITER.saturating_mul(before));
            (now + pause, pause)
        });
        if next > now {
            return;
        }
        let pipes = list_own_pipes(std::process::id());
        self.has_pipe = !pipes.is_empty();
        self.through_pipes = self.has_pipe && is_pipe_awaited(&pipes);
        // The next search does not count as the first one, because the other processes may have searched since.
        self.searched = true;
        self.next_pipe_search = Some((now + pause, (pause * 2).min(pause.max(MAX_PIPE_INTERVAL))));
        self.pause_after_search(now);
    }

    /// Delays the next search for circles over pipes after one that began at `start`.
    fn pause_after_search(&mut self, start: Instant) {
        if let Some((next, _)) = &mut self.next_pipe_search {
            let pause = (start.elapsed() * PAUSE_FACTOR).min(MAX_BUSY_PAUSE);
            *next = (*next).max(Instant::now() + pause);
        }
    }

    /// Searches for a circle, and returns it if this process must break it. Exactly one process of a circle must:
    ///
    /// - at first, the process that has closed the circle. Its first search finds it. If other processes may be about
    ///   to search for the first time, too, the youngest of them breaks it;
    /// - when the circle has stood still for so long that these first searches are over, the youngest process that
    ///   searches;
    /// - after some more searches, any process.
    #[must_use]
    pub fn search(&mut self) -> Option<Circle> {
        let first = !self.searched;
        self.searched = true;
        let (start, moved) = (Instant::now(), mem::take(&mut self.moved));
        let through_pipes = mem::take(&mut self.through_pipes) || self.found.is_some();
        let Some(found) = self.find_standstill(through_pipes) else {
            self.moved |= self.found.take().is_some();
            self.deferrals = 0;
            if self.moved && !moved {
                // On a busy machine, a process of a circle may run for a moment after the circle was closed.
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
        // A process that gives up may end the circle.
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
            return INTERVAL.max(DELAY_PER_WAITER * u32::try_from(self.waiters).unwrap_or(u32::MAX));
        }
        let interval = INTERVAL * (1 << self.idle.min(MAX_DOUBLINGS));
        match self.next_pipe_search {
            Some((next, _)) if self.has_pipe => interval.min(next.saturating_duration_since(Instant::now())),
            _ => interval,
        }
    }

    /// Takes snapshots until two in a row show the same circle, in which no process has run.
    fn find_standstill(&mut self, through_pipes: bool) -> Option<Standstill> {
        let us = std::process::id();
        let mut last = None;
        for _ in 0..MAX_SNAPSHOTS {
            let circle = self.find_circle(us, through_pipes)?;
            let sleeps: Vec<_> =
                circle.members.iter().filter(|pid| **pid != us).map(|pid| process::times_it_slept(*pid)).collect();
            if last.as_ref() == Some(&(circle.clone(), sleeps.clone())) {
                return Some(Standstill { circle, sleeps, since: Instant::now() });
            }
            last = Some((circle, sleeps));
        }
        self.moved = true;
        None
    }

    fn find_circle(&mut self, us: u32, through_pipes: bool) -> Option<Circle> {
        let listed = lock_table::list();
        let waits = listed.iter().filter(|one| one.waits && one.lock.locker != us);
        self.waiters = waits.clone().filter(|one| one.file == self.file).count();
        // A circle comes back to this process through one of the locks for which a process waits.
        let mut wanted: HashSet<FileId> = waits.map(|one| one.file).collect();
        wanted.insert(self.file);
        if !through_pipes && !may_be_awaited(us, &wanted) {
            return None;
        }
        Snapshot::new(&listed, Some((us, self.file))).find_circle(us)
    }
}
