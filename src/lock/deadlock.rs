//! Deadlocks: circles of processes that wait for each other.
//!
//! Looked for when a wait begins, by which the one who has closed a circle finds it, and again while it lasts, for those that
//! are closed in another way: by two at once, by a program that does not look, by a shell's `wait`.
//!
//! # What counts
//!
//! A process waits for a lock if the kernel says so, or if it is a `run-once` that reads the output of a run. It waits
//! for a child
//!
//! - that is the command that it supervises;
//! - that is not in the background (which ignores Ctrl-C), if it is a shell and sleeps in wait(2);
//! - if all its children are in the circle, while it sleeps in wait(2).
//!
//! It waits for the processes at the other end of a pipe without a name, if all of them are in the circle, while it reads that
//! pipe or writes to it. So `lock -w p -- A | lock -w p -- B` is a circle once A has filled the pipe: B does not read before it
//! holds the lock. This counts only if every process that may have the pipe open can be examined.
//!
//! A process that can go on without the others is in no circle:
//!
//! - one with several threads, as another thread may release the lock;
//! - one that handles a signal by which programs wake themselves or each other (`ALRM`, `USR1`, real-time signals), or that has
//!   a timer of `timer_create(2)`;
//! - a shell in `wait` that has set a trap, as the trap runs at once.
//!
//! A timer of alarm(2) under which the signal ends the process cannot be seen from outside. So a circle with a program that is
//! neither ours nor flock(1), and that waits for a lock itself, is broken only when it has stood still for some seconds.
//!
//! While we look they go on, and a shell that runs one short command after the other looks, in pieces, like one that waits
//! for what it has in the background. So a circle is looked for twice, and counts if nobody in it has moved meanwhile.
//!
//! A lock is in the hands of the process that took it, as long as that has it open. Where that is not known, it is in the hands of
//! every process that has it open and was not started by another such process. One that goes on working may release the lock. So a circle of such steps would never end, while what is not a circle, or
//! is not known to be one, is left alone: a wait too many ends some time, a lock that is refused for no reason does harm.
//! Where one of the others waits for a limited time, it is broken when it has lasted some seconds: it may end by itself.

use crate::base::text::shorten;
use crate::lock::holders;
use crate::lock::peer;
use crate::lock::record::{self, Content};
use crate::os::proc::lock_table::{self, FileId, KernelLock, ListedLock};
use crate::os::proc::openers;
use crate::os::proc::process::{self, ProcessStat};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
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

/// No chain of processes is longer: more than that, and it is not looked at.
const MAX_DEPTH: usize = 64;

/// A waiter that holds no lock looks again with exponential backoff (2 s to 32 s), because a process above it may have acquired
/// a lock since.
const MOST_DOUBLINGS: u32 = 5;

/// How often to look for one circle, until it stood still between one time and the next.
const LOOKS: u32 = 4;

/// One of those in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The process in whose hands the lock is.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// The lock that it has: the name, or the file.
    pub has: String,
    /// The lock, or the process at the other end of a pipe, that it waits for.
    pub wants: Wants,
}

/// The reason why a process in a circle does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wants {
    /// A lock: the name, or the file.
    Lock(String),
    /// That the process `reader` reads what `writer` wrote into a pipe. The holder of the lock is the writer, or waits for it.
    Reader {
        /// The process that waits.
        writer: u32,
        /// The process that does not read.
        reader: u32,
    },
    /// That the process `writer` writes into the pipe that `reader` reads, or closes it.
    Writer {
        /// The process that waits.
        reader: u32,
        /// The process that does not write.
        writer: u32,
    },
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(label) => f.write_str(label),
            Self::Reader { writer, reader } => write!(f, "pid {reader} to read the output of pid {writer}"),
            Self::Writer { reader, writer } => write!(f, "pid {writer} to write or close the input of pid {reader}"),
        }
    }
}

/// A circle: each waits for what the next one has, and the last for what the first one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Those in it; the last one is ours.
    pub steps: Vec<Step>,
    /// The files of these locks, as far as their names can be seen.
    pub files: Vec<PathBuf>,
    /// The processes that are blocked.
    waiters: Vec<u32>,
    /// All on the way from us back to us.
    members: Vec<u32>,
    /// Whether one of the others waits for a limited time only.
    limited: bool,
}

