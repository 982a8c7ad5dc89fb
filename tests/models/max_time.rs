//! A maximum run time: a watcher ends all processes that hold a lock through one acquisition (`--max-time`).
//!
//! The lock file is open in a script. Its helper starts a **watcher**, which acquires the lock for the script.
//!
//! The helper:
//!
//! 1. It starts the watcher, which inherits the open file of the script.
//! 2. It waits for the report of the watcher, or for its end. After the report, it waits until the watcher has closed its copy of
//!    the open file, and ends with success. Otherwise, it fails, and the script closes the file.
//!
//! The watcher:
//!
//! 1. It blocks on the lock. So the kernel names it as the locker, and as long as it lives, no other acquisition has its pid.
//! 2. It watches the file with inotify(7), reports the grant, and closes its copy of the open file.
//! 3. It waits for a close event or for the end of the time.
//! 4. After a close event, it looks whether the lock table still has a lock with its pid. If not, it ends. The kernel sends the
//!    event before it releases the lock, so the watcher looks again after pauses before it goes to 3.
//! 5. When the time is over, it searches a process that holds a lock with its pid as locker. If there is none, it ends.
//! 6. It opens a descriptor for that process, checks again that it holds the lock, ends it, and goes to 5.
//!
//! # Promises
//!
//! The watcher signals only processes that held the lock through this acquisition when they were verified, and never a later holder.
//! When it ends after the time is over, no process holds the lock through this acquisition, also none that was started in between.
//! It ends with the last holder. It keeps no lock: if it is killed, the lock is held until its holders end, and while it runs, the
//! lock is free as soon as they have ended.
//!
//! # For the implementation
//!
//! - In the command mode (`lock NAME -- CMD`) the same watcher acquires the lock, and the helper becomes the command.
//! - The watcher runs in a session of its own. During its wait for the lock, it is in the session of the helper, and ends
//!   with it (parent-death signal), so Ctrl-C and Ctrl-Z work as before. The record is written by the watcher.
//! - The time begins with the grant. `--timeout` limits the wait only.
//! - Step 6 is that of `unlock --kill`: SIGTERM, after the grace SIGKILL, and each signal is verified again.
//! - A lock that is released without a close (flock -u) sends no event. Then the watcher ends when the time is over.
//! - An inherited lock keeps the limit of its acquisition: a nested call with `--max-time` on a lock that it already holds is
//!   refused, because it has no acquisition of its own. With several locks, one watcher acquires all of them.
//! - With `run-once`, the supervisor is the parent of the command, and ends its session itself; no watcher is needed.

use crate::checker::{ALL_END, Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Pid};
use crate::world::World;
use stateright::Property;

