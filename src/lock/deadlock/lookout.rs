//! The pace.

use super::ancestors::{above, has_a_lock, may_come_back};
use super::circle::Circle;
use super::pipes::{is_pipe_awaited, pipes_above};
use super::snapshot::World;
use crate::lock::holders;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId};
use crate::os::proc::process::{self, ProcessStat};
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often to look while a wait lasts.
const INTERVAL: Duration = Duration::from_secs(1);

/// How much later for each that waits for the same lock, so that a thousand of them do not keep a machine busy.
pub(crate) const LATER_FOR_EACH: Duration = Duration::from_millis(20);

/// The same for a search for circles over pipes.
const PIPES_LATER_FOR_EACH: Duration = Duration::from_millis(100);

/// The longest pause between two searches for circles over pipes, except on a busy machine or in a long queue.
const PIPES_INTERVAL: Duration = Duration::from_secs(8);

/// The pause after a search for circles over pipes is at least this many times as long as the search took. Without this limit,
/// many waiters on a busy machine would slow down each other's searches, so that none of them finds a circle.
const PAUSE_FACTOR: u32 = 20;

/// The longest pause that [`PAUSE_FACTOR`] can cause.
const BUSY_INTERVAL: Duration = Duration::from_secs(16);

/// How long a circle must have stood still until one of those who wait already breaks it: longer than it takes who begins
/// to wait until he has looked for himself.
const STILL: Duration = Duration::from_millis(500);

/// The same where one of them waits for a limited time, which may be over soon.
const STILL_FOR_LIMITED: Duration = Duration::from_secs(5);

/// Who was started so long ago has looked for the first time; also on a machine that is very busy.
const YOUNG: Duration = Duration::from_secs(10);

/// After so many looks it is not left to another any more to break a circle: that one may be stopped.
const PATIENCE: u32 = 4;

/// A waiter that holds no lock looks again with exponential backoff (2 s to 32 s), because a process above it may have acquired
/// a lock since.
const MOST_DOUBLINGS: u32 = 5;

/// How often to look for one circle, until it stood still between one time and the next.
const LOOKS: u32 = 4;

/// Looks for circles that go through one wait of this process.
#[derive(Debug)]
pub struct Lookout {
    file: FileId,
    waiters: usize,
    looked: bool,
    seen: Option<Standstill>,
    times: u32,
    /// How often in a row we had nothing.
    idle: u32,
    /// Set if this process, or one above it that waits for it, has a pipe open. Also before that is known.
    piped: bool,
    /// The time of the next search for circles over pipes, and the pause after it.
    next_look_for_pipes: Option<(Instant, Duration)>,
    /// True if the next look is also for a circle over pipes.
    through_pipes: bool,
    /// True if a process moved in the circle of the last look, or of the one before.
    moved: bool,
}

/// A circle in which nobody moves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standstill {
    circle: Circle,
    /// How often each of the others has slept.
    moves: Vec<Option<u64>>,
    since: Instant,
}

