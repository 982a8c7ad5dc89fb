//! Slots: up to N holders of a name, and the other callers wait in order (`--slots N`).
//!
//! A slot holder also holds the lock itself, shared, and asks for it as a reader of [`writers`](crate::writers) does. A caller
//! without `--slots` is a writer, so its exclusive lock waits for all slots. The turnstile of slots is another one than that of readers.
//!
//! A caller with `--slots N` first makes an attempt without the turnstile:
//!
//! 1. It tries slot 1 of N.
//! 2. It looks whether the turnstile, a slot, or the mark or the turnstile of readers is held. If none is, it goes to 4.
//! 3. It looks at all of them but the slots of N again: first at those before these slots, and then at those after them.
//! 4. It tries the lock, shared. If it is granted, the caller runs.
//!
//! If one of these steps fails, it releases slot 1, and:
//!
//! 1. It blocks on the turnstile. It tries no slot before that.
//! 2. It blocks on the lock, shared, with the steps of a reader: if the mark or the turnstile of readers is held, it blocks on that
//!    turnstile, waits for the mark, and releases both when it holds the lock.
//! 3. It looks whether a slot of another number N is held. If so, it releases both and ends with an error that names that number.
//! 4. It tries the slots 1 to N.
//! 5. If all are held, it asks for each of them with a thread of its own. A thread that is granted a slot releases it and wakes
//!    the first thread. The caller takes back the other requests and goes to 4. No other process tries a slot in between.
//! 6. It releases the turnstile, and runs. Its end releases the slot and then the lock.
//!
//! A caller whose parent holds the lock, and which has not inherited it, skips step 1, and blocks on the lock without the steps of a
//! reader, because a writer may wait for its parent. In step 5, it and the caller at the turnstile can each take a slot that the other
//! one is about to try. Then both try again.
//!
//! A caller without `--slots` acquires the lock as a writer.
//!
//! # Waiting for an event instead
//!
//! Step 5 can also wait for the close event of inotify(7), which needs no thread:
//!
//! 1. The caller watches the file.
//! 2. It tries all slots.
//! 3. If all are held, it waits for an event or a timer, and goes to 2.
//!
//! The kernel sends the event before it releases the lock, and unlocking sends no event. So without the timer, a wake-up is lost.
//! Threads are better: the kernel wakes them at the release, as it does for a plain lock, so the handover costs the same.
//!
//! # Promises
//!
//! No caller with `--slots` that begins after a writer holds the mark runs before it. At most N callers run, none of them next to a caller
//! that holds the whole lock, and all with the same N. No later caller with `--slots` runs before the one at the head of the queue, and on
//! a kernel that hands locks over, before any that waits.
//!
//! # For the implementation
//!
//! - Slot k of N is the byte `SLOTS + 4096 * (N + 1) - k` of the lock file, locked with `F_OFD_SETLK` on the descriptor that also
//!   holds the lock. So children inherit the slot with the lock, its end needs no code, and no process stores N: `F_OFD_GETLK` over
//!   the bytes of the other numbers finds a slot of another N, and its offset says which. N can change as soon as no slot is held. A
//!   waiter with another N is refused when its turn comes.
//! - The turnstile is before all slots, and the mark and the turnstile of readers are after them. So one call looks at all of them,
//!   and one call each at those before and after the slots of one number. The lock of slot 1 comes before the look: of two callers
//!   with different numbers, at least one sees the other.
//! - `/proc/locks` lists the shared lock of each holder with its pid, so `status` finds the holders as it finds shared ones.
//! - Each thread of step 5 locks its slot for the process (`F_SETLKW`), because a slot that is granted on the descriptor of the script
//!   would stay held. It opens and closes no file, which would release the turnstile of the process. The first thread waits for the end of
//!   the others before it tries again.
//! - An uncontended call makes one system call more than a shared one. If slot 1 is held, it makes ten or more: the failed try,
//!   turnstile, three of a reader, two looks, slots, turnstile. Without the turnstile, a newcomer could take the slot for which the head
//!   waits, and two callers could look at the same time and run with different numbers.
//! - With `-n`, a caller that finds the turnstile held is refused, after some tries: another one may pass in that instant.

