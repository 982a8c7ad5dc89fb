//! Finds out that a process does not go on by itself: it is stopped, or in uninterruptible sleep, or a process below it is stopped.
//!
//! A stop by a tracer and an uninterruptible sleep are usual for an instant, for example in a process under strace(1), or one
//! that reads from a disk. They count only if the process has not run between two looks.

use crate::os::proc::process::{self, RunState};
use std::thread;
use std::time::Duration;

/// The time between two looks at a process.
const PAUSE: Duration = Duration::from_millis(20);

/// The maximum number of processes below a holder that are examined, and of generations.
const MAX_EXAMINED: usize = 64;
const MAX_DEPTH: usize = 8;

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

/// Returns the processes below `pid`, which has this number of threads, that a signal has stopped, parents first. Those that a tracer has stopped do not count.
pub(super) fn find_stopped_descendants(pid: u32, threads: u32) -> Vec<u32> {
    let us = std::process::id();
    let (mut stopped, mut generation, mut left) = (Vec::new(), vec![(pid, threads)], MAX_EXAMINED);
    for _ in 0..MAX_DEPTH {
        let mut children: Vec<u32> =
            generation.drain(..).flat_map(|(pid, threads)| process::children_of_threads(pid, threads)).collect();
        children.retain(|child| *child != us);
        children.truncate(left);
        left -= children.len();
        for seen in children.into_iter().filter_map(process::read_stat) {
            generation.push((seen.pid, seen.threads));
            stopped.extend((seen.state == RunState::Stopped).then_some(seen.pid));
        }
        if generation.is_empty() {
            break;
        }
    }
    stopped
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
