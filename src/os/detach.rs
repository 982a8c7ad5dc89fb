//! Starts detached processes, which are not children of the caller. The supervisor of a task and the keeper of a lease are
//! such processes.
//!
//! A detached process still has the descriptors of the caller, and must close them ([`close_inherited_except`]). Otherwise
//! it would keep the locks of the caller.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::proc::process;
use super::signal_action::SignalAction;
use super::signal_mask::SignalSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

/// Closes all descriptors above 2 except these. Only a detached process may do this: in the foreground, an inherited
/// descriptor can be the only one that keeps the lock of the caller.
pub fn close_inherited_except(kept: &[RawFd]) {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
}

#[expect(clippy::disallowed_methods, reason = "close_range(2)")]
fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: this process does not use these descriptors any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Linux before 5.9 and other systems have no close_range(2). SAFETY: the call only reads a limit.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let limit = i32::try_from(limit).unwrap_or(1024).min(65_536);
    for fd in first..=last.min(limit - 1) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Starts a detached process that runs `work` and then exits. Returns as soon as the process exists.
///
/// The process has a session of its own, standard input, output and error on `/dev/null`, the working directory `/`, and
/// the default signal actions. The `hidden` variables are removed from its environment, also from `/proc/PID/environ`.
pub fn detached(hidden: &[&str], work: impl FnOnce()) -> io::Result<()> {
    // SAFETY: this process has one thread, so no lock of the library is held by a thread that the child does not have.
    let first = unsafe { libc::fork() };
    if first < 0 {
        return Err(io::Error::last_os_error());
    }
    if first > 0 {
        let mut status = 0;
        loop {
            // SAFETY: `status` lives until the call returns.
            let done = unsafe { libc::waitpid(first, &raw mut status, 0) };
            if done == first && status != 0 {
                return Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(status)));
            }
            // If SIGCHLD is ignored, there is no status. The caller must then notice by other means that the process did
            // not start.
            if done == first || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Ok(());
            }
        }
    }
    // SAFETY: this is the child, which leads no group and has one thread. A status has 8 bits, which is enough for
    // errno.
    unsafe {
        libc::setsid();
        match libc::fork() {
            0 => {}
            -1 => libc::_exit(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)),
            _ => libc::_exit(0),
        }
    }
    process::forget_namespace();
    reset_signals();
    for name in hidden {
        hide_variable(name);
    }
    quiet_stdio();
    let _ = std::env::set_current_dir("/");
    work();
    // The process must not return into the code of the caller. SAFETY: the call does not return.
    unsafe { libc::_exit(0) }
}

/// Removes a variable from the environment, and overwrites its value in `/proc/PID/environ`.
fn hide_variable(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: there is one thread; the value is a text that ends in NUL, and there is no reference to it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            ptr::write_bytes(value, b' ', libc::strlen(value));
            libc::unsetenv(name.as_ptr());
        }
    }
}

/// Makes this process the parent of each descendant whose parent ends (Linux), so that it can find and end all of them.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // SAFETY: the arguments are numbers.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}

/// Gives all signals their default actions, and blocks none.
fn reset_signals() {
    let standard = SignalAction::standard();
    // The system refuses the numbers that do not exist or cannot be changed.
    for signal in 1..=64 {
        standard.install(signal);
    }
    SignalSet::new(&[]).restore();
}

/// Redirects standard input, output and error to `/dev/null`.
pub fn quiet_stdio() {
    // SAFETY: a constant path that ends in NUL; the numbers are those that every process has.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null >= 0 {
            for fd in 0..=2 {
                libc::dup2(null, fd);
            }
            if null > 2 {
                libc::close(null);
            }
        }
    }
}

/// Redirects standard output and standard error to files.
pub fn redirect_output(out: &File, err: &File) -> io::Result<()> {
    for (file, fd) in [(out, libc::STDOUT_FILENO), (err, libc::STDERR_FILENO)] {
        // SAFETY: both are open.
        if unsafe { libc::dup2(file.as_raw_fd(), fd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
