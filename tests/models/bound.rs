//! A lock that ends with the script, whatever its children inherit (`aba_lock_operation --no-inherit`).
//!
//! A **helper** process holds the lock on a descriptor that no other process has. It is bound to the script by a pidfd. The script
//! is bound to the helper by a pipe: the helper has the only writing end, and the kernel sends SIGTERM to the script when
//! that end is closed.
//!
//! The script:
//!
//! 1. It starts the helper, and keeps the reading end of the pipe.
//! 2. It reads the report of the helper. At the end of the file without a report, the call fails.
//! 3. It arms the pipe: from now on, the kernel sends it SIGTERM when the pipe is closed.
//! 4. It looks whether the pipe was closed before. If so, the call fails.
//! 5. It runs with the lock.
//! 6. To release the lock, it disarms the pipe, asks the helper to end, and reads until the end of the file.
//!
//! The helper:
//!
//! 1. It opens a pidfd of the script, and then checks that the script is still its parent. If not, it ends.
//! 2. It blocks on the lock.
//! 3. It reports the grant through the pipe.
//! 4. It waits until the script ends or asks it to end.
//! 5. It releases the lock, then closes the pipe, and ends.
//!
//! # Promises
//!
//! A script that runs holds the lock, unless its helper was killed. If the helper was killed, the script has SIGTERM pending as soon
//! as the kernel has closed the pipe. The helper never outlives the script for long: when no process can go on, the lock
//! is free. A script that has released the lock gets no SIGTERM.
//!
//! # Limits
//!
//! After a kill -9 of the helper, the kernel may release the lock an instant before it closes the pipe, and so before the SIGTERM.
//!
//! # For the implementation
//!
//! - One process is enough, and no second one that watches the first: `fcntl` with `F_SETOWN` (the script), `F_SETSIG` (SIGTERM) and
//!   `O_ASYNC` on the reading end. A short call of the helper program does this on the inherited descriptor, because bash
//!   cannot. The kernel keeps the process and not its number, so a reused pid never gets the signal.
//! - In bash: `exec N< <(exec aba-lock ...)`. The helper calls setsid(2), so Ctrl-C and Ctrl-Z do not reach it: a stopped script
//!   keeps the lock. The children of the script inherit the reading end, which holds nothing.
//! - During its wait for the lock, a second thread of the helper polls the pidfd, so that it ends with the script.
//! - `exec` of another program keeps the pid, and so the lock. A subshell that takes the lock binds it to itself (`BASHPID`).
//!   A nested call in the same process is recognized by the library, as for other locks; a child must wait for the lock.
//! - The record names the script: its pid, and the helper as `locker`, so that `status` shows the script. `unlock --kill` must
//!   end the script: the end of the helper alone would send it SIGTERM, but it may ignore that.
//! - A script that ignores SIGTERM continues without the lock. The manual says so, as for `--on-lost`.

