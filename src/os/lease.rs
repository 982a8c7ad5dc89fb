//! Leases of files (fcntl(2)): a proof that no other process has a file open. `clean` needs it before it removes a
//! file. A lease of another process keeps this one from opening the file.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Returns true if a lease of another process keeps this one from opening the file at `path`. The attempt makes the kernel end the
/// lease after a time (`/proc/sys/fs/lease-break-time`, 45 s).
#[must_use]
pub fn is_leased(path: &Path) -> bool {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let open = |is_writable| OpenOptions::new().read(true).write(is_writable).custom_flags(flags).open(path);
    match open(true) {
        // A lock needs no right to write.
        Err(error) if !would_block(&error) => open(false).is_err_and(|error| would_block(&error)),
        opened => opened.is_err(),
    }
}

/// Takes a write lease on the file until `file` is closed. Returns false if another process, of any user and in any
/// namespace, has the file open.
///
/// A process that opens the file later waits until this process closes it; with `O_NONBLOCK` it fails with
/// [`io::ErrorKind::WouldBlock`]. After a time (`/proc/sys/fs/lease-break-time`, 45 s) the kernel lets it continue
/// although the file is still open here. Only the owner of a file and root may take a lease, and some file systems,
/// such as NFS, have none.
#[cfg(linux)]
pub fn be_alone(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let fd = file.as_raw_fd();
    // The kernel signals each process that wants to open the file. The default signal, SIGIO, would end this process;
    // SIGURG does nothing by default. SAFETY: it sets a number of a descriptor that is open.
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

/// A command of fcntl(2), which libc does not define for every system.
#[cfg(linux)]
pub(super) const F_SETSIG: libc::c_int = 10;

/// Other systems have no leases.
#[cfg(not(linux))]
pub fn be_alone(_: &File) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}