impl Circle {
    /// Returns whether a process in it waits for the other end of a pipe.
    #[must_use]
    pub fn has_pipe(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step.wants, Wants::Lock(_)))
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Step { pid, command, has, wants }) in self.steps.iter().enumerate() {
            let and = if at == 0 { "" } else { ", " };
            let wants = match wants {
                Wants::Lock(_) if self.steps.len() == 1 => "it".to_owned(),
                wants => wants.to_string(),
            };
            write!(f, "{and}pid {pid} ({}) has {has} and waits for {wants}", shorten(command, MAX_COMMAND))?;
        }
        Ok(())
    }
}

/// The most characters of a command that a sentence names, where there are several.
const MAX_COMMAND: usize = 80;

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

/// Whether we have one of these locks, or one of the processes above us has. If not, nobody waits for us, and what costs
/// more need not be looked at.
fn may_come_back(us: u32, wanted: &HashSet<FileId>) -> bool {
    // Those who read what a run prints are not in the kernel's list.
    above(us).any(|pid| has_one_of(pid, wanted) || (pid != us && peer::is_run_once(pid)))
}

/// Returns the pipes (by inode) that a process has open, or one above it that waits for it.
fn pipes_above(pid: u32) -> HashSet<u64> {
    let pipes = |pid: u32| {
        process::descriptors(pid).filter(|(path, data)| data.file_type().is_fifo() && process::is_pipe(path))
    };
    let waiting = std::iter::once(pid).chain(above(pid).skip(1).take_while(|pid| may_wait_for_child(*pid)));
    waiting.flat_map(pipes).map(|(_, data)| data.ino()).collect()
}

/// Returns false if a process does not wait for a child, as [`World::awaited_children`] and [`World::other_ends`] decide.
/// Programs that start many others, such as test harnesses, have pipes to all of them.
fn may_wait_for_child(pid: u32) -> bool {
    let waits = |place: String| {
        ["do_wait", "sigsuspend", "sigtimedwait", "poll", "pipe"].iter().any(|call| place.contains(call))
    };
    peer::is_lock_program(pid) || process::threads(pid) == Some(1) && process::sleeps_in(pid).is_some_and(waits)
}

/// Returns whether a process of our session sleeps until the other end of one of these pipes does something: without one, no
/// circle comes back to us over a pipe. The processes above us are left out, because they also wait for us if they do not read.
///
/// Every waiter in a session with pipes does this, so it must be cheap: where a process sleeps is read first, because that costs
/// a fraction of a look at its descriptors. A more expensive test leads to a deadlock that is found late or never:
///
/// 1. Some hundred waiters of other locks, all with a pipe open, look at the descriptors of all processes.
/// 2. The processor is busy with that. Each look takes longer, waits last longer, and there are more waiters.
/// 3. A deadlock over pipes is closed. The look that would find it takes half a minute.
/// 4. It is in vain, for instance because the writer has not filled the pipe yet. The next look is half a minute later.
fn is_pipe_awaited(pipes: &HashSet<u64>) -> bool {
    let us = std::process::id();
    let Some(session) = process::read_stat(us).map(|seen| seen.session) else { return false };
    let above: Vec<u32> = above(us).collect();
    process::all_pids().into_iter().any(|pid| {
        let used = match pipe_end(pid) {
            Some(_) if above.contains(&pid) => return false,
            Some(PipeEnd::Reads) => process::pipes_it_reads(pid),
            Some(PipeEnd::Writes) => process::pipes_it_writes(pid),
            None => return false,
        };
        used.iter().any(|pipe| pipes.contains(pipe))
            && process::read_stat(pid).is_some_and(|seen| seen.session == session)
    })
}

/// A process, and those above it.
fn above(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| process::parent(*pid)).take_while(|pid| *pid > 0).take(MAX_DEPTH)
}

/// Whether all above us, up to who began the session, wait for us and for nothing else: who has nothing need not look any more
/// then, as none of them takes a lock before we have ours. Who starts sessions (cron, sshd, a service manager, a terminal) has
/// no part in them.
#[must_use]
pub(crate) fn all_above_wait_for_us() -> bool {
    let mut next = process::read_stat(std::process::id());
    for _ in 0..MAX_DEPTH {
        match next {
            Some(seen) if seen.session == seen.pid => return true,
            Some(seen) if waits_for_nothing_but(seen.parent, seen.pid) => next = process::read_stat(seen.parent),
            _ => break,
        }
    }
    false
}

