//! Locks that others hold, and who waits for them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::call::float;
use crate::scene::Root;
use crate::{ending, pipe};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A process of its own that can hold a lock (`c/holder.c`).
pub(super) struct Holder {
    pipes: RefCell<(ChildStdin, ChildStdout)>,
    file: LockFile,
    child: Child,
}

impl Holder {
    /// It does not hold it yet.
    pub(super) fn new(root: &Root, name: &str) -> Self {
        let mut command = root.holder(name).command();
        let mut child = ending::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let pipes = RefCell::new((child.stdin.take().unwrap(), child.stdout.take().unwrap()));
        Self { pipes, file: LockFile::at(&root.lock_file(name)), child }
    }

    /// It must be free.
    pub(super) fn lock(&self) {
        self.ask(b'l');
    }

    /// When it began to.
    pub(super) fn release(&self) -> i64 {
        self.ask(b'u')
    }

    /// How many are blocked in the kernel for it.
    pub(super) fn waiters(&self) -> usize {
        self.file.waiters()
    }

    fn ask(&self, what: u8) -> i64 {
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

/// A lock file on our descriptor 200, which all that we start inherit.
pub(super) struct On200(OwnedFd);

impl On200 {
    /// Not locked yet.
    pub(super) fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        // SAFETY: 200 is not open yet, and is nobody else's afterwards.
        Self(unsafe {
            assert_eq!(libc::dup2(file.as_raw_fd(), 200), 200);
            OwnedFd::from_raw_fd(200)
        })
    }

    pub(super) fn release(&self) {
        // SAFETY: the descriptor is open as long as we are.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// A lock file.
pub(super) struct LockFile {
    inode: u64,
}

impl LockFile {
    pub(super) fn at(path: &Path) -> Self {
        Self { inode: fs::metadata(path).unwrap().ino() }
    }

    /// How many are blocked in the kernel for it.
    pub(super) fn waiters(&self) -> usize {
        let end = format!(":{}", self.inode);
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waits = |line: &&str| {
            let mut words = line.split_whitespace();
            words.nth(1) == Some("->") && words.nth(4).is_some_and(|file| file.ends_with(&end))
        };
        locks.lines().filter(waits).count()
    }
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn now() -> i64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// How much processor time a process has had, in microseconds: all its threads, to the nanosecond.
pub(super) fn processor_time(pid: u32) -> f64 {
    let mut id: libc::clockid_t = 0;
    // SAFETY: the number lives until the call returns.
    let found = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut id) };
    assert_eq!(found, 0, "a process has ended that was to wait");
    float(clock(id)) / 1e3
}

fn clock(id: libc::clockid_t) -> i64 {
    // SAFETY: all bytes zero are a valid time, which lives until the call returns.
    unsafe {
        let mut time: libc::timespec = mem::zeroed();
        assert_eq!(libc::clock_gettime(id, &raw mut time), 0);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}
