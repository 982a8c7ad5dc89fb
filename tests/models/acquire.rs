//! Acquiring one lock or several, while other processes clean up or replace lock files (`src/lock/acquire.rs`, `clean.rs`).
//!
//! A caller takes its locks in the order of their names. For each name:
//!
//! 1. It opens the file, and creates it if there is none.
//! 2. It blocks on the lock of the open file.
//! 3. It compares the open file with the path. If they differ, it closes the file and goes to 1.
//! 4. After the last of several grants, it compares the files of all names again. If one differs, it releases all locks and
//!    starts over.
//! 5. It holds the locks. At the end, it closes the files.
//!
//! `clean` removes the file of a name:
//!
//! 1. It opens the file, and ends if there is none.
//! 2. It tries the lock, and ends if the lock is held.
//! 3. It compares the open file with the path, and ends if they differ.
//! 4. It removes the file, and closes it.
//!
//! A stranger, such as `rm`, removes a file without any lock.
//!
//! # Promise
//!
//! There are never two holders of a name, unless a stranger removed its file after a living process had compared it for the last
//! time. A `clean` between its steps 3 and 4 counts as such a process.
//!
//! # Limits of the model
//!
//! `clean` also takes a lease, so that it never disturbs an attempt without waiting. The kernel breaks that lease after 45
//! seconds, and the promise must hold without it. So the model has no lease.

use crate::checker::{Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Lock, Mode, Pid};
use crate::world::World;
use stateright::Property;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcquireRole {
    /// Locks the first name.
    One,
    /// Locks both names.
    Both,
    /// Cleans up the file of this name.
    Clean(usize),
    /// Removes the file of this name without its lock.
    Stranger(usize),
}
use AcquireRole::{Both, Clean, One, Stranger};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcquireFault {
    None,
    NoCompare,
    NoSecondCompare,
    CleanWithoutLock,
    CleanWithoutCompare,
}

/// The next step of a process, with the name that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum AcquireStep {
    Open(usize),
    Block(usize),
    Compare(usize),
    CompareAgain(usize),
    Hold,
    Close(usize),
    CleanOpen,
    CleanTry,
    CleanCompare,
    CleanRemove,
    CleanClose,
    StrangerRemove,
    End,
}
use AcquireStep::{
    Block, CleanClose, CleanCompare, CleanOpen, CleanRemove, CleanTry, Close, Compare, CompareAgain, End, Hold, Open,
    StrangerRemove,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LockFiles {
    /// The file to which each name leads. The lock with this number is that of the file.
    names: [Option<u8>; 2],
    /// The file that each process has open for each name.
    open: Vec<[Option<u8>; 2]>,
    /// True if a stranger removed a file that a living process had compared for the last time.
    has_interfered: bool,
}

#[derive(Debug, Clone)]
struct Acquire {
    kernel: Kernel,
    roles: &'static [AcquireRole],
    crashes: u8,
    fault: AcquireFault,
}

type AcquireWorld = WorldOf<Acquire>;

impl Acquire {
    /// The number of names that the process locks.
    fn count_names(&self, pid: Pid) -> usize {
        if self.roles[pid] == Both { 2 } else { 1 }
    }

    fn count_holders(&self, world: &AcquireWorld, name: usize) -> usize {
        world.count(|pid, step| *step == Hold && self.count_names(pid) > name)
    }

    /// Returns true if the process goes on to use its open file of this name without another comparison.
    fn relies_on(world: &AcquireWorld, pid: Pid, name: usize) -> bool {
        let has_compared = match world.steps[pid] {
            Hold | CleanRemove => true,
            CompareAgain(next) => next > name,
            _ => false,
        };
        let open = world.memory.open[pid][name];
        world.is_alive(pid) && has_compared && open.is_some() && open == world.memory.names[name]
    }

    fn close(world: &mut AcquireWorld, pid: Pid, name: usize) {
        if let Some(file) = world.memory.open[pid][name].take() {
            world.release(pid, usize::from(file));
        }
        forget_files(world);
    }

    fn open_file(world: &AcquireWorld, pid: Pid, name: usize) -> usize {
        usize::from(world.memory.open[pid][name].expect("an open file"))
    }

    fn is_current(world: &AcquireWorld, pid: Pid, name: usize) -> bool {
        world.memory.open[pid][name] == world.memory.names[name]
    }

    /// Returns the step after the comparison of the file of a name.
    fn after_compare(&self, pid: Pid, name: usize) -> AcquireStep {
        if name + 1 < self.count_names(pid) {
            Open(name + 1)
        } else if name > 0 && self.fault != AcquireFault::NoSecondCompare {
            CompareAgain(0)
        } else {
            Hold
        }
    }

    fn take_clean_step(&self, world: &mut AcquireWorld, pid: Pid, step: AcquireStep, name: usize) -> AcquireStep {
        match step {
            CleanOpen if world.memory.names[name].is_none() => End,
            CleanOpen => {
                world.memory.open[pid][name] = world.memory.names[name];
                if self.fault == AcquireFault::CleanWithoutLock { CleanCompare } else { CleanTry }
            }
            CleanTry if !world.attempt(pid, Self::open_file(world, pid, name), Mode::Exclusive) => CleanClose,
            CleanTry if self.fault == AcquireFault::CleanWithoutCompare => CleanRemove,
            CleanTry => CleanCompare,
            CleanCompare if Self::is_current(world, pid, name) => CleanRemove,
            CleanCompare => CleanClose,
            CleanRemove => {
                world.memory.names[name] = None;
                CleanClose
            }
            StrangerRemove => {
                if world.pids().any(|other| Self::relies_on(world, other, name)) {
                    world.memory.has_interfered = true;
                }
                world.memory.names[name] = None;
                forget_files(world);
                End
            }
            _ => {
                Self::close(world, pid, name);
                End
            }
        }
    }
}

/// Drops the files with the highest numbers that neither a name nor a process refers to.
fn forget_files(world: &mut AcquireWorld) {
    while let Some(last) = world.locks.last() {
        let file = u8::try_from(world.locks.len() - 1).ok();
        let is_open = world.memory.open.iter().any(|files| files.contains(&file));
        if *last != Lock::default() || is_open || world.memory.names.contains(&file) {
            break;
        }
        world.locks.pop();
    }
}

impl Protocol for Acquire {
    type Step = AcquireStep;
    type Memory = LockFiles;

    const END: AcquireStep = End;

    fn start(&self) -> AcquireWorld {
        let first = |role: &AcquireRole| match role {
            One | Both => Open(0),
            Clean(_) => CleanOpen,
            Stranger(_) => StrangerRemove,
        };
        let open = vec![[None; 2]; self.roles.len()];
        let memory = LockFiles { names: [None; 2], open, has_interfered: false };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), 0, memory)
    }

    fn take_step(&self, world: &mut AcquireWorld, pid: Pid, step: AcquireStep) -> AcquireStep {
        let names = self.count_names(pid);
        match step {
            Open(name) => {
                if world.memory.names[name].is_none() {
                    world.memory.names[name] = u8::try_from(world.locks.len()).ok();
                    world.locks.push(Lock::default());
                }
                world.memory.open[pid][name] = world.memory.names[name];
                Block(name)
            }
            Block(name) => {
                let is_blind = self.fault == AcquireFault::NoCompare;
                let granted = if is_blind { self.after_compare(pid, name) } else { Compare(name) };
                world.block(pid, Self::open_file(world, pid, name), Block(name), granted)
            }
            Compare(name) if Self::is_current(world, pid, name) => self.after_compare(pid, name),
            Compare(name) => {
                Self::close(world, pid, name);
                Open(name)
            }
            CompareAgain(name) if !Self::is_current(world, pid, name) => {
                (0..names).rev().for_each(|name| Self::close(world, pid, name));
                Open(0)
            }
            CompareAgain(name) if name + 1 < names => CompareAgain(name + 1),
            CompareAgain(_) => Hold,
            Hold => Close(names - 1),
            Close(name) => {
                Self::close(world, pid, name);
                if name > 0 { Close(name - 1) } else { End }
            }
            _ => match self.roles[pid] {
                Clean(name) | Stranger(name) => self.take_clean_step(world, pid, step, name),
                One | Both => End,
            },
        }
    }

    fn note_crash(&self, world: &mut AcquireWorld, pid: Pid) {
        for name in 0..2 {
            let file = world.memory.open[pid][name];
            if file.is_some_and(|file| !world.locks[usize::from(file)].is_held_by(pid)) {
                world.memory.open[pid][name] = None;
            }
        }
        forget_files(world);
    }

    fn reap(&self, world: &mut AcquireWorld, pid: Pid, lock: usize) {
        world.release(pid, lock);
        for open in &mut world.memory.open[pid] {
            if open.is_some_and(|file| usize::from(file) == lock) {
                *open = None;
            }
        }
        forget_files(world);
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always(ONE_HOLDER, |model, world| {
                world.memory.has_interfered || (0..2).all(|name| model.count_holders(world, name) <= 1)
            }),
            Self::sometimes("a file is replaced", |_, world| world.memory.names.iter().flatten().any(|file| *file > 0)),
        ]
    }
}

