//! Sends signals. The whole program sends them from here, and a lint forbids `kill(2)` and its relatives in every other file.
//!
//! A number alone does not identify a process: the kernel may have given it to another process since. So a signal goes to
//!
//! - a process that was opened and compared first ([`Process`](super::process_handle::Process)), or
//! - a child of this process that was not waited for yet ([`signal_child`], [`signal_group`]): the kernel does not reuse the
//!   number of such a child.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]
#![expect(clippy::disallowed_methods, reason = "the only place that sends signals")]

use std::io;
use std::mem;
use std::ptr;

/// Sends a signal to a child of ours that was not waited for yet, and to no other process. May be called in a signal
/// handler.
pub fn signal_child(child: i32, signal: i32) {
    if is_our_child(child) {
        let _ = kill(child, signal);
    }
}

/// Sends a signal to the process group that is led by a child of ours that was not waited for yet.
pub fn signal_group(leader: i32, signal: i32) {
    if is_our_child(leader) {
        let _ = kill(-leader, signal);
    }
}

/// Returns true if this is the number of a child that was not waited for yet: that number is not given to another process.
fn is_our_child(pid: i32) -> bool {
    let Ok(id) = libc::id_t::try_from(pid) else { return false };
    // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until the call returns. The call only asks.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        id > 0 && libc::waitid(libc::P_PID, id, &raw mut info, flags) == 0
    }
}

/// Returns true if there is a process with this number in our PID namespace, whichever user it belongs to.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // A number that is not positive would mean a group. Signal 0 only asks.
    pid > 0 && kill(pid, 0).map_or_else(|error| error.raw_os_error() == Some(libc::EPERM), |()| true)
}

pub(super) fn kill(pid: libc::pid_t, signal: i32) -> io::Result<()> {
    // SAFETY: it takes numbers. Each caller has proved whose they are.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Dies of a signal, as if it had never been noticed. A shell whose command merely ends with 130 takes it that the command has dealt with the Ctrl-C, and
/// goes on with the script.
pub fn die_of(signal: i32) {
    // SAFETY: all bytes zero are valid for these types (SIG_DFL is zero), and they live until each call returns.
    unsafe {
        let standard: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, &raw const standard, ptr::null_mut());
        libc::raise(signal);
    }
}
