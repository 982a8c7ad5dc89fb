//! Coalesced calls: during a run, one caller waits for the next run, and all others rely on it and end (`--coalesce`).
//!
//! In addition to the lock itself, there are two locks: **next**, which the one waiting caller holds, and a **short lock**. And there are
//! two numbers: `started`, the number of runs that have begun, and `needed`, the number of the run on which callers rely that have
//! ended.
//!
//! 1. The caller reads `started` into s. It tries the lock. If it is granted, the caller goes to 5.
//! 2. It blocks on the short lock, and tries `next`. If `next` is held, it raises `needed` to s + 1, releases the short lock, and
//!    ends: its call is **covered**, because the holder of `next` starts a run after this call. Otherwise, it releases the short lock.
//! 3. Holding `next`, it blocks on the lock.
//! 4. Holding the lock, it blocks on the short lock, releases `next`, and reads `needed`. Then it releases the short lock.
//! 5. If a run has started after its call (`started` > s), and all others are covered (`needed` <= `started`), it releases the
//!    lock and ends as covered.
//! 6. It adds 1 to `started`, runs, and releases the lock.
//!
//! A caller with a timeout may give up, so no other caller can rely on it. If `next` is free in step 2, it does not take it, but
//! blocks on the lock and goes to 5. A caller with `-n` is refused instead.
//!
//! With the strict variant, a caller leaves out steps 2 and 4. In step 5, it is covered only if a run that started after
//! its call has also succeeded: after a success, the run writes its number to `completed`.
//!
//! # Promises
//!
//! At most one run at a time. No run starts for calls that are covered already, so of many callers during one run exactly one
//! more run follows. A caller that ends as covered is covered by a run that starts after its call, unless the holder of
//! `next` is killed. Then `needed` > `started` stays visible until the next run: that run is **owed**.
//!
//! # For the implementation
//!
//! - `next` and the short lock are bytes of the lock file, as the turnstile is in [`writers`](crate::writers). Callers without the
//!   option know nothing of them, and their runs do not count, because they may have another command. A newcomer with the
//!   option may pass the caller that waits, which then finds its own call covered in step 5.
//! - The numbers are attributes of the lock file (`user.*`), and not lines of the record: a caller without the option writes a
//!   record that does not have them, and a file of the user has no record. Only the holder of the lock writes `started` and
//!   `completed`.
//! - `started` grows after `next` was released, and before the command begins: then a call that has read the old number is
//!   covered by this run.
//! - The short lock makes "`next` is held" and "`needed` is raised" one step for the holder of `next`. Without it, a caller that
//!   has raised `needed` can find `next` free when it looks again. If it then gives up, because of `-n` or a timeout, a run is owed
//!   to a call that was refused.
//! - No code runs at the end of a run, because the holder may be any command. That is why a holder does not start an owed run itself, and
//!   why a run that failed or was killed covers the calls before it. The strict variant needs a parent that sees the end
//!   of the command.
//! - `status` shows an owed run: `needed` > `started`, and `next` is free.
//! - `-n` with `--coalesce`: if `next` is held, the call is covered; if only the lock is held, the call is refused.

