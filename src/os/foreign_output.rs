//! Writes a message to the standard error of another process, for a watcher, which has no output of its own.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]
#![expect(clippy::disallowed_methods, reason = "copies a descriptor of another process: pidfd_getfd(2)")]

use super::poll::can_be_written;
use super::process_handle::Process;
use super::signal_action::{without_signal, without_size_signal};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

/// Writes a line to the standard error of process `pid`, which was opened as `process`. Returns false if that is not possible
/// without waiting, or would overwrite other output.
#[must_use]
pub fn write_to_stderr_of(pid: u32, process: &Process, line: &str) -> bool {
    let Ok(mut output) = copy_descriptor(process).or_else(|_| open_descriptor(pid)) else { return false };
    can_be_written(output.as_raw_fd(), Duration::ZERO)
        && without_size_signal(|| without_signal(libc::SIGPIPE, || output.write_all(line.as_bytes()))).is_ok()
}

/// Copies the descriptor, so that both processes write at the same position. Without root, the kernel may allow that only for
/// descendants.
fn copy_descriptor(process: &Process) -> io::Result<File> {
    copy_of_descriptor(process.descriptor(), libc::STDERR_FILENO).map(File::from)
}

#[cfg(linux)]
fn copy_of_descriptor(process: libc::c_int, fd: libc::c_int) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;

    // SAFETY: it takes numbers, and makes a descriptor or answers -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new, open, and has no other owner.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(linux))]
fn copy_of_descriptor(_process: libc::c_int, _fd: libc::c_int) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens the terminal, pipe or log again. In a regular file, that is only safe if the process appends.
fn open_descriptor(pid: u32) -> io::Result<File> {
    let path = format!("/proc/{pid}/fd/2");
    let kind = fs::metadata(&path)?.file_type();
    if !(kind.is_char_device() || kind.is_fifo() || kind.is_file() && appends(pid)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().append(true).custom_flags(flags).open(path)
}

fn appends(pid: u32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/2")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    i32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & libc::O_APPEND != 0)
}
