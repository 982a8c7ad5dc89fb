//! The roles, the steps and the faults of the model of slots.

use crate::kernel::Pid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotRole {
    /// A caller with this number of slots.
    Slot(usize),
    /// A caller with this number of slots that another process starts when it runs, and for whose end it waits. It does not inherit
    /// the descriptor of that process.
    Nested(usize, Pid),
    /// A caller without `--slots`.
    Whole,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotWait {
    Threads,
    Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotFault {
    None,
    SlotBeforeTurnstile,
    SlotWithoutLock,
    NoLookAtOthers,
    LookBeforeTurnstile,
    SecondSlotKept,
    NoTimer,
    WatchAfterTry,
    FirstLookIgnoresTurnstile,
    /// The first attempt looks at all slots, and then locks one.
    FirstLookBeforeSlot,
    /// A first attempt that fails keeps its slot.
    FirstSlotKept,
    SlotsIgnoreTheMark,
    /// A nested caller skips the turnstile only if an exclusive caller waits.
    NestedQueues,
    FirstLookIgnoresTheMark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SlotStep {
    /// Only with a fault.
    EarlyTry(usize),
    EarlyLook,
    /// A nested caller that does not exist yet.
    AwaitStart,
    TryFirst,
    LookAtAll,
    LookBelow,
    LookAbove,
    TryLock,
    ReleaseFirst,
    BlockTurnstile,
    LookAtMark,
    BlockReaders,
    AwaitMark,
    ReleaseMark,
    BlockLock,
    ReleaseReaders,
    LookAtOthers,
    Watch,
    TrySlot(usize),
    LateWatch,
    AwaitEvent,
    AskSlot(usize),
    AwaitSlot,
    TakeBack(usize),
    ReleaseTurnstile(usize),
    Run(usize),
    ReleaseSlot(usize),
    ReleaseLock,
    Refuse,
    TryWhole,
    LookWhole,
    BlockWholeReaders,
    TakeMark,
    ReleaseWholeReaders,
    BlockWhole,
    ReleaseWholeMark,
    RunWhole,
    End,
}
