//! Locks of a part of a file (fcntl(2)): open file description locks, and locks that belong to this process.
//!
//! The functions `…_range` use the first kind. Like a lock of flock(2), such a lock belongs to the open file description: a process
//! that inherits the descriptor holds it, and it ends with the last copy of the descriptor. The functions `…_byte` and `…_bytes` use
//! the second kind. It is not inherited, and ends with the process, or when the process closes any descriptor of the file. Locks of
//! both kinds exclude each other.
//!
//! Unlike a lock of flock(2), these locks cover a range of bytes, and on a local file system they and flock(2) do not exclude each
//! other. An exclusive lock needs a descriptor that is open for writing, a shared one a descriptor that is open for reading.
//!
//! A range is given as `start` and `len`, both in bytes; a `len` of 0 means "to the end, wherever that will be".

#[cfg(linux)]
pub use linux::{
    range_in_the_way, try_lock_byte, try_lock_range, unlock_byte, unlock_bytes, unlock_range, wait_lock_byte,
    wait_lock_bytes, wait_lock_range,
};
#[cfg(not(linux))]
pub use none::{
    range_in_the_way, try_lock_byte, try_lock_range, unlock_byte, unlock_bytes, unlock_range, wait_lock_byte,
    wait_lock_bytes, wait_lock_range,
};

use super::bytes::FIRST_TICKET;
use super::flock::Mode;

/// A lock that another open file description or another process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeLock {
    pub mode: Mode,
    /// The first byte.
    pub start: u64,
    /// The number of bytes; 0 means "to the end".
    pub len: u64,
    /// The process that holds it. `None` if it belongs to an open file description, or if the process is not visible
    /// from this PID namespace.
    pub pid: Option<u32>,
}

impl RangeLock {
    /// Returns the ticket of the caller with `--replace` that holds this lock. `None`: it is another lock.
    #[must_use]
    pub fn ticket(&self) -> Option<u64> {
        let is_ticket =
            self.pid.is_none() && self.mode == Mode::Exclusive && self.start >= FIRST_TICKET && self.len > 0;
        is_ticket.then(|| self.start + (self.len - 1))
    }
}

#[cfg(linux)]
mod linux {
    #![expect(unsafe_code, reason = "calls into libc, each with its reason")]

    use super::{Mode, RangeLock};
    use std::fs::File;
    use std::io;
    use std::mem;
    use std::os::fd::AsRawFd;

