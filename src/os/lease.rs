//! Having a file to oneself (fcntl(2), leases).

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::File;
use std::io;

/// Takes the file for ourselves until `file` is closed. `false`: another process has it open, whoever's and wherever it
/// is.
///
/// Who opens it meanwhile waits until we close it; with `O_NONBLOCK` that is [`io::ErrorKind::WouldBlock`]. The kernel
/// lets them go on after a while all the same (`/proc/sys/fs/lease-break-time`, 45 s). Only the owner of a file, and
/// root, may do this, and not every file system can (NFS cannot).
#[cfg(target_os = "linux")]
pub fn be_alone(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let fd = file.as_raw_fd();
    // We are told of each who waits, by a signal whose default would end us: SIGURG does nothing by itself. SAFETY: it
    // sets a number of a descriptor that is open.
    if unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Of fcntl(2); libc does not define it for every system.
#[cfg(target_os = "linux")]
pub(super) const F_SETSIG: libc::c_int = 10;

/// Elsewhere there is no such thing.
#[cfg(not(target_os = "linux"))]
pub fn be_alone(_: &File) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}