const ONE_HOLDER: &str = "a name has at most one holder, unless a stranger removed its file";

const CALLERS: Acquire =
    Acquire { kernel: Kernel::Linux, roles: &[One, One, Clean(0)], crashes: 3, fault: AcquireFault::None };

#[test]
fn callers_and_cleaners_leave_at_most_one_holder_of_a_name() {
    for kernel in Kernel::ALL {
        assert_kept(Acquire { kernel, ..CALLERS });
        assert_kept(Acquire { kernel, roles: &[One, One, One, Clean(0)], crashes: 2, ..CALLERS });
        assert_kept(Acquire { kernel, roles: &[One, One, Clean(0), Clean(0)], crashes: 2, ..CALLERS });
    }
}

#[test]
fn callers_of_several_locks_hold_all_of_them_or_none() {
    for kernel in Kernel::ALL {
        assert_kept(Acquire { kernel, roles: &[Both, One, Clean(0)], ..CALLERS });
        assert_kept(Acquire { kernel, roles: &[Both, Both, Clean(1)], ..CALLERS });
    }
}

#[test]
fn a_stranger_makes_two_holders_only_after_the_last_comparison() {
    assert_kept(Acquire { roles: &[One, One, Stranger(0)], ..CALLERS });
    assert_kept(Acquire { roles: &[Both, One, One, Stranger(0)], crashes: 2, ..CALLERS });
}

#[test]
fn each_fault_of_acquire_and_clean_is_found() {
    let faulty = |fault, roles| Acquire { fault, roles, crashes: 0, ..CALLERS };
    assert_broken(faulty(AcquireFault::NoCompare, &[One, One, Clean(0)]), ONE_HOLDER);
    assert_broken(faulty(AcquireFault::NoSecondCompare, &[Both, One, One, Stranger(0)]), ONE_HOLDER);
    assert_broken(faulty(AcquireFault::CleanWithoutLock, &[One, One, Clean(0)]), ONE_HOLDER);
    assert_broken(faulty(AcquireFault::CleanWithoutCompare, &[One, One, Clean(0), Clean(0)]), ONE_HOLDER);
}