const SCRIPT: Pid = 0;
const HELPER: Pid = 1;
const WATCHER: Pid = 2;
/// A process that the script starts, and that inherits the open file.
const CHILD: Pid = 3;
/// A caller with an open file of its own.
const RIVAL: Pid = 4;
/// Releases the lock some time after the last copy of the open file was closed.
const KERNEL: Pid = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaxTimeFault {
    None,
    CopyKept,
    WatchAfterClose,
    NoPause,
    LockerIgnored,
    NoVerification,
    OneSearch,
    ReportBeforeGrant,
    CloseNotAwaited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum MaxTimeStep {
    NotStarted,
    StartHelper,
    AwaitHelper,
    Run,
    Unlock,
    RunUnlocked,
    CloseFile,
    StartWatcher,
    AwaitReport,
    AwaitClose,
    BlockLock,
    Watch,
    Report,
    CloseCopy,
    Await,
    LookAtTable,
    Pause,
    Search,
    Open,
    Verify,
    Kill,
    ChildRuns,
    RivalBlocks,
    RivalRuns,
    /// The kernel has nothing to do, or releases the lock.
    Kernel,
    End,
}
use MaxTimeStep::{
    Await, AwaitClose, AwaitHelper, AwaitReport, BlockLock, ChildRuns, CloseCopy, CloseFile, End, Kill, LookAtTable,
    NotStarted, Open, Pause, Report, RivalBlocks, RivalRuns, Run, RunUnlocked, Search, StartHelper, StartWatcher,
    Unlock, Verify, Watch,
};

/// The open file through which the lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LockedFile {
    OfScript,
    OfRival,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct MaxTimeNotes {
    held: Option<LockedFile>,
    /// The processes with a copy of the open file of the script.
    copies: u8,
    is_reported: bool,
    is_watching: bool,
    has_event: bool,
    is_time_over: bool,
    /// The process that the watcher is about to kill, and whether it held the lock when its descriptor was opened.
    victim: Option<(u8, bool)>,
    was_rival_killed: bool,
    was_stranger_killed: bool,
}

#[derive(Debug, Clone)]
struct MaxTime {
    /// True if the time can end at any step. Otherwise it never ends.
    has_limit: bool,
    crashes: u8,
    fault: MaxTimeFault,
}

type MaxTimeWorld = WorldOf<MaxTime>;

impl MaxTime {
    /// Closes the copy of a process. After the last one, the kernel sends the event, and then releases the lock.
    fn close_copy(world: &mut MaxTimeWorld, pid: Pid) {
        let notes = &mut world.memory;
        let is_last = notes.copies == 1 << pid;
        notes.copies &= !(1 << pid);
        notes.has_event |= is_last && notes.is_watching;
    }

    fn is_kernel_idle(world: &MaxTimeWorld) -> bool {
        world.memory.copies != 0 || world.memory.held != Some(LockedFile::OfScript)
    }

    fn holds(&self, world: &MaxTimeWorld, pid: Pid) -> bool {
        match world.memory.held {
            Some(LockedFile::OfScript) => world.memory.copies >> pid & 1 == 1,
            Some(LockedFile::OfRival) => pid == RIVAL && self.fault == MaxTimeFault::LockerIgnored,
            None => false,
        }
    }

    fn is_gone(world: &MaxTimeWorld, pid: Pid) -> bool {
        !world.is_alive(pid) || world.steps[pid] == End
    }

    fn kill_victim(world: &mut MaxTimeWorld) {
        let Some((victim, held)) = world.memory.victim.take() else { return };
        let victim = Pid::from(victim);
        world.memory.was_stranger_killed |= !held;
        world.memory.was_rival_killed |= victim == RIVAL;
        if !Self::is_gone(world, victim) {
            world.kill(victim);
            world.steps[victim] = End;
            Self::close_copy(world, victim);
        }
    }

    fn take_watcher_step(&self, world: &mut MaxTimeWorld, step: MaxTimeStep, choice: usize) -> MaxTimeStep {
        let is_late = self.fault == MaxTimeFault::WatchAfterClose;
        match step {
            BlockLock => {
                world.memory.held = Some(LockedFile::OfScript);
                if is_late { Report } else { Watch }
            }
            Watch => {
                world.memory.is_watching = true;
                if is_late { Await } else { Report }
            }
            Report => {
                world.memory.is_reported = true;
                if self.fault == MaxTimeFault::CopyKept { Await } else { CloseCopy }
            }
            CloseCopy => {
                Self::close_copy(world, WATCHER);
                if is_late { Watch } else { Await }
            }
            Await if choice == 0 && world.memory.has_event => {
                world.memory.has_event = false;
                LookAtTable
            }
            Await => {
                world.memory.is_time_over = true;
                Search
            }
            LookAtTable if world.memory.held != Some(LockedFile::OfScript) => End,
            LookAtTable if self.fault == MaxTimeFault::NoPause => Await,
            LookAtTable => Pause,
            Pause if world.memory.held == Some(LockedFile::OfScript) => Await,
            Pause => End,
            Search => match [SCRIPT, HELPER, CHILD, RIVAL].into_iter().find(|&pid| self.holds(world, pid)) {
                None => End,
                Some(pid) => {
                    world.memory.victim = u8::try_from(pid).ok().map(|pid| (pid, false));
                    Open
                }
            },
            Open => {
                let victim = world.memory.victim.map(|(pid, _)| (pid, self.holds(world, Pid::from(pid))));
                world.memory.victim = victim;
                if self.fault == MaxTimeFault::NoVerification { Kill } else { Verify }
            }
            Verify if world.memory.victim.is_some_and(|(pid, _)| self.holds(world, Pid::from(pid))) => Kill,
            Verify => {
                world.memory.victim = None;
                Search
            }
            Kill => {
                Self::kill_victim(world);
                if self.fault == MaxTimeFault::OneSearch { End } else { Search }
            }
            _ => End,
        }
    }
}

impl Protocol for MaxTime {
    type Step = MaxTimeStep;
    type Memory = MaxTimeNotes;

    const END: MaxTimeStep = End;

    fn start(&self) -> MaxTimeWorld {
        let steps = vec![StartHelper, NotStarted, NotStarted, NotStarted, RivalBlocks, MaxTimeStep::Kernel];
        let notes = MaxTimeNotes { copies: 1 << SCRIPT, ..MaxTimeNotes::default() };
        World::new(Kernel::Linux, self.crashes, steps, 0, notes)
    }

    fn has_ended(&self, world: &MaxTimeWorld, pid: Pid) -> bool {
        matches!(world.steps[pid], NotStarted | End) || pid == KERNEL && Self::is_kernel_idle(world)
    }

    fn may_crash(&self, _world: &MaxTimeWorld, pid: Pid) -> bool {
        pid != KERNEL
    }

    fn is_waiting(&self, world: &MaxTimeWorld, pid: Pid) -> bool {
        let notes = &world.memory;
        match world.steps[pid] {
            AwaitHelper => !Self::is_gone(world, HELPER),
            AwaitReport => !notes.is_reported && !Self::is_gone(world, WATCHER),
            AwaitClose => notes.copies >> WATCHER & 1 == 1,
            BlockLock | RivalBlocks => notes.held.is_some(),
            Await => !notes.has_event && !self.has_limit,
            // The lock is held by others, or the kernel is about to release it.
            Pause => notes.held == Some(LockedFile::OfScript) && notes.copies == 0,
            _ => false,
        }
    }

    fn count_choices(&self, world: &MaxTimeWorld, pid: Pid) -> usize {
        match world.steps[pid] {
            // The end, a release before the end, and the start of a child.
            Run if world.steps[CHILD] == NotStarted => 3,
            Run => 2,
            Await if world.memory.has_event && self.has_limit => 2,
            _ => 1,
        }
    }

    fn choose(&self, world: &mut MaxTimeWorld, pid: Pid, step: MaxTimeStep, choice: usize) -> MaxTimeStep {
        match (pid, step) {
            (WATCHER, _) => self.take_watcher_step(world, step, choice),
            (_, Run) if choice == 1 => Unlock,
            (_, Run) if choice == 2 => {
                world.steps[CHILD] = ChildRuns;
                world.memory.copies |= 1 << CHILD;
                Run
            }
            _ => self.take_step(world, pid, step),
        }
    }

    fn take_step(&self, world: &mut MaxTimeWorld, pid: Pid, step: MaxTimeStep) -> MaxTimeStep {
        match step {
            StartHelper => {
                world.steps[HELPER] = StartWatcher;
                world.memory.copies |= 1 << HELPER;
                AwaitHelper
            }
            AwaitHelper if world.is_alive(HELPER) && world.memory.is_reported => Run,
            AwaitHelper => CloseFile,
            Unlock => {
                world.memory.held = None;
                RunUnlocked
            }
            RunUnlocked => CloseFile,
            StartWatcher => {
                world.steps[WATCHER] = BlockLock;
                world.memory.copies |= 1 << WATCHER;
                world.memory.is_reported = self.fault == MaxTimeFault::ReportBeforeGrant;
                AwaitReport
            }
            AwaitReport if world.memory.is_reported && self.fault != MaxTimeFault::CloseNotAwaited => AwaitClose,
            RivalBlocks => {
                world.memory.held = Some(LockedFile::OfRival);
                RivalRuns
            }
            RivalRuns => {
                world.memory.held = None;
                world.memory.has_event |= world.memory.is_watching;
                End
            }
            MaxTimeStep::Kernel => {
                world.memory.held = None;
                MaxTimeStep::Kernel
            }
            _ => {
                Self::close_copy(world, pid);
                End
            }
        }
    }

    fn note_crash(&self, world: &mut MaxTimeWorld, pid: Pid) {
        Self::close_copy(world, pid);
        if pid == RIVAL && world.steps[pid] == RivalRuns {
            world.memory.held = None;
        }
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always(HOLDS, |_, world| {
                let runs = world.is_alive(SCRIPT) && world.steps[SCRIPT] == Run;
                !runs || world.memory.held == Some(LockedFile::OfScript)
            }),
            Self::always(NO_COPY, |_, world| {
                let runs = world.is_alive(SCRIPT) && world.steps[SCRIPT] == Run;
                !runs || world.memory.copies >> WATCHER & 1 == 0
            }),
            Self::always(NO_RIVAL, |_, world| !world.memory.was_rival_killed),
            Self::always(VERIFIED, |_, world| !world.memory.was_stranger_killed),
            Self::always(ALL_GONE, |_, world| {
                let has_acted = world.memory.is_time_over && world.is_alive(WATCHER) && world.steps[WATCHER] == End;
                !has_acted
                    || Self::is_kernel_idle(world) && world.memory.held != Some(LockedFile::OfScript)
                    || world.memory.copies == 0
            }),
            Self::sometimes("a child holds the lock after the script", |_, world| {
                world.memory.copies == 1 << CHILD && world.memory.held == Some(LockedFile::OfScript)
            }),
        ]
    }
}

