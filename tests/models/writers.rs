//! Writer preference: overlapping shared holders do not keep an exclusive waiter out.
//!
//! The **turnstile** is an exclusive lock that a process holds only while it waits for the lock itself.
//!
//! An exclusive caller (writer):
//!
//! 1. It tries the lock. If it is granted, the caller runs.
//! 2. It blocks on the turnstile.
//! 3. Holding the turnstile, it blocks on the lock.
//! 4. It releases the turnstile, and runs.
//!
//! A shared caller (reader):
//!
//! 1. It looks whether the turnstile is held, without taking it. If it is free, the caller tries the lock. If the lock is
//!    granted, the caller runs.
//! 2. Otherwise, it goes through the steps 2 to 4 of an exclusive caller.
//!
//! # Promise
//!
//! No reader that begins after a writer holds the turnstile runs before that writer. If the kernel hands locks over in order, this
//! also holds for a writer that waits for the turnstile. On Linux, a newcomer may pass in the instant in which the turnstile
//! goes from one waiter to the next. flock(1) knows no turnstile, so its shared callers pass.
//!
//! # For the implementation
//!
//! - An uncontended exclusive call makes no system call more than before, and a shared one makes one more: the look, with
//!   `F_OFD_GETLK`. Only a call that must wait takes the turnstile.
//! - The turnstile is one byte at a high offset of the lock file, locked with fcntl(2). So it needs no file of its own that
//!   `clean` would have to remove, and it is replaced together with the lock file: the comparison after the grant covers both.
//!   On local file systems, fcntl(2) and flock(2) do not see each other. On NFS they do, so a lock there has no turnstile.
//! - The waiter takes it with `F_SETLKW`, not `F_OFD_SETLKW`: `/proc/locks` has the pid of such a waiter, so `status` and the
//!   search for deadlocks see it, and -1 for the other kind. Such a lock ends when its process closes any descriptor of the file,
//!   unless a thread does that after `unshare(CLONE_FILES)`. If it happens, the order is lost, but not the exclusion.
//! - A write lock needs a descriptor that is open for writing. A shared caller that can only read the file does not take the
//!   turnstile. It looks at it before it blocks on the lock.
//! - A search for deadlocks takes a waiter at the turnstile for a waiter of the lock.
//! - With `--timeout`, the limit covers both waits. With `-n`, a reader that finds the turnstile held is refused, as by a holder.

use crate::checker::{Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
const TURNSTILE: usize = 1;

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
    ReadersTakeTheTurnstileShared,
    TurnstileReleasedBeforeGrant,
    ReadersSkipTheTurnstile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WriterStep {
    Look,
    Try,
    BlockTurnstile,
    ReleaseEarly,
    BlockLock,
    ReleaseTurnstile,
    Run,
    End,
}
use WriterStep::{BlockLock, BlockTurnstile, End, Look, ReleaseEarly, ReleaseTurnstile, Run, Try};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WriterNotes {
    /// One bit for each writer that waits and must not be passed.
    waiting: u8,
    /// For each process, the writers that waited when it began, and wait. All bits are set before it begins.
    ahead: Vec<u8>,
    /// True if a reader ran before a writer that was ahead of it.
    was_passed: bool,
}

impl WriterNotes {
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

    /// Notes a grant of the lock, and returns the step that follows it.
    fn note_grant(&self, world: &mut WriterWorld, pid: Pid, next: WriterStep) -> WriterStep {
        world.memory.end_wait(pid);
        world.memory.was_passed |= self.roles[pid] == Reader && world.memory.ahead[pid] != 0;
        world.memory.ahead[pid] = 0;
        next
    }

    fn after_turnstile(&self, world: &mut WriterWorld, pid: Pid) -> WriterStep {
        if self.roles[pid] == Writer {
            world.memory.waiting |= 1 << pid;
        }
        if self.fault == WriterFault::TurnstileReleasedBeforeGrant { ReleaseEarly } else { BlockLock }
    }
}

impl Protocol for Writers {
    type Step = WriterStep;
    type Memory = WriterNotes;

    const END: WriterStep = End;

    fn start(&self) -> WriterWorld {
        let first = |role: &WriterRole| match role {
            Reader => match self.fault {
                WriterFault::ReadersDoNotLook => Try,
                WriterFault::ReadersSkipTheTurnstile => BlockLock,
                WriterFault::ReadersTakeTheTurnstileShared => BlockTurnstile,
                _ => Look,
            },
            Writer => Try,
            PlainReader | PlainWriter => BlockLock,
        };
        let notes = WriterNotes { waiting: 0, ahead: vec![u8::MAX; self.roles.len()], was_passed: false };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), 2, notes)
    }

    fn take_step(&self, world: &mut WriterWorld, pid: Pid, step: WriterStep) -> WriterStep {
        let mode = self.mode(pid);
        if self.roles[pid] == Reader && world.memory.ahead[pid] == u8::MAX {
            world.memory.ahead[pid] = world.memory.waiting;
        }
        match step {
            Look if world.locks[TURNSTILE].is_free_for(Mode::Exclusive) => Try,
            Look => BlockTurnstile,
            Try if world.attempt(pid, LOCK, mode) => self.note_grant(world, pid, Run),
            Try => BlockTurnstile,
            BlockTurnstile => {
                let is_shared = self.fault == WriterFault::ReadersTakeTheTurnstileShared;
                let mode = if is_shared { mode } else { Mode::Exclusive };
                if world.request(pid, TURNSTILE, mode) {
                    self.after_turnstile(world, pid)
                } else {
                    if self.kernel == Kernel::Fifo && self.roles[pid] == Writer {
                        world.memory.waiting |= 1 << pid;
                    }
                    BlockTurnstile
                }
            }
            ReleaseEarly => {
                world.release(pid, TURNSTILE);
                BlockLock
            }
            BlockLock if world.request(pid, LOCK, mode) => self.note_grant(world, pid, ReleaseTurnstile),
            BlockLock => BlockLock,
            ReleaseTurnstile => {
                world.release(pid, TURNSTILE);
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
            Self::always(NOT_PASSED, |_, world| !world.memory.was_passed),
            Self::sometimes("a reader waits at the turnstile", |model, world| {
                world.count(|pid, step| *step == BlockTurnstile && model.roles[pid] == Reader) > 0
            }),
        ]
    }
}

const NOT_PASSED: &str = "no reader passes a writer that waited before it";

const MIXED: Writers =
    Writers { kernel: Kernel::Linux, roles: &[Reader, Reader, Writer], crashes: 4, fault: WriterFault::None };

#[test]
fn readers_do_not_pass_a_writer_that_waits() {
    for kernel in Kernel::ALL {
        assert_kept(Writers { kernel, roles: &[Reader, Reader, Reader, Writer], ..MIXED });
        assert_kept(Writers { kernel, roles: &[Reader, Reader, Writer, Writer], ..MIXED });
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
    let faulty = |fault| Writers { fault, crashes: 0, ..MIXED };
    assert_broken(faulty(WriterFault::ReadersDoNotLook), NOT_PASSED);
    assert_broken(faulty(WriterFault::ReadersSkipTheTurnstile), NOT_PASSED);
    assert_broken(faulty(WriterFault::TurnstileReleasedBeforeGrant), NOT_PASSED);
    let shared = Writers { kernel: Kernel::Fifo, ..faulty(WriterFault::ReadersTakeTheTurnstileShared) };
    assert_broken(shared, NOT_PASSED);
}