    /// Locks the range if it is free. Returns false if another lock covers part of it.
    pub fn try_lock_range(file: &File, mode: Mode, start: u64, len: u64) -> io::Result<bool> {
        match call_again(file, libc::F_OFD_SETLK, &mut asked(kind(mode), start, len)?) {
            Ok(()) => Ok(true),
            // POSIX allows both, and NFS uses both.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Blocks until the range is locked, or until a signal comes ([`io::ErrorKind::Interrupted`]).
    pub fn wait_lock_range(file: &File, mode: Mode, start: u64, len: u64) -> io::Result<()> {
        call(file, libc::F_OFD_SETLKW, &mut asked(kind(mode), start, len)?)
    }

    /// Releases the range for all duplicates of the descriptor.
    pub fn unlock_range(file: &File, start: u64, len: u64) -> io::Result<()> {
        call_again(file, libc::F_OFD_SETLK, &mut asked(libc::F_UNLCK, start, len)?)
    }

    /// Returns a lock that excludes this one. `None` if the range is free.
    pub fn range_in_the_way(file: &File, mode: Mode, start: u64, len: u64) -> io::Result<Option<RangeLock>> {
        let mut lock = asked(kind(mode), start, len)?;
        call_again(file, libc::F_OFD_GETLK, &mut lock)?;
        if libc::c_int::from(lock.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        let mode = if libc::c_int::from(lock.l_type) == libc::F_RDLCK { Mode::Shared } else { Mode::Exclusive };
        let pid = u32::try_from(lock.l_pid).ok().filter(|pid| *pid > 0);
        Ok(Some(RangeLock { mode, start: lock.l_start.cast_unsigned(), len: lock.l_len.cast_unsigned(), pid }))
    }

    // The next functions are for locks that belong to this process (see `KeptFile`). The lock table names the processes that hold such
    // a lock or wait for it.

    /// Locks one byte for this process if it is free. Returns false if another lock covers it.
    pub fn try_lock_byte(file: &File, byte: u64) -> io::Result<bool> {
        match call_again(file, libc::F_SETLK, &mut asked(libc::F_WRLCK, byte, 1)?) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Blocks until one byte is locked for this process, or until a signal comes ([`io::ErrorKind::Interrupted`]).
    pub fn wait_lock_byte(file: &File, byte: u64) -> io::Result<()> {
        wait_lock_bytes(file, Mode::Exclusive, byte, 1)
    }

    /// Blocks until some bytes are locked for this process, or until a signal comes ([`io::ErrorKind::Interrupted`]).
    pub fn wait_lock_bytes(file: &File, mode: Mode, start: u64, len: u64) -> io::Result<()> {
        call(file, libc::F_SETLKW, &mut asked(kind(mode), start, len)?)
    }

    /// Releases one byte that is locked for this process.
    pub fn unlock_byte(file: &File, byte: u64) -> io::Result<()> {
        unlock_bytes(file, byte, 1)
    }

    /// Releases the bytes of this part of the file that are locked for this process.
    pub fn unlock_bytes(file: &File, start: u64, len: u64) -> io::Result<()> {
        call_again(file, libc::F_SETLK, &mut asked(libc::F_UNLCK, start, len)?)
    }

    fn kind(mode: Mode) -> libc::c_int {
        match mode {
            Mode::Exclusive => libc::F_WRLCK,
            Mode::Shared => libc::F_RDLCK,
        }
    }

    /// Builds the argument of fcntl(2). Fails with [`io::ErrorKind::InvalidInput`] for a range that no file can have.
    fn asked(kind: libc::c_int, start: u64, len: u64) -> io::Result<libc::flock> {
        let number = |value: u64| libc::off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
        // SAFETY: all bytes zero are a valid `flock`. Its `l_pid` has to be zero.
        let mut lock: libc::flock = unsafe { mem::zeroed() };
        lock.l_type = libc::c_short::try_from(kind).unwrap_or_default();
        lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
        lock.l_start = number(start)?;
        lock.l_len = number(len)?;
        Ok(lock)
    }

    /// Makes a call that does not wait for a lock. On a network file system, a signal can interrupt it nevertheless.
    fn call_again(file: &File, what: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
        loop {
            match call(file, what, lock) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn call(file: &File, what: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
        // SAFETY: the descriptor is open, and `lock` lives until the call returns.
        if unsafe { libc::fcntl(file.as_raw_fd(), what, &raw mut *lock) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Other systems have no range locks that belong to an open file description. A lock that belongs to a process would be
/// released when any part of the process closes another descriptor of the file.
#[cfg(not(linux))]
mod none {
    use super::{Mode, RangeLock};
    use std::fs::File;
    use std::io;

    pub fn try_lock_range(_: &File, _: Mode, _: u64, _: u64) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn wait_lock_range(_: &File, _: Mode, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn unlock_range(_: &File, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn range_in_the_way(_: &File, _: Mode, _: u64, _: u64) -> io::Result<Option<RangeLock>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn try_lock_byte(_: &File, _: u64) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn wait_lock_byte(_: &File, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn wait_lock_bytes(_: &File, _: Mode, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn unlock_byte(_: &File, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn unlock_bytes(_: &File, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, linux))]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::path::Path;

    fn open(path: &Path) -> File {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("it can be opened")
    }

    #[test]
    fn two_descriptions_exclude_each_other_only_where_they_overlap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let (one, other) = (open(&path), open(&path));
        assert!(try_lock_range(&one, Mode::Exclusive, 10, 10).unwrap());
        assert!(!try_lock_range(&other, Mode::Exclusive, 19, 1).unwrap());
        assert!(!try_lock_range(&other, Mode::Shared, 0, 0).unwrap());
        assert!(try_lock_range(&other, Mode::Exclusive, 20, 0).unwrap());
        assert!(try_lock_range(&other, Mode::Shared, 0, 10).unwrap());
        assert!(try_lock_range(&one, Mode::Shared, 0, 10).unwrap());
        let found = range_in_the_way(&other, Mode::Exclusive, 12, 1).unwrap();
        assert_eq!(found, Some(RangeLock { mode: Mode::Exclusive, start: 10, len: 10, pid: None }));
        unlock_range(&one, 0, 0).unwrap();
        assert_eq!(range_in_the_way(&other, Mode::Exclusive, 12, 1).unwrap(), None);
        wait_lock_range(&other, Mode::Exclusive, 0, 0).unwrap();
        assert!(try_lock_range(&one, Mode::Shared, u64::MAX, 0).is_err());
    }

    #[test]
    fn a_copy_of_the_descriptor_keeps_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let (one, other) = (open(&path), open(&path));
        assert!(try_lock_range(&one, Mode::Exclusive, 0, 0).unwrap());
        let copy = one.try_clone().unwrap();
        // This would release a lock that belongs to the process.
        drop(one);
        assert!(!try_lock_range(&other, Mode::Shared, 0, 1).unwrap());
        drop(copy);
        assert!(try_lock_range(&other, Mode::Exclusive, 0, 0).unwrap());
    }
}