const HOLDS: &str = "a script that runs holds the lock";
const NO_COPY: &str = "the watcher has no copy of the file of a script that runs";
const NO_RIVAL: &str = "no later holder is killed";
const VERIFIED: &str = "a process is killed only if it held the lock when its descriptor was opened";
const ALL_GONE: &str = "when the watcher ends after the time, no process holds the lock through its acquisition";

const LIMITED: MaxTime = MaxTime { has_limit: true, crashes: 5, fault: MaxTimeFault::None };

#[test]
fn a_watcher_ends_all_holders_of_its_acquisition_and_no_other_process() {
    assert_kept(LIMITED);
}

#[test]
fn a_watcher_ends_with_the_last_holder_before_the_time_is_over() {
    assert_kept(MaxTime { has_limit: false, ..LIMITED });
}

#[test]
fn each_fault_of_a_watcher_is_found() {
    let faulty = |fault| MaxTime { fault, crashes: 0, ..LIMITED };
    let unlimited = |fault| MaxTime { has_limit: false, ..faulty(fault) };
    assert_broken(faulty(MaxTimeFault::LockerIgnored), NO_RIVAL);
    assert_broken(faulty(MaxTimeFault::NoVerification), VERIFIED);
    assert_broken(faulty(MaxTimeFault::OneSearch), ALL_GONE);
    // The wait for the close hides an early report, unless the watcher is killed before the grant.
    assert_broken(MaxTime { crashes: 1, ..faulty(MaxTimeFault::ReportBeforeGrant) }, HOLDS);
    assert_broken(faulty(MaxTimeFault::CloseNotAwaited), NO_COPY);
    assert_broken(unlimited(MaxTimeFault::CopyKept), ALL_END);
    assert_broken(unlimited(MaxTimeFault::WatchAfterClose), ALL_END);
    assert_broken(unlimited(MaxTimeFault::NoPause), ALL_END);
}
