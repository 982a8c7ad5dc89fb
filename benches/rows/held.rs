//! Locks that we hold ourselves, and who waits for them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::call::float;
use std::fs::{self, File};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An open lock file.
pub(super) struct Held {
    file: OwnedFd,
    inode: u64,
}

impl Held {
    /// Not locked yet.
    pub(super) fn open(path: &Path) -> Self {
        Self { file: File::open(path).unwrap().into(), inode: fs::metadata(path).unwrap().ino() }
    }

    /// On descriptor 200, which all that we start inherit. Not locked yet.
    pub(super) fn open_on_200(path: &Path) -> Self {
        let mut held = Self::open(path);
        // SAFETY: 200 is not open yet, and is nobody else's afterwards.
        held.file = unsafe {
            assert_eq!(libc::dup2(held.file.as_raw_fd(), 200), 200);
            OwnedFd::from_raw_fd(200)
        };
        held
    }

    /// It must be free.
    pub(super) fn lock(&self) {
        // SAFETY: the descriptor is open as long as we are.
        let done = unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        assert_eq!(done, 0, "the lock is not free");
    }

    /// When it began to.
    pub(super) fn release(&self) -> i64 {
        let now = now();
        // SAFETY: the descriptor is open as long as we are.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
        now
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
