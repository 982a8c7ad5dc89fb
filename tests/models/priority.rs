//! Priorities: waiters with a higher one get the lock first (`--priority high|normal|low`).
//!
//! The levels `high` and `normal` each have a **want**, a lock that all waiters of the level hold shared. The level `low` has a
//! **turnstile**, which only one waiter of the level holds, so at most one of them blocks on the lock itself.
//!
//! 1. A caller tries the lock. If it is granted, it goes to 5.
//! 2. Otherwise, if its level has a want, it takes that, shared.
//! 3. If its level has a turnstile, it blocks on that.
//! 4. It blocks on the lock.
//! 5. It holds the lock. It looks whether a want of a higher level is held shared, without taking it. If so, it releases the lock,
//!    and keeps its turnstile and its want. It waits for the higher want exclusively, releases that, and goes to 2, or to 4 if
//!    it holds its want or its turnstile.
//! 6. It releases its want and its turnstile, and runs.
//!
//! A caller without the option has the level `normal`, but if the lock is free in step 1, it runs without a look. flock(1) blocks
//! on the lock, and counts as `high`.
//!
//! # Promise
//!
//! A caller that has announced its want is passed by at most one caller of a lower level: one that has looked before. Newcomers
//! without the option that find the lock free are not counted: they are the price of a plain call that costs nothing more.
//! `low` may wait forever while others come.
//!
//! # For the implementation
//!
//! - Wants and turnstiles are bytes of the lock file, as in [`writers`](crate::writers). The wants of `high` and `normal` are
//!   neighbours, so `low` looks at both with one `F_OFD_GETLK`. The mark of a writer is next to the want of its level, so one
//!   call takes both. One call releases all bytes.
//! - Only calls with the option pay in the uncontended case: one look for `normal` and `low`, none for `high`. A shared call looks
//!   only before it tries the lock, because shared holders do not exclude each other.
//! - A waiter yields at most once for each level above it while higher ones wait. Only the head of the level `low` yields. So 100
//!   waiters with `low` cost no more wake-ups than one when a `high` caller comes. The waiters of `normal` include all plain
//!   callers, which wait in the queue of the lock itself, in one order with flock(1); each of them yields when its turn comes.
//! - The look must ignore a want that is held exclusively, because that is another caller that yields: otherwise, two of them
//!   could send each other back forever. `F_OFD_GETLK` returns the type of the lock.
//! - A caller that yields has not run: it writes no record before step 6.
//! - `--timeout` covers all waits. `-n` with a level gives up if the look finds a higher want: the lock is as good as held.
//! - With several locks, a caller that yields releases only the lock that is wanted. It compares all files again before it runs.
//! - `--shared` callers have levels, too: writers and readers of one level do not pass each other, as in `writers`.
//! - With `--slots`, callers queue at the turnstile of the slots, before any of this. So `--priority` is refused for `--slots`.

