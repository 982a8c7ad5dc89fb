//! Leaving the caller: a process that is no longer a child of the caller, and has nothing of the caller's open.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

/// Closes every descriptor above stderr except these. Only a process that leaves its caller may do this: in the
/// foreground, an inherited descriptor may be the only one that keeps the caller's lock.
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
    // SAFETY: what is closed is not used by this process any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, and elsewhere.
    // SAFETY: it only asks.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let limit = i32::try_from(limit).unwrap_or(1024).min(65_536);
    for fd in first..=last.min(limit - 1) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Does `work` in a process that is nobody's child, in a session of its own, with standard input and output on
/// `/dev/null`, the directory `/`, signals as a process has them that nobody prepared, and without the `hidden`
/// variables, also for those who look at it from outside. It ends when `work` returns. Here it returns when that process
/// is there.
pub fn detached(hidden: &[&str], work: impl FnOnce()) -> io::Result<()> {
    // SAFETY: there is one thread, so the child may go on as we would.
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
            // Where SIGCHLD is ignored there is no status: the caller sees by other means if nothing comes.
            if done == first || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Ok(());
            }
        }
    }
    // SAFETY: we are the child and lead no group, and fork as above. A status has 8 bits, which is enough for errno.
    unsafe {
        libc::setsid();
        match libc::fork() {
            0 => {}
            -1 => libc::_exit(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)),
            _ => libc::_exit(0),
        }
    }
    standard_signals();
    for name in hidden {
        hide_variable(name);
    }
    quiet_stdio();
    let _ = std::env::set_current_dir("/");
    work();
    // SAFETY: it does not return; nothing of the caller's is to be run twice.
    unsafe { libc::_exit(0) }
}

/// Overwrites a variable where `/proc/PID/environ` shows it, and takes it out of the environment.
fn hide_variable(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: there is one thread; the value is a text of ours that ends in NUL, and nobody keeps a reference to it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            ptr::write_bytes(value, b' ', libc::strlen(value));
            libc::unsetenv(name.as_ptr());
        }
    }
}

/// Makes those whose parent ends below us our children (Linux), so that they can be found, and ended with the rest.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes numbers.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}

/// Writes all of it to standard output or error (1 or 2); no more of it if a signal came, or it cannot be written.
pub fn write_until_signal(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty()
        && let Ok(written @ 1..) = write_some(fd, bytes)
    {
        bytes = &bytes[written..];
    }
}

/// Writes as much as goes to standard output or error (1 or 2) with one call; nothing, if a signal came.
pub fn write_some(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live until the call returns.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    let Err(error) = usize::try_from(written).map_err(|_| io::Error::last_os_error()) else {
        return Ok(written.cast_unsigned());
    };
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(0),
        io::ErrorKind::WouldBlock => {
            // Somebody made it so for all who share it.
            let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one element, which lives until the call returns.
            unsafe { libc::poll(&raw mut poll, 1, -1) };
            Ok(0)
        }
        _ => Err(error),
    }
}

/// All signals do what they do by themselves, and none is blocked.
fn standard_signals() {
    // SAFETY: all bytes zero are valid for these types (SIG_DFL is zero), and they live until each call returns.
    unsafe {
        let standard: libc::sigaction = mem::zeroed();
        // Numbers that cannot be set or do not exist are refused, which is fine.
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const standard, ptr::null_mut());
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Puts `/dev/null` in the place of standard input and output.
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

/// Puts files in the place of standard output and standard error.
pub fn redirect_output(out: &File, err: &File) -> io::Result<()> {
    for (file, fd) in [(out, libc::STDOUT_FILENO), (err, libc::STDERR_FILENO)] {
        // SAFETY: both are open.
        if unsafe { libc::dup2(file.as_raw_fd(), fd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