mod attempt;
mod checks;
mod steps;

use crate::checker::{Checked, Protocol, WorldOf};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;
use std::ops::Range;
use steps::{SlotFault, SlotRole, SlotStep, SlotWait};

const LOCK: usize = 0;
const TURNSTILE: usize = 1;
/// The first lock after those of slots: the turnstile of readers.
const READERS: usize = 5;
const MARK: usize = 6;
const LOCKS: usize = 7;

use SlotRole::{Nested, Slot, Whole};
use SlotStep::{
    AskSlot, AwaitEvent, AwaitMark, AwaitSlot, AwaitStart, BlockLock, BlockReaders, BlockTurnstile, BlockWhole,
    BlockWholeReaders, EarlyLook, EarlyTry, End, LateWatch, LookAbove, LookAtAll, LookAtMark, LookAtOthers, LookBelow,
    LookWhole, Refuse, ReleaseFirst, ReleaseLock, ReleaseMark, ReleaseReaders, ReleaseSlot, ReleaseTurnstile,
    ReleaseWholeMark, ReleaseWholeReaders, Run, RunWhole, TakeBack, TakeMark, TryFirst, TryLock, TrySlot, TryWhole,
    Watch,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SlotNotes {
    /// The processes that watch the file, and those with an event that they have not read.
    watching: u8,
    events: u8,
    /// One bit for each killed process and lock, if the kernel has sent the event.
    sent: u64,
    /// The callers with `--slots` that wait and must not be passed.
    waiting: u8,
    /// The callers without `--slots` that hold the mark.
    marked: u8,
    /// For each process, the callers that waited when it began, and wait. All bits are set before it begins.
    ahead: Vec<u8>,
    was_passed: bool,
    was_refused: bool,
}

impl SlotNotes {
    fn end_wait(&mut self, pid: Pid) {
        for bits in [&mut self.waiting, &mut self.marked, &mut self.watching, &mut self.events] {
            *bits &= !(1 << pid);
        }
        self.ahead.iter_mut().filter(|ahead| **ahead != u8::MAX).for_each(|ahead| *ahead &= !(1 << pid));
        self.ahead[pid] = 0;
    }
}

#[derive(Debug, Clone)]
struct Slots {
    kernel: Kernel,
    roles: &'static [SlotRole],
    wait: SlotWait,
    crashes: u8,
    fault: SlotFault,
}

type SlotWorld = WorldOf<Slots>;

/// The lock of a slot. The slots of each number N have their own bytes; the model has those of 1 and 2.
fn slot(slots: usize, index: usize) -> usize {
    1 + slots + index
}

impl Slots {
    fn count_slots(&self, pid: Pid) -> usize {
        match self.roles[pid] {
            Slot(slots) | Nested(slots, _) => slots,
            Whole => 0,
        }
    }

    /// The locks of the slots of a caller.
    fn own_slots(&self, pid: Pid) -> Range<usize> {
        let slots = self.count_slots(pid);
        slot(slots, 0)..slot(slots, slots)
    }

    /// Returns true if a slot of another number is held.
    fn sees_others(&self, world: &SlotWorld, pid: Pid) -> bool {
        let own = self.own_slots(pid);
        (2..READERS).any(|lock| !own.contains(&lock) && world.locks[lock].is_held())
    }

    /// Returns true if a process waits for the start or the end of another one.
    fn awaits_process(&self, world: &SlotWorld, pid: Pid) -> bool {
        let runs = |pid: Pid| matches!(world.steps[pid], Run(_));
        match (world.steps[pid], self.roles[pid]) {
            (AwaitStart, Nested(_, parent)) => world.is_alive(parent) && !runs(parent),
            (Run(_), _) => {
                let is_child = |other: &Pid| matches!(self.roles[*other], Nested(_, parent) if parent == pid);
                world.pids().filter(is_child).any(|child| world.is_alive(child) && world.steps[child] != End)
            }
            _ => false,
        }
    }

    /// Returns true if a reader must queue.
    fn has_queue(world: &SlotWorld) -> bool {
        world.locks[MARK].is_held() || world.locks[READERS].is_held()
    }

    fn note_grant(world: &mut SlotWorld, pid: Pid) {
        world.memory.was_passed |= world.memory.ahead[pid] & (world.memory.waiting | world.memory.marked) != 0;
        world.memory.end_wait(pid);
    }

    fn block_turnstile(&self, world: &mut SlotWorld, pid: Pid, granted: SlotStep) -> SlotStep {
        let next = world.block(pid, TURNSTILE, world.steps[pid], granted);
        if (next == granted || self.kernel == Kernel::Fifo) && matches!(self.roles[pid], Slot(_)) {
            world.memory.waiting |= 1 << pid;
        }
        next
    }

    fn look_at_others(&self) -> SlotStep {
        let skips = matches!(self.fault, SlotFault::NoLookAtOthers | SlotFault::LookBeforeTurnstile);
        if skips { self.begin_tries() } else { LookAtOthers }
    }

    /// Returns the step after the lock was granted, and the look at other numbers was taken.
    fn begin_tries(&self) -> SlotStep {
        let is_late = self.fault == SlotFault::WatchAfterTry;
        if self.wait == SlotWait::Events && !is_late { Watch } else { TrySlot(0) }
    }

    /// Returns the step after all slots were found held.
    fn begin_wait(&self, world: &SlotWorld, pid: Pid) -> SlotStep {
        match self.wait {
            SlotWait::Threads => AskSlot(0),
            SlotWait::Events if world.memory.watching >> pid & 1 == 0 => LateWatch,
            SlotWait::Events => AwaitEvent,
        }
    }

    fn take_whole_step(world: &mut SlotWorld, pid: Pid, step: SlotStep) -> SlotStep {
        match step {
            TryWhole if world.attempt(pid, LOCK, Mode::Exclusive) => RunWhole,
            TryWhole => LookWhole,
            LookWhole if world.locks[READERS].is_held() => BlockWholeReaders,
            LookWhole => TakeMark,
            BlockWholeReaders => world.block(pid, READERS, BlockWholeReaders, TakeMark),
            TakeMark if !world.request(pid, MARK, Mode::Shared) => TakeMark,
            TakeMark => {
                world.memory.marked |= 1 << pid;
                ReleaseWholeReaders
            }
            ReleaseWholeReaders => {
                world.release(pid, READERS);
                BlockWhole
            }
            BlockWhole if !world.request(pid, LOCK, Mode::Exclusive) => BlockWhole,
            BlockWhole => {
                world.memory.end_wait(pid);
                ReleaseWholeMark
            }
            ReleaseWholeMark => {
                world.release(pid, MARK);
                RunWhole
            }
            _ => {
                world.release(pid, LOCK);
                End
            }
        }
    }
}

impl Protocol for Slots {
    type Step = SlotStep;
    type Memory = SlotNotes;

    const END: SlotStep = End;

    fn start(&self) -> SlotWorld {
        let first = |role: &SlotRole| match (role, self.fault) {
            (Whole, _) => TryWhole,
            (Nested(..), _) => AwaitStart,
            (_, SlotFault::SlotBeforeTurnstile) => EarlyTry(0),
            (_, SlotFault::LookBeforeTurnstile) => EarlyLook,
            (_, SlotFault::FirstLookBeforeSlot) => LookAtAll,
            _ => TryFirst,
        };
        let ahead = vec![u8::MAX; self.roles.len()];
        let notes = SlotNotes {
            watching: 0,
            events: 0,
            sent: 0,
            waiting: 0,
            marked: 0,
            ahead,
            was_passed: false,
            was_refused: false,
        };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), LOCKS, notes)
    }

    fn is_blocked(&self, world: &SlotWorld, pid: Pid) -> bool {
        let is_blocking = |lock: usize| world.locks[lock].is_blocking(world.kernel, pid);
        let slots = self.count_slots(pid);
        match world.steps[pid] {
            AwaitSlot => (0..slots).all(|index| is_blocking(slot(slots, index))),
            // While one thread waits, the others go on.
            AskSlot(_) | TakeBack(_) => false,
            _ => world.is_blocked(pid),
        }
    }

    fn is_waiting(&self, world: &SlotWorld, pid: Pid) -> bool {
        if self.awaits_process(world, pid) {
            return true;
        }
        let slots = self.count_slots(pid);
        let has_free = (0..slots).any(|index| world.locks[slot(slots, index)].is_free_for(Mode::Exclusive));
        let has_timer = self.fault != SlotFault::NoTimer && self.fault != SlotFault::WatchAfterTry;
        world.steps[pid] == AwaitEvent && world.memory.events >> pid & 1 == 0 && !(has_timer && has_free)
    }

    fn take_step(&self, world: &mut SlotWorld, pid: Pid, step: SlotStep) -> SlotStep {
        if world.memory.ahead[pid] == u8::MAX {
            world.memory.ahead[pid] =
                if matches!(self.roles[pid], Slot(_)) { world.memory.waiting | world.memory.marked } else { 0 };
        }
        let slots = self.count_slots(pid);
        match step {
            EarlyTry(index) if world.attempt(pid, slot(slots, index), Mode::Exclusive) => {
                Self::note_grant(world, pid);
                ReleaseTurnstile(index)
            }
            EarlyTry(index) if index + 1 < slots => EarlyTry(index + 1),
            EarlyTry(_) => BlockTurnstile,
            // Without its parent, there is no nested caller.
            AwaitStart if matches!(self.roles[pid], Nested(_, parent) if !world.is_alive(parent)) => End,
            AwaitStart => TryFirst,
            EarlyLook if self.sees_others(world, pid) => Refuse,
            EarlyLook => BlockTurnstile,
            TryFirst | LookAtAll | LookBelow | LookAbove | TryLock | ReleaseFirst => {
                self.take_first_step(world, pid, step)
            }
            BlockTurnstile if self.fault == SlotFault::SlotWithoutLock => {
                self.block_turnstile(world, pid, LookAtOthers)
            }
            BlockTurnstile => self.block_turnstile(world, pid, LookAtMark),
            LookAtMark if Self::has_queue(world) && self.fault != SlotFault::SlotsIgnoreTheMark => BlockReaders,
            LookAtMark => BlockLock,
            BlockReaders => world.block(pid, READERS, BlockReaders, AwaitMark),
            AwaitMark => world.block(pid, MARK, AwaitMark, ReleaseMark),
            ReleaseMark => {
                world.release(pid, MARK);
                BlockLock
            }
            BlockLock if !world.request(pid, LOCK, Mode::Shared) => BlockLock,
            BlockLock => ReleaseReaders,
            ReleaseReaders => {
                world.release(pid, READERS);
                self.look_at_others()
            }
            LookAtOthers if self.sees_others(world, pid) => Refuse,
            LookAtOthers => self.begin_tries(),
            Watch => {
                world.memory.watching |= 1 << pid;
                TrySlot(0)
            }
            TrySlot(index) if world.attempt(pid, slot(slots, index), Mode::Exclusive) => {
                Self::note_grant(world, pid);
                ReleaseTurnstile(index)
            }
            TrySlot(index) if index + 1 < slots => TrySlot(index + 1),
            TrySlot(_) => self.begin_wait(world, pid),
            LateWatch => {
                world.memory.watching |= 1 << pid;
                AwaitEvent
            }
            AwaitEvent => {
                world.memory.events &= !(1 << pid);
                TrySlot(0)
            }
            AskSlot(index) => {
                world.request(pid, slot(slots, index), Mode::Exclusive);
                if index + 1 < slots { AskSlot(index + 1) } else { AwaitSlot }
            }
            AwaitSlot => {
                // Several threads may be granted a slot before the first thread goes on.
                let is_woken = |index: &usize| !world.locks[slot(slots, *index)].is_blocking(world.kernel, pid);
                let woken: Vec<usize> = (0..slots).filter(is_woken).collect();
                let grants = woken.iter().filter(|&&index| world.request(pid, slot(slots, index), Mode::Exclusive));
                if grants.count() > 0 { TakeBack(0) } else { AwaitSlot }
            }
            TakeBack(index) => {
                world.locks[slot(slots, index)].cancel(pid);
                if index == 0 || self.fault != SlotFault::SecondSlotKept {
                    world.release(pid, slot(slots, index));
                }
                if index + 1 < slots { TakeBack(index + 1) } else { TrySlot(0) }
            }
            ReleaseTurnstile(index) => {
                world.release(pid, TURNSTILE);
                Run(index)
            }
            Run(index) => {
                world.memory.events |= world.memory.watching;
                ReleaseSlot(index)
            }
            ReleaseSlot(_) => {
                (TURNSTILE..READERS).for_each(|lock| world.release(pid, lock));
                ReleaseLock
            }
            ReleaseLock => {
                world.release(pid, LOCK);
                End
            }
            Refuse => {
                world.memory.was_refused = true;
                world.memory.end_wait(pid);
                world.release(pid, TURNSTILE);
                ReleaseLock
            }
            _ => Self::take_whole_step(world, pid, step),
        }
    }

    fn note_crash(&self, world: &mut SlotWorld, pid: Pid) {
        world.memory.end_wait(pid);
    }

    /// Sends the event first, and releases the lock in a second step.
    fn reap(&self, world: &mut SlotWorld, pid: Pid, lock: usize) {
        let bit = 1 << (pid * LOCKS + lock);
        if self.wait == SlotWait::Events && lock > TURNSTILE && world.memory.sent & bit == 0 {
            world.memory.sent |= bit;
            world.memory.events |= world.memory.watching;
        } else {
            world.memory.sent &= !bit;
            world.release(pid, lock);
        }
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always(AT_MOST_N, |model, world| {
                let run = world.count(|_, step| matches!(step, Run(_)));
                world.count(|pid, step| matches!(step, Run(_)) && run > model.count_slots(pid)) == 0
            }),
            Self::always(WHOLE_ALONE, |_, world| {
                let whole = world.count(|_, step| *step == RunWhole);
                whole == 0 || whole + world.count(|_, step| matches!(step, Run(_))) == 1
            }),
            Self::always(SAME_N, |model, world| {
                let numbers =
                    |slots| world.count(|pid, step| matches!(step, Run(_)) && model.count_slots(pid) == slots);
                numbers(1) == 0 || numbers(2) == 0
            }),
            Self::always(ONE_SLOT, |model, world| {
                world.count(|pid, step| {
                    let slots = model.count_slots(pid);
                    let held = (0..slots).filter(|&index| world.locks[slot(slots, index)].is_held_by(pid));
                    matches!(step, Run(_)) && held.count() > 1
                }) == 0
            }),
            Self::always(NOT_PASSED, |_, world| !world.memory.was_passed),
            Self::sometimes("a caller waits, or is refused", |_, world| {
                world.memory.was_refused
                    || world.count(|_, step| matches!(step, AwaitSlot | AwaitEvent | BlockWhole)) > 0
            }),
        ]
    }
}

const AT_MOST_N: &str = "at most N callers run";
const WHOLE_ALONE: &str = "a caller that holds the whole lock runs alone";
const SAME_N: &str = "all callers that run have the same N";
const ONE_SLOT: &str = "no caller runs with two slots";
const NOT_PASSED: &str = "no later caller passes the one that waits";
