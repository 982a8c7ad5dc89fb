//! Decides whether a sleeping process may go on although no other process of a circle does anything.
//!
//! A process that can be awakened by a signal, a timer or another of its threads is in no circle. The search asks this
//! for each process on its path, and passes the reason for which the process sleeps.

use super::ancestors::list_with_ancestors;
use crate::lock::peer;
use crate::os::proc::process;

/// The reason why a process sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SleepReason {
    /// It waits for a lock.
    Lock,
    /// It waits for the end of a child: in the foreground of a shell, or in another program.
    Child,
    /// It is a shell in `wait`, which a trap interrupts.
    Job,
    /// It waits for the other end of a pipe.
    Pipe,
}

/// Signals by which programs wake themselves, or each other.
const WAKING: &[i32] = &[
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGURG,
    libc::SIGIO,
    #[cfg(linux)]
    libc::SIGPWR,
    libc::SIGCHLD,
];

/// Signals that bash handles if there is a trap for EXIT. If a process handles all of them, it is assumed to have such a
/// trap, and no other trap for these signals.
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

/// The first signal that programs may use freely. The real-time signals before it belong to the C library.
const FIRST_REAL_TIME: i32 = 35;

/// Returns a set of signals in the form of `/proc/PID/status`: signal 1 is the lowest bit.
pub(super) const fn signal_mask(signals: &[i32]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < signals.len() {
        mask |= 1 << (signals[at] - 1);
        at += 1;
    }
    mask
}

/// Returns true if a sleeping process may go on although no other process does anything: by a signal that it handles, a
/// timer or another thread. Also true if that is not known.
pub(super) fn may_go_on(pid: u32, reason: SleepReason) -> bool {
    const REAL_TIME: u64 = !0 << (FIRST_REAL_TIME - 1);
    // The second thread of the helper releases nothing. The time limit of the helper and of flock(1) is on the command
    // line.
    if peer::is_lock_program(pid) {
        return false;
    }
    if process::threads(pid) != Some(1) || process::has_timers(pid) {
        return true;
    }
    let Some(caught) = process::caught_signals(pid) else { return true };
    let is_shell = peer::is_name_of_shell(&process::name(pid));
    let children = signal_mask(&[libc::SIGCHLD]);
    let waking = signal_mask(WAKING) | REAL_TIME;
    let has_exit_trap = caught & signal_mask(&ENDING) == signal_mask(&ENDING);
    let disturbing = match reason {
        SleepReason::Lock => waking,
        // bash handles these three even without a trap.
        SleepReason::Job => !(children | signal_mask(&[libc::SIGINT, libc::SIGWINCH])),
        // A shell runs its traps when the command has ended.
        SleepReason::Child if is_shell => 0,
        SleepReason::Pipe if is_shell && has_exit_trap => waking & !signal_mask(&ENDING) & !children,
        SleepReason::Child | SleepReason::Pipe => waking & !children,
    };
    caught & disturbing != 0
}

/// Returns true if a process may give up after some time: its command line says so, or `timeout` ends it. A `timeout`
/// that also ends this process does not count.
pub(super) fn has_time_limit(pid: u32, waits_for_lock: bool) -> bool {
    let shared: Vec<u32> = list_with_ancestors(std::process::id()).collect();
    list_with_ancestors(pid).any(|pid| !shared.contains(&pid) && peer::is_timeout(pid))
        || peer::may_give_up(pid, waits_for_lock)
}
