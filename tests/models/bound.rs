//! A lock that ends with the script, whatever its children inherit (`aba_lock_operation --no-inherit`).
//!
//! A **holder** process holds the lock on a descriptor that no other process has. It is bound to the script by a pidfd. The script
//! is bound to the holder by a pipe: the holder has the only writing end, and the kernel sends SIGTERM to the script when
//! that end is closed.
//!
//! The script:
//!
//! 1. It opens the reading end of the pipe, and starts the helper.
//! 2. It waits for the exit status of the helper. If that is not success, it closes the reading end, and the call fails.
//! 3. It runs with the lock.
//! 4. To release the lock, it disarms the pipe, asks the holder to end, and reads until the end of the file.
//!
//! The helper:
//!
//! 1. It opens a pidfd of the script, and then checks that the script is still its parent. If not, it ends.
//! 2. It blocks on the lock.
//! 3. It starts the holder, which inherits the lock and the writing end, and closes its own copies.
//! 4. It arms the pipe: from now on, the kernel sends SIGTERM to the script when the writing end is closed.
//! 5. It looks whether the writing end was closed before. If so, it fails. Otherwise it ends with success.
//!
//! The holder:
//!
//! 1. It waits until the script ends or asks it to end, or until no reading end is open.
//! 2. It releases the lock, then closes the pipe, and ends.
//!
//! # Promises
//!
//! A script that runs holds the lock, unless its holder was killed. If the holder was killed, the script has SIGTERM pending as soon
//! as the kernel has closed the pipe. The holder never outlives the script for long, and not a failed call: when no process can go
//! on, the lock is free. A script that has released the lock gets no SIGTERM.
//!
//! # Limits
//!
//! After a kill -9 of the holder, the kernel may release the lock an instant before it closes the pipe, and so before the SIGTERM.
//!
//! # Decisions
//!
//! - One process for each lock is enough, and no second one that watches the first: `fcntl` with `F_SETOWN` (the script), `F_SETSIG`
//!   (SIGTERM) and `O_ASYNC` on the reading end. The helper does this on the inherited descriptor, because bash cannot. The kernel
//!   keeps the process and not its number, so a reused pid never gets the signal.
//! - The helper waits in the foreground, as for other locks. So Ctrl-C, Ctrl-Z and trap handlers work in the same way. Only the holder
//!   calls setsid(2). The children of the script inherit the reading end, which holds nothing.
//! - The pipe is full while the lock is held. An empty pipe is the request to end: the holder waits in poll(2) until it can write.
//! - The helper blocks with a parent-death signal, so that it ends with the script.
//! - `exec` of another program keeps the pid, and so the lock. A subshell that takes the lock binds it to itself.
//!   A nested call in the same process is recognized by the library, as for other locks; a child must wait for the lock.
//! - The record names the script. A reader that finds a holder takes the process of its pidfd, the script, for the holder, so `status`
//!   shows the script. `unlock --kill` ends the script: the end of the holder alone would send it SIGTERM, but it may ignore that.
//! - A script that ignores SIGTERM continues without the lock. The manual says so, as for `--on-lost`.