fn waits_for_nothing_but(pid: u32, child: u32) -> bool {
    process::sleeps_in(pid).is_some_and(|place| place.contains("do_wait"))
        && process::threads(pid) == Some(1)
        && process::children(pid) == [child]
}

fn has_a_lock(pid: u32) -> bool {
    let may_be = |data: &fs::Metadata| data.is_file() || data.is_dir();
    process::descriptors(pid).any(|(path, data)| may_be(&data) && lock_through(pid, &path).is_some())
}

fn has_one_of(pid: u32, wanted: &HashSet<FileId>) -> bool {
    let may_be = |data: &fs::Metadata| wanted.iter().any(|file| file.ino == data.ino());
    let is_wanted = |path: &Path| lock_through(pid, path).is_some_and(|(file, _)| wanted.contains(&file));
    process::descriptors(pid).any(|(path, data)| may_be(&data) && is_wanted(&path))
}

/// The lock that a process has through this descriptor.
fn lock_through(pid: u32, descriptor: &Path) -> Option<(FileId, KernelLock)> {
    lock_table::lock_of(pid, descriptor.file_name()?.to_str()?)
}

/// Returns whether a process gives up after a while: as its command line shows, or because a `timeout` that is not above us ends
/// it. This is not known for a program that waits for a lock and is neither ours nor flock(1).
fn is_limited(pid: u32, waits_for_lock: bool) -> bool {
    let us: Vec<u32> = above(std::process::id()).collect();
    if above(pid).any(|pid| !us.contains(&pid) && peer::is_timeout(pid)) {
        return true;
    }
    peer::may_give_up(pid, waits_for_lock)
}

/// A lock that a process has.
#[derive(Debug)]
struct Held {
    pid: u32,
    lock: KernelLock,
    /// The descriptor, as a link to the file.
    descriptor: PathBuf,
}

/// Who waits for what, and who has it.
struct World {
    waits: HashMap<u32, FileId>,
    held: HashMap<FileId, Vec<Held>>,
    processes: HashMap<u32, ProcessStat>,
    children: HashMap<u32, Vec<u32>>,
    /// The descriptors of each pipe, by its inode.
    pipes: HashMap<u64, Vec<(u32, PathBuf)>>,
    /// The answers of [`World::hides_relatives`], by session.
    hiding: RefCell<HashMap<u32, bool>>,
}

/// A descriptor that [`World`] knows.
enum Known {
    Lock(FileId, Held),
    Pipe(u64, u32, PathBuf),
}

/// For which others a process waits.
enum Next {
    /// For each of these: if one does not end, it does not go on.
    Any(Vec<u32>),
    /// For one of these: it does not go on if none of them ends.
    All(Vec<u32>),
    /// For one of each group: it does not go on if no process of one group does.
    Owners(Vec<Vec<u32>>),
}

/// A step on the way: a process, and by what it waits for the next one.
#[derive(Debug, Clone, Copy)]
struct Hop {
    pid: u32,
    lock: Option<FileId>,
    pipe: Option<PipeEnd>,
}

/// The end of a pipe that a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PipeEnd {
    Reads,
    Writes,
}

/// The kind of call in which a process sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// For a lock.
    Lock,
    /// For the end of a child, in the foreground of a shell or in another program.
    Child,
    /// In a shell's `wait`, which a trap interrupts.
    Job,
    /// For the other end of a pipe.
    Pipe,
}

/// The pipes on the way of a circle: for each lock, the pipe between its owner and the next lock, if there is one.
fn pipes_after_locks(way: &[Hop], us: u32) -> Vec<Option<Wants>> {
    let mut pipes = Vec::new();
    for (at, hop) in way.iter().enumerate() {
        let next = way.get(at + 1).map_or(us, |next| next.pid);
        match (hop.lock, hop.pipe) {
            (Some(_), _) => pipes.push(None),
            (None, Some(PipeEnd::Writes)) => {
                pipes.pop();
                pipes.push(Some(Wants::Reader { writer: hop.pid, reader: next }));
            }
            // A shell that reads what its child prints is not mentioned.
            (None, Some(PipeEnd::Reads)) if process::parent(next) != Some(hop.pid) => {
                pipes.pop();
                pipes.push(Some(Wants::Writer { reader: hop.pid, writer: next }));
            }
            _ => {}
        }
    }
    pipes
}

