//! Deadlocks: circles of processes that wait for each other.
//!
//! Looked for when a wait begins, by which the one who has closed a circle finds it, and again while it lasts, for those that
//! are closed in another way: by two at once, by a program that does not look, by a shell's `wait`.
//!
//! # What counts
//!
//! A process waits for a lock if the kernel says so, or if it is a `run-once` that reads the output of a run. It waits
//! for a child
//!
//! - that is the command that it supervises;
//! - that is not in the background (which ignores Ctrl-C), if it is a shell and sleeps in wait(2);
//! - if all its children are in the circle, while it sleeps in wait(2).
//!
//! It waits for the processes at the other end of a pipe without a name, if all of them are in the circle, while it reads that
//! pipe or writes to it. So `lock -w p -- A | lock -w p -- B` is a circle once A has filled the pipe: B does not read before it
//! holds the lock. This counts only if every process that may have the pipe open can be examined.
//!
//! A process that can go on without the others is in no circle:
//!
//! - one with several threads, as another thread may release the lock;
//! - one that handles a signal by which programs wake themselves or each other (`ALRM`, `USR1`, real-time signals), or that has
//!   a timer of `timer_create(2)`;
//! - a shell in `wait` that has set a trap, as the trap runs at once.
//!
//! A timer of alarm(2) under which the signal ends the process cannot be seen from outside. So a circle with a program that is
//! neither ours nor flock(1), and that waits for a lock itself, is broken only when it has stood still for some seconds.
//!
//! While we look they go on, and a shell that runs one short command after the other looks, in pieces, like one that waits
//! for what it has in the background. So a circle is looked for twice, and counts if nobody in it has moved meanwhile.
//!
//! A lock is in the hands of the process that took it, as long as that has it open. Where that is not known, it is in the hands of
//! every process that has it open and was not started by another such process. One that goes on working may release the lock. So a circle of such steps would never end, while what is not a circle, or
//! is not known to be one, is left alone: a wait too many ends some time, a lock that is refused for no reason does harm.
//! Where one of the others waits for a limited time, it is broken when it has lasted some seconds: it may end by itself.

pub mod ancestors;
pub mod circle;
mod dependencies;
pub mod lookout;
mod pipes;
pub mod search;
mod sleepers;
mod snapshot;
