//! Signals and timeouts.

use super::ancestors::above;
use crate::lock::peer;
use crate::os::proc::process;

/// The kind of call in which a process sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    /// For a lock.
    Lock,
    /// For the end of a child, in the foreground of a shell or in another program.
    Child,
    /// In a shell's `wait`, which a trap interrupts.
    Job,
    /// For the other end of a pipe.
    Pipe,
}

/// Signals by which programs wake themselves, or each other.
const WAKING: [i32; 7] =
    [libc::SIGALRM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGURG, libc::SIGIO, libc::SIGPWR, libc::SIGCHLD];

/// Signals that bash handles once there is a trap for EXIT: which other traps there are cannot be seen then.
const ENDING: [i32; 17] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGBUS,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The number of the first signal that programs may use as they please: those below belong to the C library.
const FIRST_REAL_TIME: i32 = 35;

pub(super) const fn mask(signals: &[i32]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < signals.len() {
        mask |= 1 << (signals[at] - 1);
        at += 1;
    }
    mask
}

/// Returns whether a process that sleeps may go on though none of the others does anything: by a signal that it handles, a timer, or
/// another thread. Also if that is not known.
pub(super) fn may_go_on(pid: u32, sleep: Sleep) -> bool {
    const REAL_TIME: u64 = !0 << (FIRST_REAL_TIME - 1);
    // Our helper has a second thread, which releases nothing. Its command line shows how long it waits, as that of flock(1) does.
    let name = process::name(pid);
    if name == peer::HELPER || peer::read_flock_call(pid).is_some() {
        return false;
    }
    if process::threads(pid) != Some(1) || process::has_timers(pid) {
        return true;
    }
    let Some(caught) = process::caught_signals(pid) else { return true };
    let shell = peer::is_name_of_shell(&name);
    let children = mask(&[libc::SIGCHLD]);
    let waking = mask(&WAKING) | REAL_TIME;
    // bash for its own ends, and what a trap for EXIT adds.
    let all_ending = caught & mask(&ENDING) == mask(&ENDING);
    let disturbing = match sleep {
        Sleep::Lock => waking,
        Sleep::Job => !(children | mask(&[libc::SIGINT, libc::SIGWINCH])),
        // A shell runs its traps when the command has ended.
        Sleep::Child if shell => 0,
        Sleep::Pipe if shell && all_ending => waking & !mask(&ENDING) & !children,
        Sleep::Child | Sleep::Pipe => waking & !children,
    };
    caught & disturbing != 0
}

/// Returns whether a process gives up after a while: as its command line shows, or because a `timeout` that is not above us ends
/// it. This is not known for a program that waits for a lock and is neither ours nor flock(1).
pub(super) fn is_limited(pid: u32, waits_for_lock: bool) -> bool {
    let us: Vec<u32> = above(std::process::id()).collect();
    if above(pid).any(|pid| !us.contains(&pid) && peer::is_timeout(pid)) {
        return true;
    }
    peer::may_give_up(pid, waits_for_lock)
}
