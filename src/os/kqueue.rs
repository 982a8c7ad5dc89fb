//! kqueue(2): events of files and processes on macOS and FreeBSD. [`FileWatch`](super::FileWatch), [`DirectoryWatch`](super::DirectoryWatch)
//! and the handles of processes use it where Linux has inotify(7) and pidfds.
//!
//! The descriptor of a queue becomes readable when an event is pending, so poll(2) can wait for several queues. A child does not inherit
//! a queue.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// The changes of a file that are reported: its name, its number of names, and its content. macOS also reports the release of a lock, and
/// FreeBSD each close.
#[cfg(target_os = "macos")]
const FILE_CHANGES: u32 = CHANGES | libc::NOTE_FUNLOCK;
#[cfg(target_os = "freebsd")]
const FILE_CHANGES: u32 = CHANGES | libc::NOTE_CLOSE | libc::NOTE_CLOSE_WRITE;

const CHANGES: u32 = libc::NOTE_DELETE | libc::NOTE_WRITE | libc::NOTE_RENAME | libc::NOTE_LINK | libc::NOTE_REVOKE;

/// The access with which a watched file is opened. That of macOS does not keep its volume from being unmounted.
#[cfg(target_os = "macos")]
const ACCESS: libc::c_int = libc::O_EVTONLY;
#[cfg(target_os = "freebsd")]
const ACCESS: libc::c_int = libc::O_RDONLY;

/// A queue of events.
#[derive(Debug)]
pub(super) struct Queue {
    descriptor: OwnedFd,
    /// The files that are watched. Each must stay open.
    files: Vec<File>,
}

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: it makes a descriptor, or answers -1.
        let fd = unsafe { libc::kqueue() };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        super::descriptor::keep_back(fd);
        // SAFETY: the descriptor is new, open, and has no other owner.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(fd) }, files: Vec::new() })
    }

    /// Reports the end of a process. Fails with `ESRCH` if it has ended.
    pub(super) fn add_process(&self, pid: libc::pid_t) -> io::Result<()> {
        let ident = usize::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        self.add(ident, libc::EVFILT_PROC, libc::NOTE_EXIT)
    }

    /// Reports changes of the file or directory that is at `path` now. Does nothing if it is watched already.
    pub(super) fn add_path(&mut self, path: &Path) -> io::Result<()> {
        // The access of macOS is none of those that `OpenOptions` knows. O_NONBLOCK: opening a FIFO could block.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | ACCESS).open(path)?;
        self.add_file(file)
    }

    /// Reports changes of an open file.
    pub(super) fn add_file(&mut self, file: File) -> io::Result<()> {
        let numbers = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        let new = numbers(&file)?;
        if self.files.iter().any(|known| numbers(known).is_ok_and(|known| known == new)) {
            return Ok(());
        }
        let ident = usize::try_from(file.as_raw_fd()).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        self.add(ident, libc::EVFILT_VNODE, FILE_CHANGES)?;
        self.files.push(file);
        Ok(())
    }

    fn add(&self, ident: usize, filter: i16, changes: u32) -> io::Result<()> {
        // SAFETY: all bytes zero are a valid `kevent`.
        let mut change: libc::kevent = unsafe { mem::zeroed() };
        change.ident = ident;
        change.filter = filter;
        change.flags = libc::EV_ADD | libc::EV_CLEAR;
        change.fflags = changes;
        // SAFETY: one change, which lives until the call returns; no event is asked for.
        let done =
            unsafe { libc::kevent(self.descriptor.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes the next event. Returns false if there is none within the limit, or if a signal comes.
    pub(super) fn take(&self, limit: Duration) -> bool {
        // SAFETY: all bytes zero are a valid `kevent`.
        let mut event: libc::kevent = unsafe { mem::zeroed() };
        let limit = libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i32::MAX.into()),
            tv_nsec: limit.subsec_nanos().into(),
        };
        // SAFETY: no change; room for one event; all live until the call returns.
        let count =
            unsafe { libc::kevent(self.descriptor.as_raw_fd(), ptr::null(), 0, &raw mut event, 1, &raw const limit) };
        count > 0
    }

    /// Takes all events that are pending.
    pub(super) fn clear(&self) {
        while self.take(Duration::ZERO) {}
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Returns a descriptor that becomes readable when the process ends, as a pidfd does.
pub(super) fn open_process(pid: libc::pid_t) -> io::Result<OwnedFd> {
    let queue = Queue::new()?;
    queue.add_process(pid)?;
    Ok(queue.descriptor)
}