/// Returns the end of a pipe at which a process sleeps, until the other end of a pipe does something.
fn pipe_end(pid: u32) -> Option<PipeEnd> {
    let place = process::sleeps_in(pid)?;
    let does = |call: &str, end: PipeEnd| place.contains(call).then_some(end);
    does("pipe_read", PipeEnd::Reads).or_else(|| does("pipe_write", PipeEnd::Writes))
}

/// Signals by which programs wake themselves, or each other.
const WAKING: [i32; 7] =
    [libc::SIGALRM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGURG, libc::SIGIO, libc::SIGPWR, libc::SIGCHLD];

/// Signals that bash handles once there is a trap for EXIT: which other traps there are cannot be seen then.
const ENDING: [i32; 17] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGBUS,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The number of the first signal that programs may use as they please: those below belong to the C library.
const FIRST_REAL_TIME: i32 = 35;

const fn mask(signals: &[i32]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < signals.len() {
        mask |= 1 << (signals[at] - 1);
        at += 1;
    }
    mask
}

/// Returns whether a process that sleeps may go on though none of the others does anything: by a signal that it handles, a timer, or
/// another thread. Also if that is not known.
fn may_go_on(pid: u32, sleep: Sleep) -> bool {
    const REAL_TIME: u64 = !0 << (FIRST_REAL_TIME - 1);
    // Our helper has a second thread, which releases nothing. Its command line shows how long it waits, as that of flock(1) does.
    let name = process::name(pid);
    if name == peer::HELPER || peer::read_flock_call(pid).is_some() {
        return false;
    }
    if process::threads(pid) != Some(1) || process::has_timers(pid) {
        return true;
    }
    let Some(caught) = process::caught_signals(pid) else { return true };
    let shell = peer::is_name_of_shell(&name);
    let children = mask(&[libc::SIGCHLD]);
    let waking = mask(&WAKING) | REAL_TIME;
    // bash for its own ends, and what a trap for EXIT adds.
    let all_ending = caught & mask(&ENDING) == mask(&ENDING);
    let disturbing = match sleep {
        Sleep::Lock => waking,
        Sleep::Job => !(children | mask(&[libc::SIGINT, libc::SIGWINCH])),
        // A shell runs its traps when the command has ended.
        Sleep::Child if shell => 0,
        Sleep::Pipe if shell && all_ending => waking & !mask(&ENDING) & !children,
        Sleep::Child | Sleep::Pipe => waking & !children,
    };
    caught & disturbing != 0
}

impl World {
    /// As it is, but that one more waits for a lock.
    fn new(listed: &[ListedLock], more: Option<(u32, FileId)>) -> Self {
        let mut waits: HashMap<u32, FileId> =
            listed.iter().filter(|one| one.waits).map(|one| (one.lock.locker, one.file)).collect();
        waits.extend(more);
        let processes: HashMap<u32, ProcessStat> =
            process::read_all_stats().into_iter().map(|seen| (seen.pid, seen)).collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for seen in processes.values() {
            children.entry(seen.parent).or_default().push(seen.pid);
        }
        let mut world = Self {
            waits,
            held: HashMap::new(),
            processes,
            children,
            pipes: HashMap::new(),
            hiding: RefCell::default(),
        };
        world.add_waits_for_runs();
        world.add_descriptors(listed);
        world
    }

    /// Who reads what a run prints waits for its end, and so for the lock of the task.
    fn add_waits_for_runs(&mut self) {
        for pid in self.processes.keys() {
            if self.waits.contains_key(pid) || !peer::is_run_once(*pid) {
                continue;
            }
            let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            let link = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
            let links: Vec<PathBuf> = entries.filter_map(Result::ok).filter_map(link).collect();
            // Its supervisor has these open, too, but it has the lock.
            let task = links.iter().find(|link| link.ends_with("log.out")).and_then(|link| link.parent());
            if let Some(lock) = task.map(|task| task.join("lock"))
                && !links.contains(&lock)
            {
                self.waits.insert(*pid, lock_table::file_id(&holders::identify_file(&lock)));
            }
        }
    }

