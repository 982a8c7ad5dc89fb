//! Sends signals. Only this file and `process_handle` send signals to other processes. A lint forbids `kill(2)` and its
//! relatives in every other file.
//!
//! A number alone does not identify a process: the kernel may have given it to another process since. So a signal goes
//! only to
//!
//! - this process itself ([`signal_self`]),
//! - a process that was opened and compared first ([`Process`](super::process_handle::Process)), or
//! - a child of this process that has not been waited for ([`signal_child`], [`signal_group`]): the kernel does not
//!   reuse the number of such a child.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]
#![expect(clippy::disallowed_methods, reason = "the only place that sends signals")]

use super::signal_action::SignalAction;
use std::io;
use std::mem;

/// Sends a signal to this process. A blocked signal stays pending.
pub fn signal_self(signal: i32) {
    // SAFETY: it takes numbers.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// Sends a signal to `child` if it is a child of ours that has not been waited for. May be called in a signal handler.
pub fn signal_child(child: i32, signal: i32) {
    if is_our_child(child) {
        let _ = kill(child, signal);
    }
}

/// Sends a signal to the process group of `leader` if that is a child of ours that has not been waited for.
pub fn signal_group(leader: i32, signal: i32) {
    if is_our_child(leader) {
        let _ = kill(-leader, signal);
    }
}

/// Returns true if this is the number of a child of ours that has not been waited for.
fn is_our_child(pid: i32) -> bool {
    let id = libc::id_t::try_from(pid).unwrap_or(0);
    // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until the call returns. The call only asks.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        id > 0 && libc::waitid(libc::P_PID, id, &raw mut info, flags) == 0
    }
}

/// Returns true if there is a process of any user with this number in our PID namespace.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // kill(2) takes a number that is not positive for a group. Signal 0 only asks.
    pid > 0 && kill(pid, 0).map_or_else(|error| error.raw_os_error() == Some(libc::EPERM), |()| true)
}

pub(super) fn kill(pid: libc::pid_t, signal: i32) -> io::Result<()> {
    // SAFETY: it takes numbers. Each caller has proved which process they belong to.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns true if a process is in our process group, so that each signal from the terminal reaches it, too. To pass on
/// such a signal would be a second Ctrl-C, which many programs take as "now, without cleaning up". May be called in a
/// signal handler.
pub(super) fn is_in_our_group(pid: libc::pid_t) -> bool {
    // SAFETY: both only ask.
    unsafe { libc::getpgid(pid) == libc::getpgrp() }
}

/// Ends this process by a signal, with its default action. If a command exits with 130 instead, a shell assumes that it
/// has handled the Ctrl-C, and goes on with the script. May be called in a signal handler.
pub fn die_of(signal: i32) {
    SignalAction::standard().install(signal);
    // SAFETY: it takes a number.
    unsafe { libc::raise(signal) };
}
