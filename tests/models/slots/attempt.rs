//! The attempt without the turnstile in the model of slots.

use super::{
    BlockLock, BlockTurnstile, LOCK, LOCKS, LookAbove, LookAtAll, LookBelow, Nested, READERS, ReleaseFirst, Run,
    SlotFault, SlotStep, SlotWorld, Slots, TURNSTILE, TryFirst, TryLock,
};
use crate::kernel::{Mode, Pid};
use std::ops::Range;

impl Slots {
    /// Returns true if another process holds one of the locks at which the first attempt looks.
    fn sees_any(&self, world: &SlotWorld, pid: Pid, locks: Range<usize>) -> bool {
        let ignored = match self.fault {
            SlotFault::FirstLookIgnoresTurnstile => TURNSTILE..TURNSTILE + 1,
            SlotFault::SlotsIgnoreTheMark | SlotFault::FirstLookIgnoresTheMark => READERS..LOCKS,
            _ => 0..0,
        };
        locks
            .filter(|lock| !ignored.contains(lock))
            .any(|lock| world.locks[lock].is_held() && !world.locks[lock].is_held_by(pid))
    }

    pub(super) fn take_first_step(&self, world: &mut SlotWorld, pid: Pid, step: SlotStep) -> SlotStep {
        let own = self.own_slots(pid);
        let is_late = self.fault == SlotFault::FirstLookBeforeSlot;
        match step {
            TryFirst if world.attempt(pid, own.start, Mode::Exclusive) => {
                if is_late {
                    TryLock
                } else {
                    LookAtAll
                }
            }
            TryFirst => self.begin_queue(world, pid),
            LookAtAll if !self.sees_any(world, pid, TURNSTILE..LOCKS) => {
                if is_late {
                    TryFirst
                } else {
                    TryLock
                }
            }
            LookAtAll if is_late => BlockTurnstile,
            LookAtAll => LookBelow,
            LookBelow if self.sees_any(world, pid, TURNSTILE..own.start) => ReleaseFirst,
            LookBelow => LookAbove,
            LookAbove if self.sees_any(world, pid, own.end..LOCKS) => ReleaseFirst,
            LookAbove => TryLock,
            TryLock if world.attempt(pid, LOCK, Mode::Shared) => {
                Self::note_grant(world, pid);
                Run(0)
            }
            TryLock => ReleaseFirst,
            _ => {
                if self.fault != SlotFault::FirstSlotKept {
                    world.release(pid, own.start);
                }
                self.begin_queue(world, pid)
            }
        }
    }

    /// Returns the step after the first attempt.
    fn begin_queue(&self, world: &SlotWorld, pid: Pid) -> SlotStep {
        match self.roles[pid] {
            Nested(_, parent) if !world.is_alive(parent) => BlockTurnstile,
            Nested(..) if self.fault == SlotFault::NestedQueues && !Self::has_queue(world) => BlockTurnstile,
            Nested(..) => BlockLock,
            _ => BlockTurnstile,
        }
    }
}