    /// Looks at the descriptors of all processes once, as this is most of the cost of a look.
    fn add_descriptors(&mut self, listed: &[ListedLock]) {
        let wanted: HashSet<FileId> = self.waits.values().copied().collect();
        let inodes: HashSet<u64> = wanted.iter().map(|file| file.ino).collect();
        let look = openers::scan_descriptors(0, &AtomicBool::new(false), |descriptor| {
            let path = || descriptor.path.to_owned();
            if descriptor.data.file_type().is_fifo() {
                return Some(Known::Pipe(descriptor.data.ino(), descriptor.pid, path()));
            }
            if !inodes.contains(&descriptor.data.ino()) {
                return None;
            }
            let (file, lock) = descriptor.lock().filter(|(file, _)| wanted.contains(file))?;
            Some(Known::Lock(file, Held { pid: descriptor.pid, lock, descriptor: path() }))
        });
        for known in look.found {
            match known {
                Known::Lock(file, held) => self.held.entry(file).or_default().push(held),
                Known::Pipe(inode, pid, path) => self.pipes.entry(inode).or_default().push((pid, path)),
            }
        }
        // Of another user's process everyone may know that it has a lock, if it took that itself.
        for one in listed.iter().filter(|one| !one.waits && wanted.contains(&one.file)) {
            let pid = one.lock.locker;
            if !self.held.contains_key(&one.file)
                && self.processes.contains_key(&pid)
                && !process::may_be_looked_into(pid)
            {
                let held = Held { pid, lock: one.lock, descriptor: PathBuf::new() };
                self.held.insert(one.file, vec![held]);
            }
        }
    }

    /// The circle that goes through `us`.
    fn circle(&self, us: u32) -> Option<Circle> {
        let mut way = Vec::new();
        let mut visited = HashSet::new();
        if !self.leads_back(us, us, &mut way, &mut visited) {
            return None;
        }
        let waiters: Vec<u32> = way.iter().filter(|hop| hop.lock.is_some()).map(|hop| hop.pid).collect();
        let locks: Vec<FileId> = way.iter().filter_map(|hop| hop.lock).collect();
        // In whose hands each lock is stands behind the one who waits for it; of the last one that may be `us`.
        let owners = way.iter().enumerate().filter(|(_, hop)| hop.lock.is_some());
        let owners = owners.map(|(at, _)| way.get(at + 1).map_or(us, |next| next.pid));
        let pipes = pipes_after_locks(&way, us);
        let steps = owners.enumerate().map(|(at, pid)| Step {
            pid,
            command: process::command_line(pid),
            has: self.label(locks[at]),
            wants: pipes[at].clone().unwrap_or_else(|| Wants::Lock(self.label(locks[(at + 1) % locks.len()]))),
        });
        let members = way.iter().map(|hop| hop.pid).collect();
        let files = locks.iter().filter_map(|file| self.path(*file)).collect();
        let limited = way.iter().filter(|hop| hop.pid != us).any(|hop| is_limited(hop.pid, hop.lock.is_some()));
        Some(Circle { steps: steps.collect(), files, waiters, members, limited })
    }

    /// Whether `pid` waits, over others, for `us`. The way there, if so, is put behind `way`.
    fn leads_back(&self, pid: u32, us: u32, way: &mut Vec<Hop>, visited: &mut HashSet<u32>) -> bool {
        if way.len() > MAX_DEPTH || !visited.insert(pid) {
            return false;
        }
        let lock = self.waits.get(&pid).copied();
        let pipe = if lock.is_some() { None } else { pipe_end(pid) };
        way.push(Hop { pid, lock, pipe });
        let next = match (lock, pipe) {
            (Some(file), _) if pid == std::process::id() || !may_go_on(pid, Sleep::Lock) => {
                Next::Owners(self.owners(file))
            }
            (Some(_), _) => Next::Any(Vec::new()),
            // A helper that has a command waits for its end.
            (None, Some(end)) if !peer::is_helper(pid) || !self.children.contains_key(&pid) => {
                self.other_ends(pid, end)
            }
            _ => self.awaited_children(pid),
        };
        let found = match next {
            Next::Any(next) => next.into_iter().any(|next| next == us || self.leads_back(next, us, way, visited)),
            Next::All(next) => self.all_lead_back(&next, us, way, visited),
            Next::Owners(groups) => groups.iter().any(|group| match group.as_slice() {
                [next] => *next == us || self.leads_back(*next, us, way, visited),
                group => self.all_lead_back(group, us, way, visited),
            }),
        };
        if !found {
            way.pop();
        }
        found
    }

