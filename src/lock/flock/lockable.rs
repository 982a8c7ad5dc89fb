//! Locks as flock(1) takes them: on any file, directory or descriptor, without a holder record and without messages. `aba-lock
//! flock` and the SQLite store of the lock service use them.
//!
//! These locks work in three cases in which flock(1) does not:
//!
//! - An existing file is opened without `O_CREAT`, which the kernel refuses in some directories.
//! - If the file is removed during the wait, the file is created again and locked. If that fails, or if the path cannot be
//!   examined, [`Lockable::lock`] fails, because another process may hold a lock on a new file. It succeeds only if the
//!   directory was removed, too, because then no process can create the file.
//! - Opening a FIFO or a serial line does not block, nor a file on which another process has a lease (fcntl(2)): such a lease counts as
//!   a lock that the process holds.
//!
//! [`Lockable::lock`] does not search for deadlocks, and does not recognize nested calls: scripts that were written for
//! flock(1) expect to wait in these cases, and not to fail.
//!
//! The file is opened for reading, as by flock(1), so that a script can lock itself (a file that is open for writing
//! cannot be executed), and so that directories can be locked. It is opened for writing only if the system requires
//! that.

use super::byte_range::ByteRange;
use crate::base::target::{Kind, Wait};
use crate::lock::error::LockError;
use crate::lock::holders;
use crate::lock::open::open_in_turn;
use crate::lock::request::require_linux;
use crate::os::{self, Alarm, Mode};
use crate::store::creation;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Maximum number of times that the file is opened because, after the grant, its path seems to lead to another file.
///
/// Some file systems report another inode at each call for the same file, so the check would fail forever. So many
/// failures can have no other cause: even a process that removes the file in a loop would be too late now and then.
const MAX_OPENS: u32 = 1000;

/// The operation on a file: lock or unlock.
#[derive(Debug, Clone, Copy)]
pub struct FlockOperation {
    /// The mode of the lock. `None`: unlock.
    pub mode: Option<Mode>,
    /// The wait while another process holds the lock.
    pub wait: Wait,
    /// The range to lock by fcntl(2). `None`: the whole file is locked by flock(2).
    pub range: Option<ByteRange>,
}

impl FlockOperation {
    /// Fails for an operation that needs Linux, on another system.
    fn check_system(&self) -> Result<(), LockError> {
        self.range.map_or(Ok(()), |_| require_linux("--fcntl"))
    }
}

/// An open file or descriptor, and the operation on it.
#[derive(Debug)]
#[must_use = "an opened file is closed, and its lock released, when this is dropped"]
pub struct Lockable {
    file: LockableFile,
    operation: FlockOperation,
    /// The end of the wait, which began when the file was opened.
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum LockableFile {
    /// A file that this process opened. `None`: the file was removed, and its directory, too.
    Opened { path: PathBuf, file: Option<File>, writable: bool },
    /// A descriptor that was inherited from the caller.
    Inherited { file: ManuallyDrop<File> },
}

impl Lockable {
    /// Opens a file, and creates it if it does not exist.
    pub fn open(path: &Path, operation: FlockOperation) -> Result<Self, LockError> {
        operation.check_system()?;
        // An exclusive lock of fcntl(2) needs a descriptor for writing.
        let writable = operation.range.is_some() && operation.mode == Some(Mode::Exclusive);
        let deadline = find_deadline(operation.wait);
        let file = open_in_time(path, writable, (operation.wait, deadline))
            .map_err(|source| explain_open_error(path, source, operation.wait))?;
        Ok(Self {
            file: LockableFile::Opened { path: path.to_owned(), file: Some(file), writable },
            operation,
            deadline,
        })
    }

    /// Uses a descriptor that was inherited from the caller.
    pub fn from_descriptor(fd: RawFd, operation: FlockOperation) -> Result<Self, LockError> {
        operation.check_system()?;
        let file = os::callers_descriptor(fd).ok_or(LockError::BadDescriptor { fd })?;
        let deadline = find_deadline(operation.wait);
        Ok(Self { file: LockableFile::Inherited { file }, operation, deadline })
    }

