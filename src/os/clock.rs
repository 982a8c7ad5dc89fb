//! The clock of start times in `/proc`: ticks since boot.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;

/// The clock that runs since boot, also while the machine is suspended.
#[cfg(target_os = "linux")]
const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(target_os = "freebsd")]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
/// macOS notes the start time of a process by the clock of the day. So the ticks begin with 1970 there.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
const CLOCK: libc::clockid_t = libc::CLOCK_REALTIME;

/// The number of clock ticks in a second.
#[cfg(not(linux))]
#[must_use]
pub fn ticks_per_second() -> u32 {
    100
}

/// The number of clock ticks in a second. The kernel passes it to each process. With `sysconf(3)`, musl reads a table, which is a page
/// fault.
#[cfg(linux)]
#[must_use]
pub fn ticks_per_second() -> u32 {
    // SAFETY: it takes a number, and returns 0 for a value that the kernel did not pass.
    let ticks = unsafe { libc::getauxval(libc::AT_CLKTCK) };
    u32::try_from(ticks).ok().filter(|&ticks| ticks > 0).unwrap_or(100)
}

/// The clock ticks since boot, including the time in which the machine was suspended.
#[must_use]
pub fn ticks_since_boot() -> u64 {
    // SAFETY: all bytes zero are a valid time, which lives until the call returns.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(CLOCK, &raw mut time);
        time
    };
    let ticks = u64::from(ticks_per_second());
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * ticks + nanoseconds / (1_000_000_000 / ticks)
}
