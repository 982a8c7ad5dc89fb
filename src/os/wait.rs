//! Waits for children (waitpid(2), waitid(2)) and decodes their statuses as shells do: the exit status, or 128 + n for
//! signal n. A child whose status is lost gets 127.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::io;
use std::mem;

/// Calls waitpid(2) once. Returns the raw status of the child, or `None` if it still runs and `flags` hold WNOHANG.
pub(super) fn wait_for_child(child: libc::pid_t, flags: libc::c_int) -> io::Result<Option<libc::c_int>> {
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    match unsafe { libc::waitpid(child, &raw mut status, flags) } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Some(status)),
    }
}

/// Decodes a raw status.
pub(super) fn decode_status(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Waits until `child` has ended, even if signals arrive, and returns its decoded status. With WNOHANG, returns `None` if
/// the child still runs.
pub(super) fn reap(child: libc::pid_t, flags: libc::c_int) -> Option<i32> {
    loop {
        match wait_for_child(child, flags) {
            Ok(status) => return status.map(decode_status),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Some(127),
        }
    }
}

/// Returns the decoded status of `child` if it has ended. Does not reap the child, so the kernel does not reuse its pid.
pub(super) fn peek_status(child: libc::pid_t) -> Option<i32> {
    // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until the call returns.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_PID, libc::id_t::try_from(child).unwrap_or(0), &raw mut info, flags) != 0 {
            return Some(127);
        }
        match info.si_code {
            // It still runs.
            _ if info.si_pid() == 0 => None,
            libc::CLD_EXITED => Some(info.si_status()),
            _ => Some(128 + info.si_status()),
        }
    }
}

/// Reaps the adopted children that have ended. Stops when `child` is the next one, which the caller reaps.
pub(super) fn reap_adopted(child: libc::pid_t) {
    loop {
        // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until each call returns.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            let found = libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0;
            if !found || info.si_pid() == 0 || info.si_pid() == child {
                return;
            }
            reap(info.si_pid(), libc::WNOHANG);
        }
    }
}
