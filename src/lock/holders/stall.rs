//! Finds out that a process does not go on by itself: it is stopped, or in uninterruptible sleep.
//!
//! A stop by a tracer and an uninterruptible sleep are usual for an instant, for example in a process under strace(1), or one
//! that reads from a disk. They count only if the process has not run between two looks.

use crate::os::proc::process::{self, RunState};
use std::thread;
use std::time::Duration;

/// The time between two looks at a process.
const PAUSE: Duration = Duration::from_millis(20);

/// The reason why a process does not go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// A signal has stopped it, such as SIGSTOP or the one of Ctrl-Z.
    Stopped,
    /// The process that traces it has stopped it. `None`: that process cannot be seen from here.
    Traced(Option<u32>),
    /// It waits, usually for a disk or a network file system, and no signal ends the wait.
    Uninterruptible,
    /// Its first thread has ended, and others hold the lock.
    Zombie,
}

/// Returns the stall of a process that was in `state`.
pub(super) fn find_stall(pid: u32, state: RunState) -> Option<Stall> {
    match state {
        RunState::Running | RunState::Sleeping => None,
        RunState::Stopped => Some(Stall::Stopped),
        RunState::Zombie => Some(Stall::Zombie),
        RunState::Traced => stays_in(pid, state).then(|| Stall::Traced(process::tracer(pid))),
        RunState::Uninterruptible => stays_in(pid, state).then_some(Stall::Uninterruptible),
    }
}

/// Returns true if the process is still in this state after a pause, and has not run in between.
fn stays_in(pid: u32, state: RunState) -> bool {
    let look = || (process::times_it_slept(pid), process::read_stat(pid).map(|seen| seen.state));
    let before = look();
    if before.1 != Some(state) {
        return false;
    }
    thread::sleep(PAUSE);
    before == look()
}
