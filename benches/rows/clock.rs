//! The monotonic clock, and the processor time of other processes.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::call::float;
use std::mem;

/// Returns the time of `CLOCK_MONOTONIC` in nanoseconds.
pub(super) fn now() -> i64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// Returns the processor time of all threads of a process, in microseconds, exact to the nanosecond.
pub(super) fn read_processor_time(pid: u32) -> f64 {
    let mut id: libc::clockid_t = 0;
    // SAFETY: the number lives until the call returns.
    let found = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut id) };
    assert_eq!(found, 0, "a process has ended that was to wait");
    float(read_clock(id)) / 1e3
}

fn read_clock(id: libc::clockid_t) -> i64 {
    // SAFETY: all bytes zero are a valid time, and `time` lives until the call returns.
    unsafe {
        let mut time: libc::timespec = mem::zeroed();
        assert_eq!(libc::clock_gettime(id, &raw mut time), 0);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}