use crate::checker::{ALL_END, Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
/// The writing end of the pipe. The process that has it open holds this lock.
const PIPE: usize = 1;

const SCRIPT: Pid = 0;
const HELPER: Pid = 1;
const RIVAL: Pid = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BoundFault {
    None,
    ParentCheckedFirst,
    ReportBeforeGrant,
    NoLookAfterArming,
    NotDisarmed,
    PipeClosedBeforeRelease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum BoundStep {
    StartHelper,
    AwaitReport,
    Arm,
    LookAtPipe,
    Run,
    Disarm,
    AskToEnd,
    AwaitClose,
    RunUnlocked,
    NotStarted,
    OpenPidfd,
    CheckParent,
    BlockLock,
    Report,
    AwaitScript,
    ReleaseLock,
    ClosePipe,
    RivalBlocks,
    RivalRuns,
    End,
}
use BoundStep::{
    Arm, AskToEnd, AwaitClose, AwaitReport, AwaitScript, BlockLock, CheckParent, ClosePipe, Disarm, End, LookAtPipe,
    NotStarted, OpenPidfd, ReleaseLock, Report, RivalBlocks, RivalRuns, Run, RunUnlocked, StartHelper,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct BoundNotes {
    is_reported: bool,
    is_armed: bool,
    is_asked_to_end: bool,
    /// SIGTERM is pending for the script.
    has_signal: bool,
    /// The pidfd of the helper is that of a stranger with the pid of the script.
    is_bound_to_stranger: bool,
}

#[derive(Debug, Clone)]
struct Bound {
    kernel: Kernel,
    crashes: u8,
    fault: BoundFault,
}

type BoundWorld = WorldOf<Bound>;

impl Bound {
    fn is_script_gone(world: &BoundWorld) -> bool {
        !world.is_alive(SCRIPT) || world.steps[SCRIPT] == End
    }

    fn close_pipe(world: &mut BoundWorld) {
        world.release(HELPER, PIPE);
        world.memory.has_signal |= world.memory.is_armed && !Self::is_script_gone(world);
    }

    fn take_script_step(&self, world: &mut BoundWorld, step: BoundStep, choice: usize) -> BoundStep {
        if world.memory.has_signal {
            return End;
        }
        match step {
            StartHelper => {
                world.attempt(HELPER, PIPE, Mode::Exclusive);
                let is_reversed = self.fault == BoundFault::ParentCheckedFirst;
                world.steps[HELPER] = if is_reversed { CheckParent } else { OpenPidfd };
                AwaitReport
            }
            AwaitReport if world.memory.is_reported => Arm,
            Arm => {
                world.memory.is_armed = true;
                if self.fault == BoundFault::NoLookAfterArming { Run } else { LookAtPipe }
            }
            LookAtPipe if world.locks[PIPE].is_held() => Run,
            Run if choice == 0 => End,
            Run if self.fault == BoundFault::NotDisarmed => AskToEnd,
            Run => Disarm,
            Disarm => {
                world.memory.is_armed = false;
                AskToEnd
            }
            AskToEnd => {
                world.memory.is_asked_to_end = true;
                AwaitClose
            }
            AwaitClose => RunUnlocked,
            _ => End,
        }
    }
}

impl Protocol for Bound {
    type Step = BoundStep;
    type Memory = BoundNotes;

    const END: BoundStep = End;

    fn start(&self) -> BoundWorld {
        World::new(self.kernel, self.crashes, vec![StartHelper, NotStarted, RivalBlocks], 2, BoundNotes::default())
    }

    fn has_ended(&self, world: &BoundWorld, pid: Pid) -> bool {
        matches!(world.steps[pid], NotStarted | End)
    }

    fn is_waiting(&self, world: &BoundWorld, pid: Pid) -> bool {
        let notes = &world.memory;
        let is_pipe_open = world.locks[PIPE].is_held();
        match world.steps[pid] {
            AwaitReport => !notes.is_reported && is_pipe_open,
            AwaitClose => !notes.has_signal && is_pipe_open,
            AwaitScript => {
                let has_script_ended = Self::is_script_gone(world) && !notes.is_bound_to_stranger;
                !has_script_ended && !notes.is_asked_to_end
            }
            _ => false,
        }
    }

    fn count_choices(&self, world: &BoundWorld, pid: Pid) -> usize {
        if world.steps[pid] == Run { 2 } else { 1 }
    }

    fn choose(&self, world: &mut BoundWorld, pid: Pid, step: BoundStep, choice: usize) -> BoundStep {
        if pid == SCRIPT { self.take_script_step(world, step, choice) } else { self.take_step(world, pid, step) }
    }

    fn take_step(&self, world: &mut BoundWorld, pid: Pid, step: BoundStep) -> BoundStep {
        let is_reversed = self.fault == BoundFault::ParentCheckedFirst;
        match step {
            OpenPidfd => {
                // If the script has ended, its pid may be that of a stranger.
                world.memory.is_bound_to_stranger = Self::is_script_gone(world);
                if is_reversed { BlockLock } else { CheckParent }
            }
            CheckParent if Self::is_script_gone(world) => ClosePipe,
            CheckParent if is_reversed => OpenPidfd,
            CheckParent if self.fault == BoundFault::ReportBeforeGrant => Report,
            CheckParent => BlockLock,
            BlockLock if self.fault == BoundFault::ReportBeforeGrant => world.block(pid, LOCK, BlockLock, AwaitScript),
            BlockLock => world.block(pid, LOCK, BlockLock, Report),
            Report => {
                world.memory.is_reported = true;
                if self.fault == BoundFault::ReportBeforeGrant { BlockLock } else { AwaitScript }
            }
            AwaitScript if self.fault == BoundFault::PipeClosedBeforeRelease => {
                Self::close_pipe(world);
                ReleaseLock
            }
            AwaitScript => ReleaseLock,
            ReleaseLock => {
                world.release(pid, LOCK);
                ClosePipe
            }
            ClosePipe => {
                Self::close_pipe(world);
                End
            }
            RivalBlocks => world.block(pid, LOCK, RivalBlocks, RivalRuns),
            _ => {
                world.release(pid, LOCK);
                End
            }
        }
    }

    fn reap(&self, world: &mut BoundWorld, pid: Pid, lock: usize) {
        if lock == PIPE { Self::close_pipe(world) } else { world.release(pid, lock) }
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        fn runs(world: &BoundWorld) -> bool {
            world.is_alive(SCRIPT) && world.steps[SCRIPT] == Run
        }
        vec![
            Self::always(HOLDS, |_, world| {
                !runs(world) || world.locks[LOCK].is_held_by(HELPER) || !world.is_alive(HELPER)
            }),
            Self::always("the script and another caller run together only after the helper was killed", |_, world| {
                !runs(world) || world.steps[RIVAL] != RivalRuns || !world.is_alive(HELPER)
            }),
            Self::always(SIGNALLED, |_, world| !runs(world) || world.locks[PIPE].is_held() || world.memory.has_signal),
            Self::always(QUIET, |_, world| !(world.memory.is_asked_to_end && world.memory.has_signal)),
            Self::always(RELEASED, |_, world| {
                let is_released = world.is_alive(SCRIPT) && world.steps[SCRIPT] == RunUnlocked;
                !is_released || !world.locks[LOCK].is_held_by(HELPER) || !world.is_alive(HELPER)
            }),
            Self::sometimes("the script gets SIGTERM", |_, world| world.memory.has_signal),
            Self::sometimes("the script goes on without the lock", |_, world| world.steps[SCRIPT] == RunUnlocked),
        ]
    }
}

const HOLDS: &str = "a script that runs holds the lock, unless its helper was killed";
const SIGNALLED: &str = "a script that runs without the pipe has SIGTERM pending";
const QUIET: &str = "a script that released the lock gets no SIGTERM";
const RELEASED: &str = "the lock is free when the release returns, unless the helper was killed";

const SCENE: Bound = Bound { kernel: Kernel::Linux, crashes: 3, fault: BoundFault::None };

#[test]
fn a_lock_that_is_not_inherited_ends_with_its_script_and_the_script_with_its_helper() {
    for kernel in Kernel::ALL {
        assert_kept(Bound { kernel, ..SCENE });
    }
}

#[test]
fn each_fault_of_a_bound_helper_is_found() {
    let faulty = |fault| Bound { fault, ..SCENE };
    assert_broken(faulty(BoundFault::ParentCheckedFirst), ALL_END);
    assert_broken(faulty(BoundFault::ReportBeforeGrant), HOLDS);
    assert_broken(faulty(BoundFault::NoLookAfterArming), SIGNALLED);
    assert_broken(faulty(BoundFault::NotDisarmed), QUIET);
    assert_broken(faulty(BoundFault::PipeClosedBeforeRelease), RELEASED);
}
