//! Waits with poll(2): until one of several processes ends, or until a descriptor can be written.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::process_handle::Process;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Waits until a descriptor can be written without blocking, for at most `limit`, and returns true if it can, or if
/// that is not known. A signal ends the wait; then this function tests once more without waiting.
#[must_use]
pub fn can_be_written(fd: RawFd, limit: Duration) -> bool {
    let mut polled = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one element, which lives until the call returns.
    let mut wait = |limit| unsafe { libc::poll(&raw mut polled, 1, limit) };
    match wait(limit) {
        -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => wait(0) > 0,
        ready => ready > 0,
    }
}

/// Waits until one of these processes has ended, for at most `limit`, or until a signal comes.
pub fn wait_for_any(processes: &[&Process], limit: Duration) {
    // poll(2) ignores a descriptor of -1.
    let poll = |process: &&Process| libc::pollfd { fd: process.descriptor(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = processes.iter().map(poll).collect();
    let number = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    let limit = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the vector has this many elements and lives until the call returns.
    unsafe { libc::poll(polled.as_mut_ptr(), number, limit) };
}