    /// Returns true if all of these wait, over others, for `us`. The shortest way is then appended to `way`.
    fn all_lead_back(&self, next: &[u32], us: u32, way: &mut Vec<Hop>, visited: &HashSet<u32>) -> bool {
        let ways: Option<Vec<_>> = next.iter().map(|next| self.way_back(*next, us, way, visited)).collect();
        let shortest = ways.and_then(|ways| ways.into_iter().min_by_key(Vec::len));
        shortest.is_some_and(|shortest| {
            *way = shortest;
            true
        })
    }

    /// The whole way over `next`, which may go where another way has been already.
    fn way_back(&self, next: u32, us: u32, way: &[Hop], visited: &HashSet<u32>) -> Option<Vec<Hop>> {
        let mut way = way.to_vec();
        let on_it: HashSet<u32> = way.iter().map(|hop| hop.pid).collect();
        let mut visited = visited.intersection(&on_it).copied().collect();
        (next == us || self.leads_back(next, us, &mut way, &mut visited)).then_some(way)
    }

    /// In whose hands a lock is: for each open file description through which it is held, the processes of which one can
    /// release it. The wait for the lock never ends if all processes of one description wait for it.
    fn owners(&self, file: FileId) -> Vec<Vec<u32>> {
        let Some(held) = self.held.get(&file) else { return Vec::new() };
        let taker = held.iter().find_map(|one| match record::read_descriptor(&one.descriptor) {
            Content::Record(record) => Some(record),
            _ => None,
        });
        let taker = taker.filter(|taker| {
            taker.ns == process::pid_namespace()
                && held.iter().any(|one| one.pid == taker.pid && one.lock.locker == taker.locker)
                && process::is_alive(taker.pid, taker.tick)
        });
        if let Some(taker) = taker
            && held.iter().all(|one| one.lock.exclusive)
        {
            return vec![vec![taker.pid]];
        }
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for one in held {
            groups.entry(one.lock.locker).or_default().push(one.pid);
        }
        // Without a record the process that took it is not known. One that a holder started has only inherited it.
        let inherited = |pid: u32, group: &[u32]| group.iter().any(|other| *other != pid && self.is_below(pid, *other));
        groups
            .into_values()
            .map(|group| group.iter().copied().filter(|pid| !inherited(*pid, &group)).collect())
            .collect()
    }

    /// The children for which a process waits.
    fn awaited_children(&self, pid: u32) -> Next {
        let children: Vec<u32> = self.children.get(&pid).cloned().unwrap_or_default();
        if peer::is_helper(pid) {
            // The command of a task leads a session; what it left behind is not waited for.
            let leads = |child: &&u32| self.processes.get(child).is_some_and(|seen| seen.session == **child);
            let leaders: Vec<u32> = children.iter().filter(leads).copied().collect();
            return Next::Any(if leaders.is_empty() { children } else { leaders });
        }
        let place = process::sleeps_in(pid).unwrap_or_default();
        let does = |calls: &[&str]| calls.iter().any(|call| place.contains(call));
        // Our helper by that name. It waits for its command and for signals at once, unlike the original.
        if does(&["sigtimedwait"]) && process::name(pid) == peer::FLOCK {
            return Next::Any(children);
        }
        if does(&["poll"]) {
            let only = children.len() == 1 && peer::is_wrapper(pid);
            return Next::Any(if only { children } else { Vec::new() });
        }
        let shell = peer::is_name_of_shell(&process::name(pid));
        // (dash has its `wait` in sigsuspend(2).)
        let waits = does(&["do_wait"]) || shell && does(&["sigsuspend"]);
        if !waits {
            return Next::Any(Vec::new());
        }
        // The shell library waits for its own helper, and for nothing else.
        let helps = |child: &&u32| peer::find_script(**child) == Some(pid) && peer::is_called_by_library(**child);
        if let Some(helper) = children.iter().find(helps) {
            return Next::Any(if may_go_on(pid, Sleep::Child) { Vec::new() } else { vec![*helper] });
        }
        let in_front = |child: &&u32| self.is_in_front(pid, **child) == Some(true);
        let in_front: Vec<u32> = children.iter().filter(in_front).copied().collect();
        // It may be for any of them, and there is no end to it only if there is none to all. But the other parts of a pipeline
        // end with the first, and are waited for as a whole.
        let in_pipe = |child: &u32| process::sleeps_in(*child).is_some_and(|place| place.contains("pipe"));
        let jobs: Vec<u32> = in_front.iter().copied().filter(|child| !in_pipe(child)).collect();
        if may_go_on(pid, if shell && in_front.is_empty() { Sleep::Job } else { Sleep::Child }) {
            return Next::Any(Vec::new());
        }
        Next::All(if shell && !jobs.is_empty() { jobs } else { children })
    }

