//! Deadlocks: circles of processes that wait for each other.
//!
//! A waiter searches for a circle when its wait begins, and so finds the circle that it has closed. If a few reads show that
//! the holder of the lock goes on by itself (`holder`), or if other processes acquire the lock during the wait
//! (`wait/holder_changes`), there is no circle yet, and the first search is left out. The waiter
//! searches again while the wait lasts, because a circle may be closed in another way: by two processes at once, by a program
//! that does not search, or by the `wait` of a shell. One of the waiters in the circle gives up with an error, which breaks
//! the circle ([`detector`] decides which one). A search only reads `/proc`; it takes no lock and changes nothing.
//!
//! [`wait`](super::wait) and the tasks search for circles through their own wait; `doctor` lists all circles.
//!
//! # Waits that count
//!
//! A process waits for a lock of flock(2) if the kernel lists it as a waiter, or if it is a `run-once` that reads the output of a run.
//! `aba-lock wait` and `doctor` also see other processes that run `aba-lock wait NAME`, but the waiters of `lock` do not, because
//! reading the names of all processes costs too much: a circle with such a process is broken by that process.
//! A wait for a lock of fcntl(2) (`lock --fcntl`, `wait --file`) counts only if it is that of the process that searches.
//!
//! A process waits for a child in three cases:
//!
//! - It is a helper, and the child is the command that it runs.
//! - It is a shell that sleeps in wait(2), and the child runs in the foreground. (A background job ignores Ctrl-C.)
//! - It is another process that sleeps in wait(2), and all its children are in the circle.
//!
//! A process that reads from a pipe without a name, or writes to it, waits for the processes at the other end, if all
//! of them are in the circle. So `lock -w p -- A | lock -w p -- B` is a circle after A has filled the pipe, because B
//! does not read before it holds the lock. This counts only if every process that may have the pipe open can be
//! examined.
//!
//! A process that can go on without the others is in no circle:
//!
//! - a process with several threads, because another thread may release the lock;
//! - a process that handles a signal by which programs wake themselves or each other (`ALRM`, `USR1`, real-time
//!   signals), or that has a timer of `timer_create(2)`;
//! - a shell in `wait` that has set a trap, because the trap runs at once.
//!
//! A lock is held by the process that took it, as long as its descriptor of the lock file is open. If that process is
//! not known, the lock is held by every process that has the file open and was not started by another such process. Any
//! of them that goes on may release the lock.
//!
//! # Errors on the safe side
//!
//! A circle of such waits would last forever. Anything that may not be a circle is left alone: an unnecessary wait ends
//! at some time, but an error without a deadlock does harm.
//!
//! - Processes go on during a search, so a search may combine facts that were never true at the same time. For example, a
//!   shell that runs one short command after another can look like a shell that waits for a background job. So a circle
//!   is searched for twice, and counts only if none of its processes has run in between.
//! - If another process of a circle waits for a limited time, the circle may end by itself. It is broken only when it
//!   has lasted some seconds.
//! - alarm(2) with the default action ends a process, and cannot be seen from outside. So a circle with a program that
//!   waits for a lock and is neither the helper nor flock(1) is also broken only after some seconds.
//!
//! # Files
//!
//! Each file imports only files before it in this list: [`circle`] (the result), `ancestors`, `sleepers` (signals and
//! timers), `free_waits` (the processes that run `aba-lock wait`) and `pipes`, `holder` (the check that makes most searches
//! unnecessary), `snapshot` (the processes, locks and pipes of one moment), `dependencies` (the processes for which a process
//! waits), [`search`], and [`detector`] (when a waiter searches, and which waiter breaks the circle).

mod ancestors;
pub mod circle;
mod dependencies;
pub mod detector;
mod free_waits;
mod holder;
mod pipes;
pub mod search;
mod sleepers;
mod snapshot;

pub(super) use ancestors::holds_above;
