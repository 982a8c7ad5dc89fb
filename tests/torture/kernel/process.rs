//! Child processes: signals to them, and waits for their end.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::error::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: it takes numbers.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Returns the exit status of a child if it has ended: 128 + n after signal n.
pub(crate) fn try_wait(pid: i32) -> Option<i32> {
    wait_with_flags(pid, libc::WNOHANG)
}

/// Blocks until a child has ended, and returns its exit status.
pub(crate) fn wait(pid: i32) -> i32 {
    loop {
        if let Some(status) = wait_with_flags(pid, 0) {
            return status;
        }
    }
}

fn decode_status(status: libc::c_int) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

fn wait_with_flags(pid: i32, flags: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, flags | libc::__WALL) };
    if ended < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
        return Some(-1);
    }
    (ended == pid).then(|| decode_status(status))
}

/// Returns whether a child, which must not be reaped yet, ends within the time.
pub(crate) fn ends_within_time(pid: u32, patience: Duration) -> bool {
    // SAFETY: it takes numbers, and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(fd) = check(i32::try_from(fd).unwrap_or(-1)) else { return false };
    // SAFETY: it is new and open, and nothing else owns it.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let (seconds, nanos) = (patience.as_secs(), patience.subsec_nanos());
    let patience = libc::timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: i64::from(nanos) };
    // SAFETY: `poll` and `patience` live until the call returns.
    unsafe { libc::ppoll(&raw mut poll, 1, &raw const patience, ptr::null()) == 1 }
}

/// Reaps all children until `pid` ends, and returns the exit status of that one. The first process of a namespace does this.
pub(crate) fn reap_until(pid: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if ended == pid {
            return decode_status(status);
        }
        if ended < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            return 1;
        }
    }
}

/// Makes the kernel kill this process, also after an exec, when its parent ends.
pub(crate) fn end_with_parent() {
    // SAFETY: it takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Begins a new session, which neither Ctrl-C nor a hangup of the terminal reaches.
pub(crate) fn leave_terminal() {
    // SAFETY: it takes nothing.
    unsafe { libc::setsid() };
}

/// Ignores SIGTERM, also in programs that this process starts.
pub(crate) fn ignore_termination() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}