use crate::checker::{ALL_END, Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
/// The writing end of the pipe. The process that has it open holds this lock.
const PIPE: usize = 1;

const SCRIPT: Pid = 0;
/// The helper up to the start of the holder, and then the holder. (The process that locks and the one that inherits the lock are one
/// holder for the model.)
const HOLDER: Pid = 1;
/// The helper after the start of the holder.
const HELPER: Pid = 2;
const RIVAL: Pid = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BoundFault {
    None,
    ParentCheckedFirst,
    SuccessBeforeGrant,
    ReaderLeftOpen,
    NoLookAfterArming,
    NotDisarmed,
    PipeClosedBeforeRelease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum BoundStep {
    StartHelper,
    AwaitStatus,
    CloseReader,
    AwaitFree,
    Run,
    Disarm,
    AskToEnd,
    AwaitClose,
    RunUnlocked,
    NotStarted,
    OpenPidfd,
    CheckParent,
    BlockLock,
    StartHolder,
    Arm,
    LookAtPipe,
    Succeed,
    AwaitScript,
    ReleaseLock,
    ClosePipe,
    RivalBlocks,
    RivalRuns,
    End,
}
use BoundStep::{
    Arm, AskToEnd, AwaitClose, AwaitFree, AwaitScript, AwaitStatus, BlockLock, CheckParent, ClosePipe, CloseReader,
    Disarm, End, LookAtPipe, NotStarted, OpenPidfd, ReleaseLock, RivalBlocks, RivalRuns, Run, RunUnlocked, StartHelper,
    StartHolder, Succeed,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct BoundNotes {
    /// The helper has ended with success.
    has_succeeded: bool,
    is_reader_closed: bool,
    is_armed: bool,
    is_asked_to_end: bool,
    /// SIGTERM is pending for the script.
    has_signal: bool,
    /// The pidfd of the holder is that of a stranger with the pid of the script.
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

    /// Returns true if the helper runs, before or after the start of the holder.
    fn is_helper_running(world: &BoundWorld) -> bool {
        let pid = if world.steps[HELPER] == NotStarted { HOLDER } else { HELPER };
        world.is_alive(pid) && world.steps[pid] != End
    }

    fn close_pipe(world: &mut BoundWorld) {
        world.release(HOLDER, PIPE);
        let notes = &mut world.memory;
        notes.has_signal |= notes.is_armed && !notes.is_reader_closed;
    }

    fn take_script_step(&self, world: &mut BoundWorld, step: BoundStep, choice: usize) -> BoundStep {
        if world.memory.has_signal {
            return End;
        }
        match step {
            StartHelper => {
                world.attempt(HOLDER, PIPE, Mode::Exclusive);
                let is_reversed = self.fault == BoundFault::ParentCheckedFirst;
                world.steps[HOLDER] = if is_reversed { CheckParent } else { OpenPidfd };
                AwaitStatus
            }
            AwaitStatus if world.memory.has_succeeded => Run,
            AwaitStatus if self.fault == BoundFault::ReaderLeftOpen => AwaitFree,
            AwaitStatus => CloseReader,
            CloseReader => {
                world.memory.is_reader_closed = true;
                AwaitFree
            }
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
        World::new(
            self.kernel,
            self.crashes,
            vec![StartHelper, NotStarted, NotStarted, RivalBlocks],
            2,
            BoundNotes::default(),
        )
    }

    fn has_ended(&self, world: &BoundWorld, pid: Pid) -> bool {
        matches!(world.steps[pid], NotStarted | End)
    }

    fn is_waiting(&self, world: &BoundWorld, pid: Pid) -> bool {
        let notes = &world.memory;
        let is_pipe_open = world.locks[PIPE].is_held();
        match world.steps[pid] {
            AwaitStatus => !notes.has_succeeded && Self::is_helper_running(world),
            AwaitFree => world.locks[LOCK].is_held_by(HOLDER),
            AwaitClose => !notes.has_signal && is_pipe_open,
            AwaitScript => {
                let has_script_ended = Self::is_script_gone(world) && !notes.is_bound_to_stranger;
                !has_script_ended && !notes.is_asked_to_end && !notes.is_reader_closed
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
            CheckParent if self.fault == BoundFault::SuccessBeforeGrant => StartHolder,
            CheckParent => BlockLock,
            BlockLock if self.fault == BoundFault::SuccessBeforeGrant => world.block(pid, LOCK, BlockLock, AwaitScript),
            BlockLock => world.block(pid, LOCK, BlockLock, StartHolder),
            StartHolder => {
                world.steps[HELPER] = Arm;
                if self.fault == BoundFault::SuccessBeforeGrant { BlockLock } else { AwaitScript }
            }
            Arm => {
                world.memory.is_armed = true;
                // The kernel has no process to signal any more.
                world.memory.is_armed &= !Self::is_script_gone(world);
                if self.fault == BoundFault::NoLookAfterArming { Succeed } else { LookAtPipe }
            }
            LookAtPipe if !world.locks[PIPE].is_held() => End,
            LookAtPipe => Succeed,
            Succeed => {
                world.memory.has_succeeded = true;
                End
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
                !runs(world) || world.locks[LOCK].is_held_by(HOLDER) || !world.is_alive(HOLDER)
            }),
            Self::always("the script and another caller run together only after the holder was killed", |_, world| {
                !runs(world) || world.steps[RIVAL] != RivalRuns || !world.is_alive(HOLDER)
            }),
            Self::always(SIGNALLED, |_, world| !runs(world) || world.locks[PIPE].is_held() || world.memory.has_signal),
            Self::always(QUIET, |_, world| !(world.memory.is_asked_to_end && world.memory.has_signal)),
            Self::always(RELEASED, |_, world| {
                let is_released = world.is_alive(SCRIPT) && world.steps[SCRIPT] == RunUnlocked;
                !is_released || !world.locks[LOCK].is_held_by(HOLDER) || !world.is_alive(HOLDER)
            }),
            Self::sometimes("the script gets SIGTERM", |_, world| world.memory.has_signal),
            Self::sometimes("the script goes on without the lock", |_, world| world.steps[SCRIPT] == RunUnlocked),
        ]
    }
}

const HOLDS: &str = "a script that runs holds the lock, unless its holder was killed";
const SIGNALLED: &str = "a script that runs without the pipe has SIGTERM pending";
const QUIET: &str = "a script that released the lock gets no SIGTERM";
const RELEASED: &str = "the lock is free when the release returns, unless the holder was killed";

const SCENE: Bound = Bound { kernel: Kernel::Linux, crashes: 3, fault: BoundFault::None };

#[test]
fn a_lock_that_is_not_inherited_ends_with_its_script_and_the_script_with_its_holder() {
    for kernel in Kernel::ALL {
        assert_kept(Bound { kernel, ..SCENE });
    }
}

#[test]
fn each_fault_of_a_bound_holder_is_found() {
    let faulty = |fault| Bound { fault, ..SCENE };
    assert_broken(faulty(BoundFault::ParentCheckedFirst), ALL_END);
    assert_broken(faulty(BoundFault::SuccessBeforeGrant), HOLDS);
    assert_broken(faulty(BoundFault::ReaderLeftOpen), ALL_END);
    assert_broken(faulty(BoundFault::NoLookAfterArming), SIGNALLED);
    assert_broken(faulty(BoundFault::NotDisarmed), QUIET);
    assert_broken(faulty(BoundFault::PipeClosedBeforeRelease), RELEASED);
}
