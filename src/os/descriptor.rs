//! File descriptors: duplicates, inheritance by commands, and the owner of an open file description.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Opens `/dev/null` on each of the descriptors 0 to 2 that is closed: else the next file that we open would get that
/// number, and a message would be written into a lock file. A command finds them closed, as they were.
pub fn fill_standard_descriptors() {
    for fd in 0..=2 {
        // SAFETY: F_GETFD only asks.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // SAFETY: a constant path that ends in NUL. The lowest free number is `fd`.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// A second descriptor of the open file description behind `fd`. `None`: `fd` is not open.
///
/// Closing the second one releases nothing as long as the first is open.
#[must_use]
pub fn second_descriptor(fd: RawFd) -> Option<File> {
    if fd < 0 {
        return None;
    }
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return None;
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    Some(File::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Gives `file` to the commands that we start, on descriptor `lowest` or the next that is free above it, or on the
/// number that it has where the limit of descriptors does not allow that. Returns the number.
///
/// Scripts use the low numbers as they please (`exec 3>log`), and would drop the lock.
pub fn hand_down(file: &File, lowest: RawFd) -> io::Result<RawFd> {
    let fd = file.as_raw_fd();
    // SAFETY: F_DUPFD makes a new descriptor without FD_CLOEXEC, or answers -1.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD, lowest) };
    if high >= 0 {
        return Ok(high);
    }
    share(file).map(|()| fd)
}

/// Makes room for descriptors up to `highest`. In a process with threads the kernel takes milliseconds for that (it
/// waits for a grace period of RCU), in one without nearly no time.
pub fn make_room(file: &File, highest: RawFd) {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if fd >= 0 {
        // SAFETY: the descriptor is new, open, and nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The descriptors above 2 that this process inherited: our own are closed when we become another program.
#[must_use]
pub fn inherited_descriptors() -> Vec<RawFd> {
    let entries = fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let fds = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // SAFETY: F_GETFD only asks.
    fds.filter(|fd| *fd > 2 && unsafe { libc::fcntl(*fd, libc::F_GETFD) } == 0).collect()
}

/// Makes process `pid` the owner of the open file description (`F_SETOWN`), for all copies of the descriptor. 0: none.
pub fn set_owner(file: &File, pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: it takes numbers. No signal is sent to the owner unless a process asks for that (`O_ASYNC`).
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, pid) };
    }
}

/// The owner of the open file description. `None`: it has none, that has ended, or it is of another pid namespace.
#[must_use]
pub fn owner(file: &File) -> Option<u32> {
    // SAFETY: it only asks.
    let owner = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETOWN) };
    u32::try_from(owner).ok().filter(|pid| *pid != 0)
}

/// The descriptor `fd` that our caller has open, without a copy of it. `None`: it is not open.
#[must_use]
pub fn callers_descriptor(fd: RawFd) -> Option<ManuallyDrop<File>> {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // What `fill_standard_descriptors` put there is ours. (What is handed down by exec cannot have this flag.)
    if flags < 0 || (fd <= 2 && flags & libc::FD_CLOEXEC != 0) {
        return None;
    }
    // SAFETY: it is open, and this is not dropped, so it is not closed.
    Some(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
}

/// Gives `file` to the commands that we start, on the number that it has.
pub fn share(file: &File) -> io::Result<()> {
    // SAFETY: F_SETFD sets one flag of a descriptor that is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has reading and writing of a file wait that was opened with `O_NONBLOCK`, and with none of the flags that can be
/// changed beside it.
pub fn let_wait(file: &File) {
    // SAFETY: F_SETFL sets flags of a descriptor that is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) };
}

/// Keeps descriptor `fd` from the commands that we start.
pub fn keep_back(fd: RawFd) {
    // SAFETY: F_SETFD sets one flag, or answers -1 for one that is not open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}
