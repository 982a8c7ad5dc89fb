//! `clock_gettime(2)` for static programs with musl: the first calls of a process are system calls.
//!
//! The function of musl reads the time from memory that the kernel shares with all processes (vdso(7)). That takes a fifteenth of
//! the time of a system call. But the first call searches the symbols of that memory, and touches six pages, which takes as long as
//! 20 system calls. Most calls of the helper ask for the time four times.
//!
//! The linker takes this function instead of the one of musl, which is a weak symbol.

#![expect(unsafe_code, reason = "replaces a function of the C library")]

use std::sync::atomic::{AtomicU32, Ordering};

/// The number of system calls after which a process uses the function of musl.
const FIRST: u32 = 16;

/// The number of calls so far.
static CALLS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    /// The function of musl.
    fn __clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int;
}

/// Writes the present time of `clock` to `time`.
// SAFETY: this has the signature and the effects of the function of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let calls = CALLS.load(Ordering::Relaxed);
    if calls >= FIRST {
        // SAFETY: the caller keeps the promises of this function.
        return unsafe { __clock_gettime(clock, time) };
    }
    // Threads may lose a count, which only means another system call.
    CALLS.store(calls + 1, Ordering::Relaxed);
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } == 0 { 0 } else { -1 }
}
