//! Waiting until a lock is free, without taking it (`aba-lock wait`).
//!
//! 1. The caller watches the lock file with inotify(7).
//! 2. It looks into the lock table of the kernel (`/proc/locks`). If no process holds the lock, it ends.
//! 3. It waits for a close event or a timer, and goes to 2.
//!
//! # Promises
//!
//! A try of another process fails only because a process holds the lock, and never because of the caller. The caller ends when
//! the lock was free at some moment, and the holders do not come back.
//!
//! # For the implementation
//!
//! - The kernel sends the close event before it releases the lock, and a release without a close (flock -u) sends none. So the
//!   timer is needed: after an event the caller looks again after short pauses that grow, up to one second.
//! - A lock that is free only for an instant may be missed: the caller waits for the next moment.
//! - With `--any`, all files are watched with one descriptor. Without it, the caller ends when it has seen each lock free, not
//!   all of them at once.
//! - A file that does not exist is free. If it is created, the caller does not notice, because it has ended.
//! - To block on the lock, even shared, would hold it for an instant: then attempts of others without waiting fail.

use crate::checker::{ALL_END, Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchRole {
    Watcher,
    /// Blocks on the lock, and runs.
    Holder,
    /// Tries the lock once.
    Trier,
}
use WatchRole::{Holder, Trier, Watcher};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchFault {
    None,
    NoTimer,
    BlockShared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WatchStep {
    Watch,
    Look,
    Await,
    BlockShared,
    ReleaseShared,
    Block,
    Try,
    Close,
    Release,
    End,
}
use WatchStep::{Await, Block, BlockShared, Close, End, Look, Release, ReleaseShared, Try, Watch};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct WatchNotes {
    watching: u8,
    events: u8,
    was_disturbed: bool,
}

#[derive(Debug, Clone)]
struct WaitFree {
    kernel: Kernel,
    roles: &'static [WatchRole],
    crashes: u8,
    fault: WatchFault,
}

type WatchWorld = WorldOf<WaitFree>;

impl Protocol for WaitFree {
    type Step = WatchStep;
    type Memory = WatchNotes;

    const END: WatchStep = End;

    fn start(&self) -> WatchWorld {
        let first = |role: &WatchRole| match role {
            Watcher if self.fault == WatchFault::BlockShared => BlockShared,
            Watcher => Watch,
            Holder => Block,
            Trier => Try,
        };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), 1, WatchNotes::default())
    }

    fn is_waiting(&self, world: &WatchWorld, pid: Pid) -> bool {
        let has_timer = self.fault != WatchFault::NoTimer && !world.locks[LOCK].is_held();
        world.steps[pid] == Await && world.memory.events >> pid & 1 == 0 && !has_timer
    }

    fn take_step(&self, world: &mut WatchWorld, pid: Pid, step: WatchStep) -> WatchStep {
        match step {
            Watch => {
                world.memory.watching |= 1 << pid;
                Look
            }
            Look if world.locks[LOCK].is_held() => Await,
            Look => End,
            Await => {
                world.memory.events &= !(1 << pid);
                Look
            }
            BlockShared if world.request(pid, LOCK, Mode::Shared) => ReleaseShared,
            BlockShared => BlockShared,
            Block => world.block(pid, LOCK, Block, Close),
            Try if world.attempt(pid, LOCK, Mode::Exclusive) => Close,
            Try => {
                let holds = |pid: Pid| self.roles[pid] != Watcher && world.locks[LOCK].is_held_by(pid);
                world.memory.was_disturbed |= !world.pids().any(holds);
                End
            }
            Close => {
                world.memory.events |= world.memory.watching;
                Release
            }
            ReleaseShared | Release | End => {
                world.release(pid, LOCK);
                End
            }
        }
    }

    fn note_crash(&self, world: &mut WatchWorld, pid: Pid) {
        // The event of a killed process also comes before the kernel releases its lock.
        if world.locks[LOCK].is_held_by(pid) {
            world.memory.events |= world.memory.watching;
        }
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always(NOT_DISTURBED, |_, world| !world.memory.was_disturbed),
            Self::sometimes("the lock is held after the event", |_, world| {
                world.memory.events != 0 && world.locks[LOCK].is_held()
            }),
        ]
    }
}

const NOT_DISTURBED: &str = "a try fails only if a caller that runs holds the lock";

const SCENE: WaitFree =
    WaitFree { kernel: Kernel::Linux, roles: &[Watcher, Watcher, Holder, Trier], crashes: 4, fault: WatchFault::None };

#[test]
fn a_process_that_waits_until_a_lock_is_free_does_not_disturb_others() {
    for kernel in Kernel::ALL {
        assert_kept(WaitFree { kernel, ..SCENE });
        assert_kept(WaitFree { kernel, roles: &[Watcher, Holder, Holder, Trier], ..SCENE });
    }
}

#[test]
fn each_fault_of_waiting_for_a_free_lock_is_found() {
    assert_broken(WaitFree { fault: WatchFault::NoTimer, crashes: 0, ..SCENE }, ALL_END);
    assert_broken(WaitFree { fault: WatchFault::BlockShared, crashes: 0, ..SCENE }, NOT_DISTURBED);
}
