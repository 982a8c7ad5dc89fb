//! Locks that another process holds, and the number of their waiters.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::scene::Root;
use crate::{cleanup, pipe};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A process that holds a lock on demand (`c/holder.c`).
pub(super) struct Holder {
    pipes: RefCell<(ChildStdin, ChildStdout)>,
    file: LockFile,
    child: Child,
}

impl Holder {
    /// Starts the process, which does not hold the lock yet.
    pub(super) fn new(root: &Root, name: &str) -> Self {
        let mut command = root.holder(name).command();
        let mut child = cleanup::start_child(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let pipes = RefCell::new((child.stdin.take().unwrap(), child.stdout.take().unwrap()));
        Self { pipes, file: LockFile::at(&root.lock_file(name)), child }
    }

    /// Acquires the lock, which must be free.
    pub(super) fn lock(&self) {
        self.send(b'l');
    }

    /// Releases the lock, and returns the time at which the release began.
    pub(super) fn release(&self) -> i64 {
        self.send(b'u')
    }

    /// Counts the processes that wait for the lock in the kernel.
    pub(super) fn count_waiters(&self) -> usize {
        self.file.count_waiters()
    }

    fn send(&self, what: u8) -> i64 {
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        stdin.write_all(&[what]).unwrap();
        let mut time = [0; 8];
        assert_eq!(pipe::read(stdout, &mut time, "the holder"), time.len(), "the lock is not free");
        i64::from_ne_bytes(time)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A lock file on a descriptor that all children inherit.
pub(super) struct SharedDescriptor(OwnedFd);

impl SharedDescriptor {
    /// Opens the file on descriptor 200, as scripts do.
    pub(super) fn open(path: &Path) -> Self {
        Self::open_on(200, path)
    }

    /// Opens the file on a descriptor that is not open yet.
    pub(super) fn open_on(fd: RawFd, path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: the descriptor is not open yet, and nothing else owns it afterwards.
        Self(unsafe {
            assert_eq!(libc::dup2(file.as_raw_fd(), fd), fd);
            OwnedFd::from_raw_fd(fd)
        })
    }

    pub(super) fn lock(&self) {
        // SAFETY: the descriptor is open as long as `self` lives.
        assert_eq!(unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    }

    pub(super) fn release(&self) {
        // SAFETY: the descriptor is open as long as `self` lives.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

pub(super) struct LockFile {
    inode: u64,
}

impl LockFile {
    pub(super) fn at(path: &Path) -> Self {
        Self { inode: fs::metadata(path).unwrap().ino() }
    }

    /// Counts the processes that wait for the lock in the kernel.
    pub(super) fn count_waiters(&self) -> usize {
        let end = format!(":{}", self.inode);
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waits = |line: &&str| {
            let mut words = line.split_whitespace();
            words.nth(1) == Some("->") && words.nth(4).is_some_and(|file| file.ends_with(&end))
        };
        locks.lines().filter(waits).count()
    }
}
