//! Locks of fcntl(2) on whole files (`lock --file F --fcntl`), for files that other programs lock with POSIX locks: dpkg, apt, certbot,
//! `SQLite`, lockf(3).
//!
//! # The kind of the lock
//!
//! fcntl(2) has two kinds of locks, which exclude each other. A POSIX lock (`F_SETLK`) belongs to a process: a child does not inherit it,
//! and it is released when the process closes any descriptor of the file. So a helper cannot leave it to its script. A lock of the open
//! file description (`F_OFD_SETLK`) belongs to all copies of a descriptor, like one of flock(2). So this is the kind that is acquired
//! here, and all rules for descriptors stay the same: a command and its children inherit the lock, a script keeps it on the descriptor
//! that the helper locked, and it ends with the last copy.
//!
//! The lock covers the file from byte 0 to the end, however long the file becomes. So it conflicts with a lock on any part of
//! the file: dpkg locks the whole file, `SQLite` some bytes from 0x40000000 on.
//!
//! # The file
//!
//! The file belongs to other programs. Its content decides nothing and does not change. A file that does not exist is
//! created empty, as by `lock --file` and flock(1): certbot removes its file at each release, so a call that refused to
//! create the file could exclude certbot only while it runs. After the grant, the path must still lead to the file.
//!
//! The policies (`--slots`, `--priority`, `--coalesce`, `--replace`, the order of shared waiters) lock bytes of a file in addition
//! to flock(2) (`os/bytes.rs`). A lock of the whole file covers these bytes, so a caller with `--fcntl` uses none of
//! them. `--max-time` needs the process that acquired a lock, which the kernel does not name for this kind. `unlock --file F --kill` ends all
//! holders that it sees (`kill/kind.rs`).
//!
//! # Holders, waiters and owners
//!
//! - `F_OFD_GETLK` names the process of a POSIX lock. The holders of the other kind are found in `/proc/PID/fdinfo`
//!   ([`ranges`](super::holders::ranges)).
//! - A waiter sleeps in `F_OFD_SETLKW`, under the same timer and with the same second thread as one in flock(2). The lock table
//!   does not name it, so it has no position, and `status` does not list it.
//! - The kernel searches for deadlocks only among POSIX locks. A wait for a lock that an ancestor holds, which waits for this process,
//!   is found by the [detector](super::deadlock::detector).
//! - The owner of the description (`F_SETOWN`) is the process for which the lock was acquired, because there is no record. So a nested
//!   call on an inherited descriptor is granted ([`ownership`](super::ownership)).

use crate::base::target::Target;
use crate::lock::error::{FcntlMistake, LockError};
use crate::os::{self, Mode};
use std::fs::File;
use std::io;

/// The first byte of the lock, and its length: the whole file.
pub(super) const WHOLE_FILE: (u64, u64) = (0, 0);

/// Acquires the lock of `target`, which is open as `file`, if it is free.
pub(super) fn try_lock(file: &File, target: &Target, mode: Mode) -> Result<bool, LockError> {
    let (start, len) = WHOLE_FILE;
    os::try_lock_range(file, mode, start, len).map_err(|source| cannot_lock(target, source))
}

/// Blocks until the lock is acquired, or until a signal comes.
pub(super) fn wait_lock(file: &File, mode: Mode) -> io::Result<()> {
    let (start, len) = WHOLE_FILE;
    os::wait_lock_range(file, mode, start, len)
}

/// Releases the lock.
pub(super) fn unlock(file: &File) -> io::Result<()> {
    let (start, len) = WHOLE_FILE;
    os::unlock_range(file, start, len)
}

/// Returns the error for a file that cannot be locked, because the call failed with `source`.
pub(super) fn cannot_lock(target: &Target, source: io::Error) -> LockError {
    let mistake = match source.raw_os_error() {
        Some(libc::EBADF) if target.path.is_dir() => FcntlMistake::Directory,
        Some(libc::EBADF) => FcntlMistake::NotWritable,
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP) => {
            FcntlMistake::FileSystem(os::file_system(&target.path))
        }
        _ if source.kind() == io::ErrorKind::Unsupported => FcntlMistake::FileSystem("this system".to_owned()),
        _ => return LockError::cannot_lock(&target.path, source),
    };
    LockError::Fcntl { label: target.label.clone(), path: target.path.clone(), mistake }
}

/// Converts the error of a file that could not be opened. The general hint, to change the mode of the file, does not fit a file of
/// another program.
pub(super) fn explain_open_error(error: LockError, target: &Target) -> LockError {
    match error {
        LockError::Open { path, owner: Some(owner), source } if source.kind() == io::ErrorKind::PermissionDenied => {
            LockError::Fcntl { label: target.label.clone(), path, mistake: FcntlMistake::Denied { owner } }
        }
        error => error,
    }
}