    /// The processes at the other end of the pipe that a process reads or writes: without one of them it does not go on. None,
    /// if not all of them may have been found.
    fn other_ends(&self, pid: u32, end: PipeEnd) -> Next {
        if may_go_on(pid, Sleep::Pipe) {
            return Next::Any(Vec::new());
        }
        let (pipes, is_other_end): (_, fn(&Path) -> bool) = match end {
            PipeEnd::Reads => (process::pipes_it_reads(pid), process::may_write),
            PipeEnd::Writes => (process::pipes_it_writes(pid), process::may_read),
        };
        let all = pipes.iter().filter_map(|pipe| self.pipes.get(pipe)).flatten();
        // Its own copy of the other end wakes no process.
        let others = all.filter(|(other, path)| *other != pid && process::is_pipe(path) && is_other_end(path));
        let others: HashSet<u32> = others.map(|(other, _)| *other).collect();
        let others: Vec<u32> = others.into_iter().collect();
        if others.iter().all(|other| self.is_below(*other, pid)) || !self.hides_relatives(pid) {
            return Next::All(others);
        }
        Next::Any(Vec::new())
    }

    /// Returns whether a process that we may not look into is of the same session as `pid`, or was started by one of its session: it may
    /// have inherited what `pid` has open.
    fn hides_relatives(&self, pid: u32) -> bool {
        let Some(session) = self.processes.get(&pid).map(|seen| seen.session) else { return true };
        let hides = || {
            self.processes.values().any(|seen| {
                (seen.session == session || self.is_below(seen.pid, session))
                    && (!process::may_be_looked_into(seen.pid) || process::is_guarded(seen.pid))
                    && !process::name(seen.pid).is_empty()
            })
        };
        *self.hiding.borrow_mut().entry(session).or_insert_with(hides)
    }

    /// Whether a process is another, or was started by it, perhaps over others.
    fn is_below(&self, pid: u32, above: u32) -> bool {
        let mut next = Some(pid);
        for _ in 0..MAX_DEPTH {
            match next {
                Some(pid) if pid == above => return true,
                Some(pid) => next = self.processes.get(&pid).map(|seen| seen.parent),
                None => break,
            }
        }
        false
    }

    /// Whether a child of a shell is no background job. `None`: not known.
    fn is_in_front(&self, shell: u32, child: u32) -> Option<bool> {
        let (above, below) = (self.processes.get(&shell)?, self.processes.get(&child)?);
        if above.group != below.group {
            // Each job has a group of its own; the terminal is with the one that is waited for.
            return Some(below.foreground == i64::from(below.group));
        }
        // In a script they have all one group, and those in the background ignore Ctrl-C; where not all do.
        if process::ignored_signals(shell)? & mask(&[libc::SIGINT]) != 0 {
            None
        } else {
            let ignores = process::ignored_signals(child)?;
            let handles = process::caught_signals(child)? & mask(&[libc::SIGINT]) != 0;
            // A subshell of bash in the background handles Ctrl-C itself while it waits for a command, but ignores SIGQUIT.
            let sign =
                if handles && process::words(child) == process::words(shell) { libc::SIGQUIT } else { libc::SIGINT };
            Some(ignores & mask(&[sign]) == 0)
        }
    }

    /// What people call a lock.
    fn label(&self, file: FileId) -> String {
        self.path(file).map_or_else(|| format!("a lock on inode {}", file.ino), |path| holders::derive_label(&path))
    }

    fn path(&self, file: FileId) -> Option<PathBuf> {
        fs::read_link(&self.held.get(&file)?.first()?.descriptor).ok()
    }
}

/// All circles that there are now: those of programs that do not look for themselves, too.
#[must_use]
pub fn all() -> Vec<Circle> {
    let listed = lock_table::list();
    let world = World::new(&listed, None);
    let mut circles: Vec<Circle> = Vec::new();
    for one in listed.iter().filter(|one| one.waits) {
        let pid = one.lock.locker;
        if !circles.iter().any(|known| known.waiters.contains(&pid)) {
            circles.extend(world.circle(pid));
        }
    }
    circles
}
