//! Running code while one signal is ignored.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::ptr;

/// Runs `write` so that a limit on the size of files (`ulimit -f`) is an error of it, and not the end of the process.
pub fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    without_signal(libc::SIGXFSZ, write)
}

/// Runs `write` while this signal is ignored.
pub(super) fn without_signal<T>(signal: libc::c_int, write: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut ignore, mut old): (libc::sigaction, libc::sigaction) = mem::zeroed();
        ignore.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(signal, &raw const ignore, &raw mut old);
        let done = write();
        libc::sigaction(signal, &raw const old, ptr::null_mut());
        done
    }
}