    /// Returns the path of the file, or of the descriptor in `/proc`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.file {
            LockableFile::Opened { path, .. } => path.clone(),
            LockableFile::Inherited { file } => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        }
    }

    /// Returns the path or the number that the user gave.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.file {
            LockableFile::Opened { path, .. } => path.display().to_string(),
            LockableFile::Inherited { file } => file.as_raw_fd().to_string(),
        }
    }

    fn get_file(&self) -> Option<&File> {
        match &self.file {
            LockableFile::Opened { file, .. } => file.as_ref(),
            LockableFile::Inherited { file } => Some(file),
        }
    }

    /// Locks or unlocks the file. `on_wait` is called before a wait for another process.
    pub fn lock(&mut self, mut on_wait: Option<&mut dyn FnMut()>) -> Result<(), LockError> {
        let deadline = self.deadline;
        let mut waited = false;
        let mut opened = 1;
        // If no file exists and none can be created, no other process can lock it either.
        while let Some(file) = self.get_file() {
            match apply(file, self.operation, deadline, &mut on_wait) {
                Ok(LockOutcome::Contended) => return Err(self.contention_error()),
                Ok(outcome) => waited |= outcome == LockOutcome::Waited,
                // NFS implements flock(2) by locks of fcntl(2), so an exclusive lock needs a descriptor for writing.
                Err(error) if is_read_only(&error) && self.require_writing() => match self.reopen() {
                    Ok(()) => continue,
                    Err(_) => return Err(self.lock_error(error)),
                },
                Err(source) => return Err(self.lock_error(source)),
            }
            match self.is_current() {
                Ok(true) => return Ok(()),
                // The inodes of this file system prove nothing, so the lock counts. After a wait it does not, because the
                // previous holder may have removed the file before it released the lock.
                Ok(false) if opened == MAX_OPENS && !waited => return Ok(()),
                Ok(false) if opened == MAX_OPENS => return Err(LockError::KeepsChanging { path: self.path() }),
                // The lock is on a removed file. Another process may hold a lock on the file that replaced it.
                Ok(false) => {
                    let wait = self.operation.wait;
                    self.reopen().map_err(|source| explain_open_error(&self.path(), source, wait))?;
                }
                // If the path cannot be examined, it may lead to another file, too.
                Err(source) => return Err(open_error(&self.path(), source)),
            }
            opened += 1;
        }
        Ok(())
    }

    /// Returns true if the path still leads to the open file.
    fn is_current(&self) -> io::Result<bool> {
        let LockableFile::Opened { path, file: Some(file), .. } = &self.file else { return Ok(true) };
        if self.operation.mode.is_none() {
            return Ok(true);
        }
        match (fs::metadata(path), file.metadata()) {
            (Ok(there), Ok(open)) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
            (Err(error), _) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // The file does not exist any more, or the open file does not (NFS).
            _ => Ok(false),
        }
    }

    /// Opens the file to which the path leads now, and creates it if it does not exist. If it cannot exist, because its
    /// directory was removed, there is no open file afterwards.
    fn reopen(&mut self) -> io::Result<()> {
        let time = (self.operation.wait, self.deadline);
        let LockableFile::Opened { path, file, writable } = &mut self.file else { return Ok(()) };
        // The old file is closed first, because the process may be at its limit of descriptors. The lock on the old file
        // no longer excludes other processes.
        *file = None;
        for _ in 0..MAX_OPENS {
            let missing = match open_in_time(path, *writable, time) {
                Ok(again) => {
                    *file = Some(again);
                    return Ok(());
                }
                Err(error) => error,
            };
            // Errors such as a missing permission may affect only this process. Another process could then create the file
            // and lock it.
            if missing.kind() != io::ErrorKind::NotFound {
                return Err(missing);
            }
            match fs::metadata(&path) {
                // Another process created it just now.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Makes the next [`Self::reopen`] open the file for writing. Returns false if that would make no difference.
    fn require_writing(&mut self) -> bool {
        match &mut self.file {
            LockableFile::Opened { writable, .. } if !*writable && self.operation.mode == Some(Mode::Exclusive) => {
                *writable = true;
                true
            }
            _ => false,
        }
    }

    fn lock_error(&self, source: io::Error) -> LockError {
        LockError::Lock { path: PathBuf::from(self.label()), source }
    }

    fn contention_error(&self) -> LockError {
        contention_error(self.label(), self.path(), self.operation.wait)
    }

    /// Sets whether the commands that this process starts inherit the descriptor.
    pub fn set_inheritable(&self, inheritable: bool) -> Result<(), LockError> {
        match &self.file {
            LockableFile::Opened { file: Some(file), path, .. } if inheritable => {
                // `O_NONBLOCK` was only needed to open the file. The command expects a descriptor that blocks.
                os::let_wait(file);
                os::share(file).map_err(|source| LockError::Lock { path: path.clone(), source })
            }
            LockableFile::Inherited { file } if !inheritable => {
                os::keep_back(file.as_raw_fd());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn contention_error(label: String, path: PathBuf, wait: Wait) -> LockError {
    let kind = Kind::Users;
    match wait {
        Wait::For(after) => LockError::TimedOut { label, path, kind, after },
        _ => LockError::Busy { label, path, kind },
    }
}

/// Returns the error for a file that cannot be opened. A lease of another process counts as a lock that it holds.
fn explain_open_error(path: &Path, source: io::Error, wait: Wait) -> LockError {
    match source.kind() {
        io::ErrorKind::WouldBlock => contention_error(path.display().to_string(), path.to_owned(), wait),
        _ => open_error(path, source),
    }
}

fn find_deadline(wait: Wait) -> Option<Instant> {
    match wait {
        Wait::For(limit) => Instant::now().checked_add(limit),
        _ => None,
    }
}

/// Returns the time for which the file is opened again while another process has a lease on it.
fn find_patience(wait: Wait, deadline: Option<Instant>) -> Duration {
    match (wait, deadline) {
        (Wait::No, _) => Duration::ZERO,
        (_, Some(deadline)) => deadline.saturating_duration_since(Instant::now()),
        _ => Duration::MAX,
    }
}

/// Opens the file. A lease of another process counts as a lock that it holds.
fn open_in_time(path: &Path, writable: bool, (wait, deadline): (Wait, Option<Instant>)) -> io::Result<File> {
    match open(path, writable, find_patience(wait, deadline)) {
        Err(error) if wait == Wait::No && error.kind() == io::ErrorKind::WouldBlock => {
            open(path, writable, holders::find_lease_patience(path))
        }
        opened => opened,
    }
}

fn open_error(path: &Path, source: io::Error) -> LockError {
    LockError::Open { path: path.to_owned(), owner: None, source }
}

/// Returns true if the error means that the descriptor is not for writing. fcntl(2) returns `EBADF` then, and some NFS
/// servers return `EIO`.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EIO))
}

/// Opens a file, without `O_CREAT` if it exists: in a sticky directory, `fs.protected_regular` refuses `O_CREAT` for an
/// existing file of another user, even to root.
fn open(path: &Path, writable: bool, patience: Duration) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // O_NONBLOCK: opening a FIFO would wait for a writer, and a serial line for a carrier. O_NOCTTY: a terminal must
    // not become the terminal of this process.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    options.read(true).write(writable).custom_flags(flags);
    match open_in_turn(&options, path, patience) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            // O_CREAT is passed as a flag, because the standard library only creates files that it opens for writing.
            options.custom_flags(flags | libc::O_CREAT).mode(creation::USERS_FILE);
            match open_in_turn(&options, path, patience) {
                // The path ends in a slash, and no such directory exists.
                Err(error) if error.raw_os_error() == Some(libc::EISDIR) => Err(missing),
                opened => opened,
            }
        }
        opened => opened,
    }
}

/// The outcome of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockOutcome {
    /// The lock was free, or the operation was to unlock.
    AtOnce,
    /// The lock was acquired after another process had released it.
    Waited,
    /// Another process holds the lock, and the caller does not wait or its time limit has passed.
    Contended,
}

fn apply(
    file: &File,
    operation: FlockOperation,
    deadline: Option<Instant>,
    on_wait: &mut Option<&mut dyn FnMut()>,
) -> io::Result<LockOutcome> {
    let Some(mode) = operation.mode else {
        release(file, operation.range)?;
        return Ok(LockOutcome::AtOnce);
    };
    // The first attempt never waits, because the outcome shows if another process held the lock.
    if try_once(file, mode, operation.range)? {
        return Ok(LockOutcome::AtOnce);
    }
    if operation.wait == Wait::No {
        return Ok(LockOutcome::Contended);
    }
    if let Some(on_wait) = on_wait.take() {
        on_wait();
    }
    let alarm = deadline.map(|_| Alarm::new());
    loop {
        if let (Some(alarm), Some(deadline)) = (&alarm, deadline) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(LockOutcome::Contended);
            }
            alarm.after(Some(left));
        }
        match wait_for_lock(file, mode, operation.range) {
            Ok(()) => return Ok(LockOutcome::Waited),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn try_once(file: &File, mode: Mode, range: Option<ByteRange>) -> io::Result<bool> {
    match range {
        None => os::try_lock(file, mode),
        Some(range) => os::try_lock_range(file, mode, range.start, range.len),
    }
}

fn wait_for_lock(file: &File, mode: Mode, range: Option<ByteRange>) -> io::Result<()> {
    match range {
        None => os::wait_lock(file, mode),
        Some(range) => os::wait_lock_range(file, mode, range.start, range.len),
    }
}

fn release(file: &File, range: Option<ByteRange>) -> io::Result<()> {
    match range {
        None => os::unlock(file),
        Some(range) => os::unlock_range(file, range.start, range.len),
    }
}