impl Lookout {
    /// For a wait for the lock file at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            file: lock_table::file_id(&holders::identify_file(path)),
            waiters: 0,
            looked: false,
            seen: None,
            times: 0,
            idle: 0,
            piped: true,
            next_look_for_pipes: None,
            through_pipes: false,
            moved: false,
        }
    }

    /// Returns whether another process may wait for us: this process, or one above it, holds a lock, or another process sleeps
    /// at the other end of a pipe that one of them has open. A circle that was found is looked at again in any case.
    #[must_use]
    pub fn has_something(&mut self) -> bool {
        let us = std::process::id();
        let has = above(us).any(|pid| (pid != us && peer::is_run_once(pid)) || has_a_lock(pid));
        self.idle = if has { 0 } else { self.idle + 1 };
        self.look_for_pipes();
        has || self.through_pipes || self.seen.is_some()
    }

    /// Has the next look include circles over pipes, if it is time and a process sleeps at a pipe of ours. The other parts of a
    /// pipeline may start later, and a pipe takes a while to fill, so this is repeated at growing intervals. Waiters for the
    /// same lock take turns.
    fn look_for_pipes(&mut self) {
        let now = Instant::now();
        let (next, pause) = *self.next_look_for_pipes.get_or_insert_with(|| {
            let before = u32::try_from(lock_table::queue(self.file).len()).unwrap_or(u32::MAX);
            // Most waits are over by then.
            let pause = INTERVAL.saturating_add(PIPES_LATER_FOR_EACH.saturating_mul(before));
            (now + pause, pause)
        });
        if next > now {
            return;
        }
        let pipes = pipes_above(std::process::id());
        self.piped = !pipes.is_empty();
        self.through_pipes = self.piped && is_pipe_awaited(&pipes);
        // It does not close a circle any more: the other processes may have looked, too.
        self.looked = true;
        self.next_look_for_pipes = Some((now + pause, (pause * 2).min(pause.max(PIPES_INTERVAL))));
        self.pause_after_search(now);
    }

    /// Delays the next search for circles over pipes after one that began at `start`.
    fn pause_after_search(&mut self, start: Instant) {
        if let Some((next, _)) = &mut self.next_look_for_pipes {
            let pause = (start.elapsed() * PAUSE_FACTOR).min(BUSY_INTERVAL);
            *next = (*next).max(Instant::now() + pause);
        }
    }

    /// The circle that is to be broken by us. Exactly one of those in it is to do that:
    ///
    /// - who has closed it, which is the one whose first look finds it; if there are others who may be about to look for
    ///   the first time, too, the youngest of them;
    /// - later, when it has stood still for so long that this is over, the youngest of those who look, and after some more
    ///   looks everyone.
    #[must_use]
    pub fn look(&mut self) -> Option<Circle> {
        let first = !self.looked;
        self.looked = true;
        let (start, moved) = (Instant::now(), std::mem::take(&mut self.moved));
        let through_pipes = std::mem::take(&mut self.through_pipes) || self.seen.is_some();
        let Some(found) = self.find(through_pipes) else {
            self.moved |= self.seen.take().is_some();
            self.times = 0;
            if self.moved && !moved {
                // On a busy machine, a process of a circle may move a moment after the circle was closed.
                self.next_look_for_pipes = Some((Instant::now() + INTERVAL, INTERVAL * 2));
            } else if through_pipes {
                self.pause_after_search(start);
            }
            return None;
        };
        let since = match &self.seen {
            Some(seen) if (&seen.circle, &seen.moves) == (&found.circle, &found.moves) => seen.since,
            _ => found.since,
        };
        let circle = found.circle.clone();
        self.seen = Some(Standstill { since, ..found });
        let us = std::process::id();
        let looks = |pid: &u32| *pid == us || peer::is_recording_helper(*pid);
        let mut lookers: Vec<ProcessStat> =
            circle.waiters.iter().copied().filter(looks).filter_map(process::read_stat).collect();
        // One that gives up may break it itself.
        let still = if circle.limited { STILL_FOR_LIMITED } else { STILL };
        if first && !circle.limited {
            lookers.retain(|seen| seen.pid == us || seen.age().is_none_or(|age| age < YOUNG));
        } else if since.elapsed() < still {
            return None;
        } else {
            self.times += 1;
        }
        let youngest = lookers.iter().max_by_key(|seen| (seen.start, seen.pid));
        let ours = youngest.is_none_or(|seen| seen.pid == us);
        (ours || self.times >= PATIENCE).then_some(circle)
    }

    /// When to look again.
    #[must_use]
    pub fn interval(&self) -> Duration {
        if self.seen.is_some() && self.times == 0 {
            return STILL;
        }
        if self.idle == 0 || self.seen.is_some() {
            return INTERVAL.max(LATER_FOR_EACH * u32::try_from(self.waiters).unwrap_or(u32::MAX));
        }
        let interval = INTERVAL * (1 << self.idle.min(MOST_DOUBLINGS));
        match self.next_look_for_pipes {
            Some((next, _)) if self.piped => interval.min(next.saturating_duration_since(Instant::now())),
            _ => interval,
        }
    }

    fn find(&mut self, through_pipes: bool) -> Option<Standstill> {
        let us = std::process::id();
        let mut last = None;
        for _ in 0..LOOKS {
            let circle = self.find_once(us, through_pipes)?;
            let moves: Vec<_> =
                circle.members.iter().filter(|pid| **pid != us).map(|pid| process::times_it_slept(*pid)).collect();
            if last.as_ref() == Some(&(circle.clone(), moves.clone())) {
                return Some(Standstill { circle, moves, since: Instant::now() });
            }
            last = Some((circle, moves));
        }
        self.moved = true;
        None
    }

    fn find_once(&mut self, us: u32, through_pipes: bool) -> Option<Circle> {
        let listed = lock_table::list();
        let waits = listed.iter().filter(|one| one.waits && one.lock.locker != us);
        self.waiters = waits.clone().filter(|one| one.file == self.file).count();
        // What others wait for, and we: a circle comes back to us over one of these.
        let mut wanted: HashSet<FileId> = waits.map(|one| one.file).collect();
        wanted.insert(self.file);
        if !through_pipes && !may_come_back(us, &wanted) {
            return None;
        }
        World::new(&listed, Some((us, self.file))).circle(us)
    }
}
