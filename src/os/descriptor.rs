//! File descriptors: duplicates, inheritance by commands, and the owner of an open file description.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

#[cfg(linux)]
use super::directory::{Directory, EntryBuffer};
#[cfg(linux)]
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Opens `/dev/null` on each of the descriptors 0 to 2 that is closed. Otherwise the next file that this process opens
/// would get that number, and a message could be written into a lock file. Commands find them closed, as they were.
pub fn fill_standard_descriptors() {
    for fd in 0..=2 {
        // SAFETY: F_GETFD only asks.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // SAFETY: a constant path that ends in NUL. The lowest free number is `fd`.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// Duplicates `fd`. `None` if it is not open.
///
/// Closing the duplicate releases no lock as long as `fd` is open.
#[must_use]
pub fn second_descriptor(fd: RawFd) -> Option<File> {
    try_second_descriptor(fd).ok()
}

/// Does the same as [`second_descriptor`], and returns the reason if that fails: `EBADF` if `fd` is not open.
pub fn try_second_descriptor(fd: RawFd) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and has no other owner.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Duplicates `file` on descriptor `lowest` or the next free one above it, which commands inherit.
pub fn duplicate_for_children(file: &File, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD makes a new descriptor without FD_CLOEXEC, or answers -1.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, lowest) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the kernel extend the descriptor table to `highest`. This takes almost no time in a process with one thread,
/// and milliseconds in one with several, since the kernel then waits for an RCU grace period.
pub fn make_room(file: &File, highest: RawFd) {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if fd >= 0 {
        // SAFETY: the descriptor is new, open, and has no other owner.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The descriptors above 2 that this process inherited. They are those without the close-on-exec flag.
#[must_use]
pub fn inherited_descriptors() -> Vec<RawFd> {
    let mut inherited = Vec::new();
    list_descriptors(|fd| {
        // SAFETY: F_GETFD only asks.
        if fd > 2 && unsafe { libc::fcntl(fd, libc::F_GETFD) } == 0 {
            inherited.push(fd);
        }
    });
    inherited
}

/// Calls `visit` for each open descriptor, and for the one of the directory that lists them. A process that waits for a lock calls this,
/// so it makes few system calls.
#[cfg(linux)]
fn list_descriptors(mut visit: impl FnMut(RawFd)) {
    let number = |name: &CStr| name.to_str().ok()?.parse().ok();
    if let Ok(directory) = Directory::open(c"/proc/self/fd") {
        let _ =
            directory.for_each(&mut EntryBuffer::new_small(), |name, _| number(name).into_iter().for_each(&mut visit));
    }
}

/// Calls `visit` for each descriptor that is open on a file. `/dev/fd` of FreeBSD has only the first three.
#[cfg(not(linux))]
fn list_descriptors(mut visit: impl FnMut(RawFd)) {
    if let Ok(files) = super::proc::portable::list_open_files(std::process::id()) {
        return files.into_iter().for_each(|file| visit(file.number));
    }
    let entries = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).for_each(visit);
}

/// Makes process `pid` the owner of the open file description (`F_SETOWN`), for all its descriptors. 0 means no owner.
pub fn set_owner(file: &File, pid: u32) {
    // Other systems know an owner only for terminals and sockets.
    if cfg!(not(linux)) {
        return;
    }
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: it takes numbers. No signal is sent to the owner unless a process asks for that (`O_ASYNC`).
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, pid) };
    }
}

/// The owner of the open file description. `None` if it has none, or if the owner has ended or is in another PID
/// namespace.
#[must_use]
pub fn owner(file: &File) -> Option<u32> {
    if cfg!(not(linux)) {
        return None;
    }
    // SAFETY: it only asks.
    let owner = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETOWN) };
    u32::try_from(owner).ok().filter(|pid| *pid != 0)
}

/// Returns true if the open file description ever had an owner, even one that has ended. True if the system cannot say so.
#[must_use]
pub fn had_owner(file: &File) -> bool {
    #[cfg(linux)]
    {
        const F_GETOWN_EX: libc::c_int = 16;
        const F_OWNER_PID: libc::c_int = 1;
        // The kind of the owner, and its pid, or 0 if it has ended.
        let mut owner: [libc::c_int; 2] = [0; 2];
        // SAFETY: the kernel writes two numbers of this type.
        let asked = unsafe { libc::fcntl(file.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr()) };
        asked != 0 || owner[0] == F_OWNER_PID
    }
    #[cfg(not(linux))]
    {
        let _ = file;
        true
    }
}

/// The descriptor `fd` of the caller, without duplicating it. `None` if it is not open.
#[must_use]
pub fn callers_descriptor(fd: RawFd) -> Option<ManuallyDrop<File>> {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // A low descriptor with this flag was opened by `fill_standard_descriptors`, not by the caller: execve(2) closes
    // descriptors with the flag.
    if flags < 0 || (fd <= 2 && flags & libc::FD_CLOEXEC != 0) {
        return None;
    }
    // SAFETY: it is open, and `ManuallyDrop` does not close it.
    Some(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
}

/// Returns true if a write to `file` replaces bytes at its position: the file is open for writing, and not with
/// `O_APPEND`. With that flag, Linux appends the bytes of pwrite(2), too.
#[must_use]
pub fn can_overwrite(file: &File) -> bool {
    // SAFETY: F_GETFL only asks.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_APPEND == 0
}

/// Returns true if `file` is open for writing.
#[must_use]
pub fn is_writable(file: &File) -> bool {
    // SAFETY: F_GETFL only asks.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Hands `file` down to the commands that this process starts, on its present number.
pub fn share(file: &File) -> io::Result<()> {
    // SAFETY: F_SETFD sets one flag of a descriptor that is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes reads and writes of `file` block. The file was opened with `O_NONBLOCK` and no other flag that `F_SETFL`
/// changes.
pub fn let_wait(file: &File) {
    // SAFETY: F_SETFL sets flags of a descriptor that is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) };
}

/// Keeps descriptor `fd` from the commands that this process starts.
pub fn keep_back(fd: RawFd) {
    // SAFETY: F_SETFD sets one flag, or answers -1 for one that is not open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// The size of a pipe after [`enlarge_pipe`]: by default, the largest one that the kernel allows to users without privileges.
#[cfg(linux)]
const LARGE_PIPE: libc::c_int = 1 << 20;

/// Enlarges a pipe. Returns true if the pipe is large then.
#[cfg(linux)]
#[must_use]
pub fn enlarge_pipe(pipe: &File) -> bool {
    let fd = pipe.as_raw_fd();
    // SAFETY: both calls take numbers, and fail for other files than pipes.
    unsafe {
        let size = libc::fcntl(fd, libc::F_GETPIPE_SZ);
        size >= LARGE_PIPE || (size > 0 && libc::fcntl(fd, libc::F_SETPIPE_SZ, LARGE_PIPE) >= LARGE_PIPE)
    }
}

/// Other systems have no call for that.
#[cfg(not(linux))]
#[must_use]
pub fn enlarge_pipe(_: &File) -> bool {
    false
}
