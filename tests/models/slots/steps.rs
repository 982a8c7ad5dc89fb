//! The roles, the steps and the faults of the model of slots.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotRole {
    /// A caller with this number of slots.
    Slot(usize),
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
    /// The first try locks the slots only.
    FirstTryWithoutTurnstile,
    /// A look at all slots precedes the lock of one.
    FirstTryInTwoSteps,
    FirstTryKeepsSlots,
    SlotsIgnoreTheMark,
    FirstTryIgnoresTheMark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SlotStep {
    /// Only with a fault.
    EarlyTry(usize),
    EarlyLook,
    TakeFirst,
    LookAtMark,
    TryAll,
    TryLockWithAll,
    ReleaseOthers,
    BlockTurnstile,
    LookAtMarkAgain,
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