use crate::checker::{ALL_END, Checked, Protocol, WorldOf, assert_broken, assert_endless, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
/// The turnstile of the level 2 (low).
const TURNSTILE: usize = 1;
/// The wants of the levels 0 (high) and 1 (normal).
const WANTS: [usize; 2] = [2, 3];
const LOCKS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PriorityRole {
    High,
    Normal,
    Low,
    /// A caller without the option.
    Unmarked,
    /// flock(1).
    Plain,
}
use PriorityRole::{High, Low, Normal, Plain, Unmarked};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PriorityFault {
    None,
    NoLook,
    LookSeesAnyLock,
    WantReleasedBeforeGrant,
    OneTurnstile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PriorityStep {
    Try,
    TakeWant,
    BlockTurnstile,
    ReleaseEarly,
    BlockLock,
    Look,
    Yield(usize),
    AwaitWant(usize),
    ReleaseWanted(usize),
    ReleaseWant,
    ReleaseTurnstile,
    BeginRun,
    Run,
    End,
}
use PriorityStep::{
    AwaitWant, BeginRun, BlockLock, BlockTurnstile, End, Look, ReleaseEarly, ReleaseTurnstile, ReleaseWant,
    ReleaseWanted, Run, TakeWant, Try, Yield,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PriorityNotes {
    /// For each process that has announced its want, the number of lower callers that ran since then.
    passed: Vec<Option<u8>>,
    /// True if the maximum was exceeded.
    is_late: bool,
}

#[derive(Debug, Clone)]
struct Priorities {
    kernel: Kernel,
    roles: &'static [PriorityRole],
    crashes: u8,
    fault: PriorityFault,
}

type PriorityWorld = WorldOf<Priorities>;

impl Priorities {
    fn level(&self, pid: Pid) -> usize {
        match self.roles[pid] {
            High | Plain => 0,
            Normal | Unmarked => 1,
            Low => 2,
        }
    }

    fn has_turnstile(&self, pid: Pid) -> bool {
        self.level(pid) == 2 || self.fault == PriorityFault::OneTurnstile
    }

    /// Returns the lock of the want of the caller's level.
    fn want(&self, pid: Pid) -> Option<usize> {
        WANTS.get(self.level(pid)).copied()
    }

    /// Returns the step of a caller that must wait.
    fn begin_wait(&self, world: &PriorityWorld, pid: Pid) -> PriorityStep {
        let holds = |lock: usize| world.locks[lock].is_held_by(pid);
        match self.want(pid) {
            _ if holds(TURNSTILE) => BlockLock,
            Some(want) if !holds(want) => TakeWant,
            _ if self.has_turnstile(pid) => BlockTurnstile,
            _ => BlockLock,
        }
    }

    /// Counts the waiters that the caller passes.
    fn note_run(&self, world: &mut PriorityWorld, pid: Pid) {
        for other in world.pids() {
            if let Some(count) = &mut world.memory.passed[other]
                && self.level(other) < self.level(pid)
            {
                *count += 1;
                world.memory.is_late |= *count > 1;
            }
        }
    }
}

impl Protocol for Priorities {
    type Step = PriorityStep;
    type Memory = PriorityNotes;

    const END: PriorityStep = End;

    fn start(&self) -> PriorityWorld {
        let first = |role: &PriorityRole| if *role == Plain { BlockLock } else { Try };
        let notes = PriorityNotes { passed: vec![None; self.roles.len()], is_late: false };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), LOCKS, notes)
    }

    fn take_step(&self, world: &mut PriorityWorld, pid: Pid, step: PriorityStep) -> PriorityStep {
        match step {
            Try if !world.attempt(pid, LOCK, Mode::Exclusive) => self.begin_wait(world, pid),
            Try if self.roles[pid] == Unmarked => Run,
            Try => Look,
            TakeWant => match self.want(pid) {
                Some(want) if world.request(pid, want, Mode::Shared) => {
                    world.memory.passed[pid] = Some(0);
                    if self.fault == PriorityFault::WantReleasedBeforeGrant {
                        ReleaseEarly
                    } else {
                        self.begin_wait(world, pid)
                    }
                }
                _ => TakeWant,
            },
            BlockTurnstile => world.block(pid, TURNSTILE, BlockTurnstile, BlockLock),
            ReleaseEarly => {
                self.want(pid).into_iter().for_each(|want| world.release(pid, want));
                BlockLock
            }
            BlockLock if !world.request(pid, LOCK, Mode::Exclusive) => BlockLock,
            BlockLock if self.roles[pid] == Plain => Run,
            BlockLock => Look,
            Look => {
                let sees_all = self.fault == PriorityFault::LookSeesAnyLock;
                let is_seen = |want: usize| world.locks[want].is_shared() || sees_all && world.locks[want].is_held();
                let is_wanted = |&level: &usize| is_seen(WANTS[level]);
                match (0..self.level(pid)).find(is_wanted) {
                    Some(level) if self.fault != PriorityFault::NoLook => Yield(level),
                    _ => {
                        world.memory.passed[pid] = None;
                        ReleaseWant
                    }
                }
            }
            Yield(level) => {
                world.release(pid, LOCK);
                AwaitWant(level)
            }
            AwaitWant(level) => world.block(pid, WANTS[level], AwaitWant(level), ReleaseWanted(level)),
            ReleaseWanted(level) => {
                world.release(pid, WANTS[level]);
                self.begin_wait(world, pid)
            }
            ReleaseWant => {
                self.want(pid).into_iter().for_each(|want| world.release(pid, want));
                ReleaseTurnstile
            }
            ReleaseTurnstile => {
                world.release(pid, TURNSTILE);
                BeginRun
            }
            BeginRun => {
                self.note_run(world, pid);
                Run
            }
            Run | End => {
                world.release(pid, LOCK);
                End
            }
        }
    }

    fn note_crash(&self, world: &mut PriorityWorld, pid: Pid) {
        world.memory.passed[pid] = None;
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always("at most one caller runs", |_, world| world.count(|_, step| *step == Run) <= 1),
            Self::always(PASSED_ONCE, |_, world| !world.memory.is_late),
            Self::sometimes("a waiter is passed by a lower caller", |_, world| {
                world.memory.passed.iter().flatten().any(|count| *count == 1)
            }),
            Self::sometimes("a caller yields", |_, world| world.count(|_, step| matches!(step, Yield(_))) > 0),
        ]
    }
}

const PASSED_ONCE: &str = "a waiter is passed by at most one lower caller";

const LEVELS: Priorities =
    Priorities { kernel: Kernel::Linux, roles: &[High, Normal, Low, Low], crashes: 2, fault: PriorityFault::None };

#[test]
fn a_waiter_is_passed_by_at_most_one_lower_caller() {
    for kernel in Kernel::ALL {
        assert_kept(Priorities { kernel, ..LEVELS });
        assert_kept(Priorities { kernel, roles: &[High, High, Normal, Low], crashes: 2, ..LEVELS });
        assert_kept(Priorities { kernel, roles: &[Normal, Low, Low, Low], crashes: 2, ..LEVELS });
    }
}

#[test]
fn callers_without_a_priority_and_plain_flock_callers_may_take_part() {
    for kernel in Kernel::ALL {
        assert_kept(Priorities { kernel, roles: &[High, Unmarked, Low, Plain], crashes: 2, ..LEVELS });
        assert_kept(Priorities { kernel, roles: &[High, Unmarked, Unmarked, Low], crashes: 2, ..LEVELS });
    }
}

#[test]
fn each_fault_of_the_priorities_is_found() {
    let faulty = |fault| Priorities { fault, roles: &[High, Low, Low, Low], crashes: 0, ..LEVELS };
    assert_broken(faulty(PriorityFault::NoLook), PASSED_ONCE);
    assert_broken(faulty(PriorityFault::WantReleasedBeforeGrant), PASSED_ONCE);
    assert_broken(faulty(PriorityFault::OneTurnstile), ALL_END);
    assert_endless(Priorities { fault: PriorityFault::LookSeesAnyLock, crashes: 0, ..LEVELS });
}
