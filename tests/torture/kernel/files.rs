//! Locks on files, taken without the helper, and files in memory.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::error::check;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Tries to acquire an exclusive flock(2) lock, without a wait.
pub(crate) fn try_flock(file: &File) -> bool {
    // SAFETY: the descriptor is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Releases the flock(2) lock, for all copies of the descriptor.
pub(crate) fn unflock(file: &File) {
    // SAFETY: the descriptor is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// A description of the whole file, for fcntl(2).
fn describe_whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: all bytes zero are a valid range, which covers the whole file.
    let mut range: libc::flock = unsafe { mem::zeroed() };
    range.l_type = libc::c_short::try_from(kind).unwrap();
    range
}

/// Tries to acquire a write lock of fcntl(2), which belongs to the open file description, without a wait. The file must be open
/// for writing.
pub(crate) fn try_lock_range(file: &File) -> bool {
    let range = describe_whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is open, and the range lives until the call returns.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) == 0 }
}

/// Releases the fcntl(2) lock, for all copies of the descriptor.
pub(crate) fn unlock_range(file: &File) {
    let range = describe_whole_file(libc::F_UNLCK);
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
}

/// Returns whether another open file description holds an fcntl(2) lock on the file.
pub(crate) fn is_range_locked(file: &File) -> bool {
    let mut range = describe_whole_file(libc::F_WRLCK);
    // SAFETY: as above; the kernel writes the conflicting lock into the range.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) };
    libc::c_int::from(range.l_type) != libc::F_UNLCK
}

/// A lock of fcntl(2) that another open file description or process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteLock {
    pub(crate) is_shared: bool,
    /// The first byte after the locked ones, or `None` if all others are locked, too.
    pub(crate) end: Option<i64>,
}

/// Returns a lock on `len` bytes of the file, if there is one. A length of 0 means all bytes from `start` on.
pub(crate) fn find_byte_lock(file: &File, start: i64, len: i64) -> Option<ByteLock> {
    let mut range = describe_whole_file(libc::F_WRLCK);
    (range.l_start, range.l_len) = (start, len);
    // SAFETY: as above; the kernel writes the conflicting lock into the range.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) };
    let kind = libc::c_int::from(range.l_type);
    let end = (range.l_len > 0).then(|| range.l_start + range.l_len);
    (kind != libc::F_UNLCK).then_some(ByteLock { is_shared: kind == libc::F_RDLCK, end })
}

/// Creates a file in memory, for the output of a process: unlike a pipe, it needs no reader.
pub(crate) fn create_memory_file() -> io::Result<File> {
    // SAFETY: the name ends in NUL; the descriptor is new, or -1.
    let fd = check(unsafe { libc::memfd_create(c"torture".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: it is new and open, and nothing else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
