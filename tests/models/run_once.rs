//! The handover of a task from its starter to its supervisor (`run-once`, `src/task.rs`).
//!
//! Files: the lock of the task; `pid`, which names the run, and is locked by its supervisor; `exit`, the outcome; and a note of the
//! end in the lock file.
//!
//! A caller that needs the outcome:
//!
//! 1. It reads `exit`. If there is an outcome, it ends.
//! 2. It blocks on the lock.
//! 3. Holding the lock, it reads `exit` again. If there is an outcome, it releases the lock and ends.
//! 4. If `pid` exists, a supervisor was killed. If the note says that its command had ended, the caller writes `exit`, removes
//!    `pid`, releases the lock, and ends. Otherwise, it kills the processes that the run left, and removes `pid`.
//! 5. It forks a supervisor, which inherits the lock, and closes its own copy of the lock.
//! 6. It waits for the outcome. If the supervisor is killed, the call fails.
//!
//! The supervisor:
//!
//! 1. It forks the command, which waits. If the supervisor is killed before step 3, the command ends without having run.
//! 2. It writes `pid`, and locks it.
//! 3. It lets the command run.
//! 4. The command ends. The supervisor notes that in the lock file.
//! 5. It writes `exit`.
//! 6. It removes `pid`, and ends. That releases the lock.
//!
//! # Promises
//!
//! The commands of two runs never run at once, although a killed supervisor leaves the processes of its command. No run starts
//! after the end of a command was noted. A call fails only if its supervisor was killed. No caller waits forever.
//!
//! # Limits of the model
//!
//! Commands succeed. The parent-death signal, which kills most commands together with their supervisor, is left out, because
//! the processes that a command has started do not get it. A supervisor that is killed between the end of the command and the
//! note leaves a success that no process knows of: the task runs again.

