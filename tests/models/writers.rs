//! Writer preference: overlapping shared holders do not keep an exclusive waiter out.
//!
//! In addition to the lock itself, there are two more. An exclusive caller holds the **mark** shared while it waits. A shared caller that
//! finds a mark holds the **turnstile** exclusively while it waits.
//!
//! An exclusive caller (writer):
//!
//! 1. It tries the lock. If it is granted, the caller runs.
//! 2. It looks whether the turnstile is held, without taking it. If it is free, it goes to 4.
//! 3. It blocks on the turnstile.
//! 4. It takes the mark, shared, and releases the turnstile, if it holds that.
//! 5. It blocks on the lock.
//! 6. It releases the mark, and runs.
//!
//! A shared caller (reader):
//!
//! 1. It looks whether the mark or the turnstile is held. If so, it goes to 3.
//! 2. It tries the lock. If it is granted, the caller runs. Otherwise, it looks again. If mark and turnstile are free, it blocks on
//!    the lock, and runs.
//! 3. It blocks on the turnstile.
//! 4. Holding the turnstile, it waits for the mark exclusively, and releases the mark.
//! 5. It blocks on the lock.
//! 6. It releases the turnstile, and runs.
//!
//! # Promises
//!
//! No reader that begins after a writer holds the mark runs before that writer. No writer that begins to wait while a reader
//! holds the turnstile runs before that reader. flock(1) knows neither of the two, so its shared callers pass.
//!
//! # For the implementation
//!
//! - An uncontended exclusive call makes no system call more than before, and a shared one makes one more: the look, with
//!   `F_OFD_GETLK`. An exclusive call that waits makes three more, and is woken once, as before: it waits in the queue of the
//!   lock itself, in one order with flock(1). In an earlier design, it held the turnstile exclusively instead of a mark. Then
//!   each handover woke two processes.
//! - Mark and turnstile are bytes at a high offset of the lock file, locked with fcntl(2). So they need no file of their own that
//!   `clean` would have to remove, and they are replaced together with the lock file: the comparison after the grant covers
//!   them. On local file systems, fcntl(2) and flock(2) do not see each other. On NFS they do, so a lock there has neither.
//! - The waiter takes them with `F_SETLKW`, not `F_OFD_SETLKW`: `/proc/locks` has the pid of such a waiter, so `status` and the
//!   search for deadlocks see it, and -1 for the other kind. They end with the process, and not with the descriptor of a script.
//!   Such a lock also ends when its process closes any descriptor of the file, unless a thread does that after
//!   `unshare(CLONE_FILES)`. If it happens, the order is lost, but not the exclusion. The seccomp profiles of containers deny
//!   unshare(2). Then the process keeps the descriptor with which it reads the record, and closes it after the wait.
//! - To wait for the turnstile or the mark, a reader needs a descriptor that is open for writing. One that can only read the file
//!   goes from step 1 to 2 in any case.
//! - A search for deadlocks takes a waiter at the turnstile or the mark for a waiter of the lock.
//! - With `--timeout`, the limit covers all waits. With `-n`, a reader that finds the mark or the turnstile held is refused, as by a
//!   holder.