use crate::checker::{Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
const NEXT: usize = 1;
const SHORT: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CoalesceRole {
    Caller,
    Timed,
    /// A caller with `-n`.
    Impatient,
    Strict,
}
use CoalesceRole::{Caller, Impatient, Strict, Timed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CoalesceFault {
    None,
    NextReleasedBeforeGrant,
    NoShortLock,
    NoNote,
    NeedIgnored,
    AlwaysRuns,
    StartedCountedBeforeRelease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum CoalesceStep {
    Read,
    TryLock,
    BlockShort,
    TryNext,
    Note,
    LeaveShort,
    LeaveShortCovered,
    ReleaseEarly,
    BlockLock,
    CountEarly,
    BlockShortAgain,
    ReleaseNext,
    Check,
    LeaveShortAgain,
    Count,
    Run,
    ReleaseLock,
    ReleaseCovered,
    Covered,
    End,
}
use CoalesceStep::{
    BlockLock, BlockShort, BlockShortAgain, Check, Count, CountEarly, Covered, End, LeaveShort, LeaveShortAgain,
    LeaveShortCovered, Note, Read, ReleaseCovered, ReleaseEarly, ReleaseLock, ReleaseNext, Run, TryLock, TryNext,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CoalesceNotes {
    started: u8,
    completed: u8,
    needed: u8,
    /// The value of `started` that each process has read.
    read: Vec<u8>,
    /// The processes that end as covered in step 5. One bit for each process.
    decided: u8,
    /// The calls that have begun. One bit for each process, as in the next fields.
    begun: u8,
    /// The calls after which a run has started.
    covered: u8,
    /// The calls after which a run has started that has ended.
    satisfied: u8,
    /// The calls after which the present run has started.
    present: u8,
    /// True if a caller was killed that others may rely on.
    was_promise_killed: bool,
    was_run_superfluous: bool,
}

#[derive(Debug, Clone)]
struct Coalesce {
    kernel: Kernel,
    roles: &'static [CoalesceRole],
    crashes: u8,
    fault: CoalesceFault,
}

type CoalesceWorld = WorldOf<Coalesce>;

impl Coalesce {
    /// Returns true if the caller ends without a run once it holds the lock.
    fn is_covered(&self, world: &CoalesceWorld, pid: Pid) -> bool {
        let notes = &world.memory;
        let past = if self.roles[pid] == Strict { notes.completed } else { notes.started };
        let is_needed = notes.needed > notes.started && self.fault != CoalesceFault::NeedIgnored;
        past > notes.read[pid] && !is_needed && self.fault != CoalesceFault::AlwaysRuns
    }

    /// Returns the covered callers that no run has covered.
    fn find_uncovered(world: &CoalesceWorld) -> u8 {
        world.pids().filter(|&pid| world.steps[pid] == Covered).fold(0, |bits, pid| bits | 1 << pid)
            & !world.memory.covered
    }

    fn count_run(&self, world: &mut CoalesceWorld) {
        let is_strict = self.roles.contains(&Strict);
        let notes = &mut world.memory;
        notes.was_run_superfluous |= notes.begun & !notes.covered == 0 && !is_strict;
        notes.started += 1;
    }
}

impl Protocol for Coalesce {
    type Step = CoalesceStep;
    type Memory = CoalesceNotes;

    const END: CoalesceStep = End;

    fn start(&self) -> CoalesceWorld {
        let notes = CoalesceNotes {
            started: 0,
            completed: 0,
            needed: 0,
            read: vec![0; self.roles.len()],
            decided: 0,
            begun: 0,
            covered: 0,
            satisfied: 0,
            present: 0,
            was_promise_killed: false,
            was_run_superfluous: false,
        };
        World::new(self.kernel, self.crashes, vec![Read; self.roles.len()], 3, notes)
    }

    fn has_ended(&self, world: &CoalesceWorld, pid: Pid) -> bool {
        matches!(world.steps[pid], End | Covered)
    }

    fn take_step(&self, world: &mut CoalesceWorld, pid: Pid, step: CoalesceStep) -> CoalesceStep {
        let role = self.roles[pid];
        match step {
            Read => {
                world.memory.begun |= 1 << pid;
                world.memory.read[pid] = world.memory.started;
                TryLock
            }
            TryLock if world.attempt(pid, LOCK, Mode::Exclusive) => Check,
            TryLock if role == Strict => BlockLock,
            TryLock if self.fault == CoalesceFault::NoShortLock => TryNext,
            TryLock => BlockShort,
            BlockShort => world.block(pid, SHORT, BlockShort, TryNext),
            TryNext if role != Caller && world.locks[NEXT].is_free_for(Mode::Exclusive) => LeaveShort,
            TryNext if role == Caller && world.attempt(pid, NEXT, Mode::Exclusive) => LeaveShort,
            TryNext if self.fault == CoalesceFault::NoNote => LeaveShortCovered,
            TryNext => Note,
            Note => {
                world.memory.needed = world.memory.needed.max(world.memory.read[pid] + 1);
                LeaveShortCovered
            }
            LeaveShort => {
                world.release(pid, SHORT);
                match self.fault {
                    _ if role == Impatient => End,
                    CoalesceFault::NextReleasedBeforeGrant => ReleaseEarly,
                    _ => BlockLock,
                }
            }
            LeaveShortCovered => {
                world.release(pid, SHORT);
                Covered
            }
            ReleaseEarly => {
                world.release(pid, NEXT);
                BlockLock
            }
            BlockLock if !world.request(pid, LOCK, Mode::Exclusive) => BlockLock,
            BlockLock if self.fault == CoalesceFault::StartedCountedBeforeRelease => CountEarly,
            BlockLock if !world.locks[NEXT].is_held_by(pid) => Check,
            BlockLock if self.fault == CoalesceFault::NoShortLock => ReleaseNext,
            BlockLock => BlockShortAgain,
            CountEarly => {
                self.count_run(world);
                BlockShortAgain
            }
            BlockShortAgain => world.block(pid, SHORT, BlockShortAgain, ReleaseNext),
            ReleaseNext => {
                world.release(pid, NEXT);
                if self.fault == CoalesceFault::StartedCountedBeforeRelease { LeaveShortAgain } else { Check }
            }
            Check => {
                world.memory.decided |= u8::from(self.is_covered(world, pid)) << pid;
                LeaveShortAgain
            }
            LeaveShortAgain => {
                world.release(pid, SHORT);
                if world.memory.decided >> pid & 1 == 1 { ReleaseCovered } else { Count }
            }
            Count => {
                if self.fault != CoalesceFault::StartedCountedBeforeRelease {
                    self.count_run(world);
                }
                world.memory.covered |= world.memory.begun;
                world.memory.present = world.memory.begun;
                Run
            }
            Run => {
                world.memory.satisfied |= world.memory.present;
                world.memory.present = 0;
                world.memory.completed = world.memory.started;
                ReleaseLock
            }
            ReleaseCovered => {
                world.release(pid, LOCK);
                Covered
            }
            ReleaseLock | Covered | End => {
                world.release(pid, LOCK);
                End
            }
        }
    }

    fn note_crash(&self, world: &mut CoalesceWorld, pid: Pid) {
        let is_relied_on =
            matches!(world.steps[pid], Check | LeaveShortAgain | Count) || world.locks[NEXT].is_held_by(pid);
        world.memory.was_promise_killed |= is_relied_on;
        if world.steps[pid] == Run {
            world.memory.present = 0;
        }
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always("at most one run at a time", |_, world| world.count(|_, step| *step == Run) <= 1),
            Self::always(ONE_WAITS, |model, world| {
                world.count(|pid, step| *step == BlockLock && model.roles[pid] == Caller) <= 1
            }),
            Self::always(COVERED, |model, world| {
                world.memory.was_promise_killed || !model.is_final(world) || Self::find_uncovered(world) == 0
            }),
            Self::always(VISIBLE, |model, world| {
                let is_visible = world.memory.needed > world.memory.started;
                is_visible || !model.is_final(world) || Self::find_uncovered(world) == 0
            }),
            Self::always(NO_FALSE_DEBT, |model, world| {
                let is_visible = world.memory.needed > world.memory.started;
                world.has_crash() || !model.is_final(world) || !is_visible
            }),
            Self::always(NO_MORE_RUNS, |_, world| !world.memory.was_run_superfluous),
            Self::always(SATISFIED, |model, world| {
                let is_early = |pid: Pid| world.steps[pid] == Covered && world.memory.satisfied >> pid & 1 == 0;
                !world.pids().any(|pid| model.roles[pid] == Strict && is_early(pid))
            }),
            Self::sometimes("one run covers two callers", |_, world| {
                world.memory.started == 1 && world.count(|_, step| *step == Covered) == 1
            }),
        ]
    }
}

const ONE_WAITS: &str = "at most one caller without a timeout waits for the lock, unless it is strict";
const COVERED: &str = "a covered call is covered by a later run, if the waiter survives";
const VISIBLE: &str = "a call that no run has covered is visible as a debt";
const NO_FALSE_DEBT: &str = "no debt is visible if no process is killed";
const NO_MORE_RUNS: &str = "no run starts if all calls are covered";
const SATISFIED: &str = "a strict caller ends only after the run that covers it";

const CALLERS: Coalesce =
    Coalesce { kernel: Kernel::Linux, roles: &[Caller, Caller, Caller], crashes: 3, fault: CoalesceFault::None };

#[test]
fn of_many_callers_during_a_run_one_waits_and_one_more_run_follows() {
    for kernel in Kernel::ALL {
        assert_kept(Coalesce { kernel, ..CALLERS });
    }
    assert_kept(Coalesce { roles: &[Caller, Caller, Caller, Caller], crashes: 1, ..CALLERS });
}

#[test]
fn no_caller_relies_on_a_waiter_that_may_give_up() {
    for kernel in Kernel::ALL {
        assert_kept(Coalesce { kernel, roles: &[Caller, Caller, Timed], ..CALLERS });
        assert_kept(Coalesce { kernel, roles: &[Caller, Caller, Impatient], ..CALLERS });
    }
    assert_kept(Coalesce { roles: &[Caller, Caller, Caller, Timed], crashes: 1, ..CALLERS });
}

#[test]
fn a_strict_caller_ends_after_the_run_that_covers_it() {
    for kernel in Kernel::ALL {
        assert_kept(Coalesce { kernel, roles: &[Strict, Strict, Strict], ..CALLERS });
        assert_kept(Coalesce { kernel, roles: &[Strict, Strict, Caller], ..CALLERS });
    }
}

#[test]
fn each_fault_of_coalesced_calls_is_found() {
    let faulty = |fault| Coalesce { fault, crashes: 0, ..CALLERS };
    let killed = |fault| Coalesce { crashes: 1, ..faulty(fault) };
    let timed = |fault| Coalesce { roles: &[Caller, Caller, Timed], ..faulty(fault) };
    assert_broken(faulty(CoalesceFault::NextReleasedBeforeGrant), ONE_WAITS);
    assert_broken(killed(CoalesceFault::NoNote), VISIBLE);
    assert_broken(faulty(CoalesceFault::NeedIgnored), COVERED);
    assert_broken(faulty(CoalesceFault::NoShortLock), COVERED);
    assert_broken(timed(CoalesceFault::AlwaysRuns), NO_MORE_RUNS);
    assert_broken(faulty(CoalesceFault::StartedCountedBeforeRelease), NO_FALSE_DEBT);
}