use crate::checker::{Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Pid};
use crate::world::World;
use stateright::Property;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunOnceFault {
    None,
    LockNotInherited,
    LeftoversIgnored,
    RunBeforePid,
    PidRemovedBeforeExit,
    NoteIgnored,
    OutcomeNotReadAgain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RunOnceStep {
    ReadOutcome,
    BlockLock,
    ReadAgain,
    CheckPid,
    WriteNoted,
    RemoveNoted,
    KillLeftovers,
    RemovePid,
    ForkSupervisor,
    CloseCopy,
    AwaitOutcome,
    Close,
    Failed,
    NotForked,
    ForkCommand,
    WritePid,
    LetRun,
    AwaitCommand,
    NoteEnd,
    WriteExit,
    RemoveOwnPid,
    End,
}
use RunOnceStep::{
    AwaitCommand, AwaitOutcome, BlockLock, CheckPid, Close, CloseCopy, End, Failed, ForkCommand, ForkSupervisor,
    KillLeftovers, LetRun, NotForked, NoteEnd, ReadAgain, ReadOutcome, RemoveNoted, RemoveOwnPid, RemovePid, WriteExit,
    WriteNoted, WritePid,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct TaskFiles {
    /// The processes that have the open file through which the lock is held.
    holders: u8,
    /// The supervisor that `pid` is from.
    pid: Option<u8>,
    has_outcome: bool,
    /// The supervisor whose command has ended.
    noted: Option<u8>,
    /// The runs whose command, or a process that it has started, runs.
    running: u8,
    has_success: bool,
    was_run_again: bool,
    was_supervisor_killed: bool,
}

#[derive(Debug, Clone)]
struct RunOnce {
    callers: usize,
    crashes: u8,
    fault: RunOnceFault,
}

type RunOnceWorld = WorldOf<RunOnce>;

impl RunOnce {
    /// Each caller can start one run, so each has one supervisor.
    fn supervisor(&self, caller: Pid) -> Pid {
        self.callers + caller
    }

    fn is_gone(world: &RunOnceWorld, pid: Pid) -> bool {
        !world.is_alive(pid) || world.steps[pid] == End
    }

    fn take_supervisor_step(&self, world: &mut RunOnceWorld, pid: Pid, step: RunOnceStep) -> RunOnceStep {
        let files = &mut world.memory;
        let is_hasty = self.fault == RunOnceFault::RunBeforePid;
        let removes_early = self.fault == RunOnceFault::PidRemovedBeforeExit;
        match step {
            ForkCommand if is_hasty => LetRun,
            ForkCommand => WritePid,
            WritePid => {
                files.pid = u8::try_from(pid).ok();
                if is_hasty { AwaitCommand } else { LetRun }
            }
            LetRun => {
                files.was_run_again |= files.has_success;
                files.running |= 1 << pid;
                if is_hasty { WritePid } else { AwaitCommand }
            }
            AwaitCommand => {
                files.running &= !(1 << pid);
                NoteEnd
            }
            NoteEnd => {
                files.noted = u8::try_from(pid).ok();
                files.has_success = true;
                if removes_early { RemoveOwnPid } else { WriteExit }
            }
            WriteExit => {
                files.has_outcome = true;
                if removes_early { Close } else { RemoveOwnPid }
            }
            RemoveOwnPid => {
                files.pid = None;
                if removes_early { WriteExit } else { Close }
            }
            _ => {
                files.holders &= !(1 << pid);
                End
            }
        }
    }
}

impl Protocol for RunOnce {
    type Step = RunOnceStep;
    type Memory = TaskFiles;

    const END: RunOnceStep = End;

    fn start(&self) -> RunOnceWorld {
        let mut steps = vec![ReadOutcome; self.callers];
        steps.extend(vec![NotForked; self.callers]);
        World::new(Kernel::Any, self.crashes, steps, 0, TaskFiles::default())
    }

    fn has_ended(&self, world: &RunOnceWorld, pid: Pid) -> bool {
        matches!(world.steps[pid], NotForked | Failed | End)
    }

    fn is_waiting(&self, world: &RunOnceWorld, pid: Pid) -> bool {
        match world.steps[pid] {
            BlockLock => world.memory.holders != 0,
            AwaitOutcome => !world.memory.has_outcome && !Self::is_gone(world, self.supervisor(pid)),
            _ => false,
        }
    }

    fn take_step(&self, world: &mut RunOnceWorld, pid: Pid, step: RunOnceStep) -> RunOnceStep {
        if pid >= self.callers {
            return self.take_supervisor_step(world, pid, step);
        }
        let supervisor = self.supervisor(pid);
        let files = &mut world.memory;
        match step {
            ReadOutcome if files.has_outcome => End,
            ReadOutcome => BlockLock,
            BlockLock => {
                files.holders = 1 << pid;
                if self.fault == RunOnceFault::OutcomeNotReadAgain { CheckPid } else { ReadAgain }
            }
            ReadAgain if files.has_outcome => Close,
            ReadAgain => CheckPid,
            CheckPid => match files.pid {
                None => ForkSupervisor,
                Some(_) if files.noted == files.pid && self.fault != RunOnceFault::NoteIgnored => WriteNoted,
                Some(_) if self.fault == RunOnceFault::LeftoversIgnored => RemovePid,
                Some(_) => KillLeftovers,
            },
            WriteNoted => {
                files.has_outcome = true;
                RemoveNoted
            }
            RemoveNoted => {
                files.pid = None;
                Close
            }
            KillLeftovers => {
                files.running &= files.pid.map_or(u8::MAX, |run| !(1 << run));
                RemovePid
            }
            RemovePid => {
                files.pid = None;
                ForkSupervisor
            }
            ForkSupervisor => {
                world.steps[supervisor] = ForkCommand;
                if self.fault != RunOnceFault::LockNotInherited {
                    files.holders |= 1 << supervisor;
                }
                CloseCopy
            }
            CloseCopy => {
                files.holders &= !(1 << pid);
                AwaitOutcome
            }
            AwaitOutcome if files.has_outcome => End,
            AwaitOutcome => Failed,
            _ => {
                files.holders &= !(1 << pid);
                End
            }
        }
    }

    fn note_crash(&self, world: &mut RunOnceWorld, pid: Pid) {
        world.memory.holders &= !(1 << pid);
        world.memory.was_supervisor_killed |= pid >= self.callers;
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always(ONE_RUN, |_, world| world.memory.running.count_ones() <= 1),
            Self::always(NOT_AGAIN, |_, world| !world.memory.was_run_again),
            Self::always("a call fails only if its supervisor was killed", |_, world| {
                world.memory.was_supervisor_killed || world.count(|_, step| *step == Failed) == 0
            }),
            Self::sometimes("a caller writes the outcome of a killed supervisor", |_, world| {
                world.count(|_, step| *step == WriteNoted) > 0
            }),
            Self::sometimes("a caller kills the processes of a killed supervisor", |_, world| {
                world.memory.running != 0 && world.count(|_, step| *step == KillLeftovers) > 0
            }),
        ]
    }
}

const ONE_RUN: &str = "the commands of two runs never run at once";
const NOT_AGAIN: &str = "no run starts after the end of a command was noted";

const CALLERS: RunOnce = RunOnce { callers: 3, crashes: 6, fault: RunOnceFault::None };

#[test]
fn a_task_runs_once_although_starters_and_supervisors_are_killed() {
    assert_kept(CALLERS);
}

#[test]
fn each_fault_of_the_handover_is_found() {
    let faulty = |fault| RunOnce { fault, ..CALLERS };
    assert_broken(faulty(RunOnceFault::LockNotInherited), ONE_RUN);
    assert_broken(faulty(RunOnceFault::LeftoversIgnored), ONE_RUN);
    assert_broken(faulty(RunOnceFault::RunBeforePid), ONE_RUN);
    assert_broken(faulty(RunOnceFault::PidRemovedBeforeExit), NOT_AGAIN);
    assert_broken(faulty(RunOnceFault::NoteIgnored), NOT_AGAIN);
    assert_broken(RunOnce { crashes: 0, ..faulty(RunOnceFault::OutcomeNotReadAgain) }, NOT_AGAIN);
}