use crate::checker::{Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
const TURNSTILE: usize = 1;
const MARK: usize = 2;
const LOCKS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriterRole {
    Reader,
    Writer,
    /// flock(1) with a shared lock.
    PlainReader,
    /// flock(1) with an exclusive lock.
    PlainWriter,
}
use WriterRole::{PlainReader, PlainWriter, Reader, Writer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriterFault {
    None,
    ReadersDoNotLook,
    ReadersDoNotAwaitTheMark,
    MarkReleasedBeforeGrant,
    TurnstileReleasedBeforeGrant,
    WritersDoNotLook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WriterStep {
    Look,
    Try,
    LookAgain,
    BlockTurnstile,
    TakeMark,
    AwaitMark,
    ReleaseMark,
    ReleaseEarly,
    BlockLock,
    Release,
    Run,
    End,
}
use WriterStep::{
    AwaitMark, BlockLock, BlockTurnstile, End, Look, LookAgain, Release, ReleaseEarly, ReleaseMark, Run, TakeMark, Try,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WriterNotes {
    /// One bit for each process that must not be passed: a writer with the mark, or a reader with the turnstile.
    waiting: u8,
    /// For each process, the processes of the other role that waited when it began, and wait. All bits are set before it begins.
    ahead: Vec<u8>,
    /// True if a reader ran before a writer that was ahead of it.
    was_writer_passed: bool,
    /// True if a writer ran before a reader that was ahead of it.
    was_reader_passed: bool,
}

impl WriterNotes {
    fn begin(&mut self, pid: Pid, others: u8) {
        if self.ahead[pid] == u8::MAX {
            self.ahead[pid] = self.waiting & others;
        }
    }

    fn end_wait(&mut self, pid: Pid) {
        self.waiting &= !(1 << pid);
        self.ahead.iter_mut().filter(|ahead| **ahead != u8::MAX).for_each(|ahead| *ahead &= !(1 << pid));
    }
}

#[derive(Debug, Clone)]
struct Writers {
    kernel: Kernel,
    roles: &'static [WriterRole],
    crashes: u8,
    fault: WriterFault,
}

type WriterWorld = WorldOf<Writers>;

impl Writers {
    fn mode(&self, pid: Pid) -> Mode {
        if matches!(self.roles[pid], Writer | PlainWriter) { Mode::Exclusive } else { Mode::Shared }
    }

    /// Returns one bit for each process with this role.
    fn pids_with(&self, role: WriterRole) -> u8 {
        (0..self.roles.len()).filter(|&pid| self.roles[pid] == role).fold(0, |bits, pid| bits | 1 << pid)
    }

    /// Notes a grant of the lock.
    fn note_grant(&self, world: &mut WriterWorld, pid: Pid) {
        world.memory.end_wait(pid);
        let has_passed = world.memory.ahead[pid] != 0 && world.memory.ahead[pid] != u8::MAX;
        world.memory.was_writer_passed |= self.roles[pid] == Reader && has_passed;
        world.memory.was_reader_passed |= self.roles[pid] == Writer && has_passed;
        world.memory.ahead[pid] = 0;
    }
}

impl Protocol for Writers {
    type Step = WriterStep;
    type Memory = WriterNotes;

    const END: WriterStep = End;

    fn start(&self) -> WriterWorld {
        let first = |role: &WriterRole| match role {
            Reader if self.fault == WriterFault::ReadersDoNotLook => Try,
            Reader => Look,
            Writer => Try,
            PlainReader | PlainWriter => BlockLock,
        };
        let ahead = vec![u8::MAX; self.roles.len()];
        let notes = WriterNotes { waiting: 0, ahead, was_writer_passed: false, was_reader_passed: false };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), LOCKS, notes)
    }

    fn take_step(&self, world: &mut WriterWorld, pid: Pid, step: WriterStep) -> WriterStep {
        let (mode, is_reader) = (self.mode(pid), self.roles[pid] == Reader);
        if is_reader {
            world.memory.begin(pid, self.pids_with(Writer));
        }
        let is_held = |world: &WriterWorld, lock: usize| world.locks[lock].is_held();
        match step {
            Look if is_reader => {
                if is_held(world, MARK) || is_held(world, TURNSTILE) {
                    BlockTurnstile
                } else {
                    Try
                }
            }
            LookAgain => {
                let ignores = self.fault == WriterFault::ReadersDoNotLook;
                if (is_held(world, MARK) || is_held(world, TURNSTILE)) && !ignores { BlockTurnstile } else { BlockLock }
            }
            Look => {
                world.memory.begin(pid, self.pids_with(Reader));
                let ignores = self.fault == WriterFault::WritersDoNotLook;
                if is_held(world, TURNSTILE) && !ignores { BlockTurnstile } else { TakeMark }
            }
            Try if world.attempt(pid, LOCK, mode) => {
                self.note_grant(world, pid);
                Run
            }
            Try => {
                if is_reader {
                    LookAgain
                } else {
                    Look
                }
            }
            BlockTurnstile if !world.request(pid, TURNSTILE, Mode::Exclusive) => BlockTurnstile,
            BlockTurnstile if is_reader => {
                world.memory.waiting |= 1 << pid;
                match self.fault {
                    WriterFault::TurnstileReleasedBeforeGrant => ReleaseEarly,
                    WriterFault::ReadersDoNotAwaitTheMark => BlockLock,
                    _ => AwaitMark,
                }
            }
            BlockTurnstile => TakeMark,
            TakeMark if !world.request(pid, MARK, Mode::Shared) => TakeMark,
            TakeMark => {
                world.memory.waiting |= 1 << pid;
                ReleaseEarly
            }
            ReleaseEarly => {
                world.release(pid, TURNSTILE);
                if self.fault == WriterFault::MarkReleasedBeforeGrant {
                    world.release(pid, MARK);
                }
                if is_reader { AwaitMark } else { BlockLock }
            }
            AwaitMark => world.block(pid, MARK, AwaitMark, ReleaseMark),
            ReleaseMark => {
                world.release(pid, MARK);
                BlockLock
            }
            BlockLock if !world.request(pid, LOCK, mode) => BlockLock,
            BlockLock => {
                self.note_grant(world, pid);
                Release
            }
            Release => {
                world.release(pid, TURNSTILE);
                world.release(pid, MARK);
                Run
            }
            Run | End => {
                world.release(pid, LOCK);
                End
            }
        }
    }

    fn note_crash(&self, world: &mut WriterWorld, pid: Pid) {
        world.memory.end_wait(pid);
        world.memory.ahead[pid] = 0;
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always("a writer runs alone", |model, world| {
                let writers = world.count(|pid, step| *step == Run && model.mode(pid) == Mode::Exclusive);
                writers == 0 || world.count(|_, step| *step == Run) == 1
            }),
            Self::always(NO_WRITER_PASSED, |_, world| !world.memory.was_writer_passed),
            Self::always(NO_READER_PASSED, |_, world| !world.memory.was_reader_passed),
            Self::sometimes("a reader waits for the mark", |_, world| {
                world.count(|_, step| *step == AwaitMark) > 0 && world.locks[MARK].is_shared()
            }),
            Self::sometimes("a writer waits at the turnstile", |model, world| {
                world.count(|pid, step| *step == BlockTurnstile && model.roles[pid] == Writer) > 0
                    || model.roles.iter().filter(|role| **role == Writer).count() < 2
            }),
        ]
    }
}

const NO_WRITER_PASSED: &str = "no reader passes a writer that waited before it";
const NO_READER_PASSED: &str = "no writer passes a reader that waited at the turnstile before it";

const MIXED: Writers =
    Writers { kernel: Kernel::Linux, roles: &[Reader, Writer, Writer], crashes: 3, fault: WriterFault::None };

#[test]
fn readers_and_writers_that_wait_do_not_pass_each_other() {
    for kernel in Kernel::ALL {
        assert_kept(Writers { kernel, roles: &[Reader, Reader, Reader, Writer], ..MIXED });
        assert_kept(Writers { kernel, roles: &[Reader, Reader, Writer, Writer], ..MIXED });
        assert_kept(Writers { kernel, roles: &[Reader, Writer, Writer, Writer], ..MIXED });
    }
}

#[test]
fn plain_flock_callers_next_to_the_turnstile_leave_the_exclusion_intact() {
    for kernel in Kernel::ALL {
        assert_kept(Writers { kernel, roles: &[Reader, Writer, PlainReader, PlainWriter], ..MIXED });
    }
}

#[test]
fn each_fault_of_the_turnstile_is_found() {
    let faulty = |fault| Writers { fault, roles: &[Reader, Reader, Writer, Writer], crashes: 0, ..MIXED };
    assert_broken(faulty(WriterFault::ReadersDoNotLook), NO_WRITER_PASSED);
    assert_broken(faulty(WriterFault::ReadersDoNotAwaitTheMark), NO_WRITER_PASSED);
    assert_broken(faulty(WriterFault::MarkReleasedBeforeGrant), NO_WRITER_PASSED);
    assert_broken(faulty(WriterFault::TurnstileReleasedBeforeGrant), NO_READER_PASSED);
    assert_broken(faulty(WriterFault::WritersDoNotLook), NO_READER_PASSED);
}
