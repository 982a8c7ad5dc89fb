//! A lock as flock(1) takes it: on any file, directory or descriptor; without a record, as the file is the user's; and
//! without a word.
//!
//! What is promised beyond the original: a file that is there is opened without asking to create it; a file that was removed
//! while we waited is made again and locked instead, and where that cannot be done or told, we fail, as another may have the
//! new one; and nothing that is only opened (a FIFO, a serial line) makes us wait.
//! What is not: that a deadlock is found, or that a nested call is no conflict. Both could end with a failure what the
//! original would have done in the end, and scripts that were written for the original count on that.
//!
//! The file is opened for reading, like the original does: a script may lock itself (a file that is open for writing cannot
//! be executed), and a directory. Only where the system wants it is it opened for writing.

use super::byte_range::ByteRange;
use crate::base::target::{Kind, Wait};
use crate::lock::error::LockError;
use crate::os::{self, Alarm, Mode};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often a file may lead elsewhere when its lock is had, before we take it that it always will: that its file system
/// gives other numbers each time. (Somebody who removes it in a loop is late now and then.)
const MOST_OPENS: u32 = 1000;

/// How often to pause when the file cannot be opened because another process has it to itself: for some seconds.
const MOST_PAUSES: u32 = 5000;

/// How soon to open it again then.
const OPEN_AGAIN: Duration = Duration::from_millis(1);

/// How a lock is to be taken.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Exclusive or shared. `None`: it is to be released.
    pub mode: Option<Mode>,
    /// What to do when another has it.
    pub wait: Wait,
    /// A part of the file, instead of the whole.
    pub range: Option<ByteRange>,
}

/// Something to lock, which is open.
#[derive(Debug)]
#[must_use = "a file of ours is closed, and its lock released, when this is dropped"]
pub struct Lockable {
    what: What,
    way: Way,
}

#[derive(Debug)]
enum What {
    /// A file that we opened. `None`: it was removed, and the directory in which it was.
    Ours { path: PathBuf, file: Option<File>, writable: bool },
    /// A descriptor of our caller's.
    Callers { file: ManuallyDrop<File> },
}

impl Lockable {
    /// Opens a file, and makes it if it is not there.
    pub fn open(path: &Path, way: Way) -> Result<Self, LockError> {
        // Of fcntl(2)'s locks, the exclusive ones are only for those who may write.
        let writable = way.range.is_some() && way.mode == Some(Mode::Exclusive);
        let file = open(path, writable).map_err(|source| not_opened(path, source))?;
        Ok(Self { what: What::Ours { path: path.to_owned(), file: Some(file), writable }, way })
    }

    /// A descriptor that our caller has open.
    pub fn descriptor(fd: RawFd, way: Way) -> Result<Self, LockError> {
        let file = os::callers_descriptor(fd).ok_or(LockError::BadDescriptor { fd })?;
        Ok(Self { what: What::Callers { file }, way })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.what {
            What::Ours { path, .. } => path.clone(),
            What::Callers { file } => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        }
    }

    /// What the user calls it.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.what {
            What::Ours { path, .. } => path.display().to_string(),
            What::Callers { file } => file.as_raw_fd().to_string(),
        }
    }

    fn file(&self) -> Option<&File> {
        match &self.what {
            What::Ours { file, .. } => file.as_ref(),
            What::Callers { file } => Some(file),
        }
    }

    /// Locks it, or releases it. If another has it and we are to wait, `waits` is called first, where there is one.
    pub fn lock(&mut self, waits: Option<&mut dyn FnMut()>) -> Result<(), LockError> {
        let mut waits = waits;
        let deadline = match self.way.wait {
            Wait::For(limit) => Instant::now().checked_add(limit),
            _ => None,
        };
        let mut waited = false;
        let mut opened = 1;
        // There is no file, and none can be made: so nobody else has one either.
        while let Some(file) = self.file() {
            match take(file, self.way, deadline, &mut waits) {
                Ok(Taken::Not) => return Err(self.contended()),
                Ok(taken) => waited |= taken == Taken::Late,
                // NFS makes of flock(2) a lock of fcntl(2), of which the exclusive ones are for those who may write.
                Err(error) if is_read_only(&error) && self.is_to_write() => match self.open_again() {
                    Ok(()) => continue,
                    Err(_) => return Err(self.not_locked(error)),
                },
                Err(source) => return Err(self.not_locked(source)),
            }
            match self.is_current() {
                Ok(true) => return Ok(()),
                // Its numbers say nothing. But who waited, waited for somebody who may have removed it.
                Ok(false) if opened == MOST_OPENS && !waited => return Ok(()),
                Ok(false) if opened == MOST_OPENS => return Err(LockError::KeepsChanging { path: self.path() }),
                // Acquired is not yet valid: another may have the file that stands there now.
                Ok(false) => self.open_again().map_err(|source| not_opened(&self.path(), source))?,
                // Nor if that cannot be told.
                Err(source) => return Err(not_opened(&self.path(), source)),
            }
            opened += 1;
        }
        Ok(())
    }

    /// Whether it is still what its name leads to.
    fn is_current(&self) -> io::Result<bool> {
        let What::Ours { path, file: Some(file), .. } = &self.what else { return Ok(true) };
        if self.way.mode.is_none() {
            return Ok(true);
        }
        match (fs::metadata(path), file.metadata()) {
            (Ok(there), Ok(open)) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
            (Err(error), _) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // It is gone; or it is there, but what we have open is not (NFS).
            _ => Ok(false),
        }
    }

    /// Opens what its name leads to now, and makes it if it is not there. Where nothing is, and nothing can be, there is no
    /// file afterwards.
    fn open_again(&mut self) -> io::Result<()> {
        let What::Ours { path, file, writable } = &mut self.what else { return Ok(()) };
        // First, as there may be no descriptor left for another: its lock is worth nothing.
        *file = None;
        for _ in 0..MOST_OPENS {
            let missing = match open(path, *writable) {
                Ok(again) => {
                    *file = Some(again);
                    return Ok(());
                }
                Err(error) => error,
            };
            // Any other reason may be ours alone: no right, no descriptor.
            if missing.kind() != io::ErrorKind::NotFound {
                return Err(missing);
            }
            match fs::metadata(&path) {
                // Made just now.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Whether it helps to open it for writing, as is done from now on.
    fn is_to_write(&mut self) -> bool {
        match &mut self.what {
            What::Ours { writable, .. } if !*writable && self.way.mode == Some(Mode::Exclusive) => {
                *writable = true;
                true
            }
            _ => false,
        }
    }

    fn not_locked(&self, source: io::Error) -> LockError {
        LockError::Lock { path: PathBuf::from(self.label()), source }
    }

    fn contended(&self) -> LockError {
        let (label, path, kind) = (self.label(), self.path(), Kind::Users);
        match self.way.wait {
            Wait::For(after) => LockError::TimedOut { label, path, kind, after },
            _ => LockError::Busy { label, path, kind },
        }
    }

    /// Gives it to the commands that we start, or keeps it from them.
    pub fn hand_down(&self, shared: bool) -> Result<(), LockError> {
        match &self.what {
            What::Ours { file: Some(file), path, .. } if shared => {
                // Only the opening was not to wait.
                os::let_wait(file);
                os::share(file).map_err(|source| LockError::Lock { path: path.clone(), source })
            }
            What::Callers { file } if !shared => {
                os::keep_back(file.as_raw_fd());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn not_opened(path: &Path, source: io::Error) -> LockError {
    LockError::Open { path: path.to_owned(), owner: None, source }
}

/// `EBADF` as fcntl(2) has it, and `EIO` as some NFS servers do.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EIO))
}

/// Opens it, without `O_CREAT` if it is there: in a sticky directory `fs.protected_regular` refuses that for an existing file of
/// somebody else's, even to root.
fn open(path: &Path, writable: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // O_NONBLOCK: to open a FIFO would wait for a writer, a serial line for a carrier. O_NOCTTY: it is not to be our terminal.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    options.read(true).write(writable).custom_flags(flags);
    match open_in_turn(&options, path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            // The standard library wants to write where it creates; the system does not.
            options.custom_flags(flags | libc::O_CREAT);
            match open_in_turn(&options, path) {
                // `name/`, where there is nothing of that name.
                Err(error) if error.raw_os_error() == Some(libc::EISDIR) => Err(missing),
                opened => opened,
            }
        }
        opened => opened,
    }
}

/// With `O_NONBLOCK`, a file that another process has to itself for an instant (a lease) is not to be had.
fn open_in_turn(options: &OpenOptions, path: &Path) -> io::Result<File> {
    for _ in 0..MOST_PAUSES {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(OPEN_AGAIN),
            opened => return opened,
        }
    }
    options.open(path)
}

/// How a lock was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// At once, or released.
    AtOnce,
    /// After another had it.
    Late,
    /// Another has it, and we were not to wait, or not any longer.
    Not,
}

fn take(file: &File, way: Way, deadline: Option<Instant>, waits: &mut Option<&mut dyn FnMut()>) -> io::Result<Taken> {
    let Some(mode) = way.mode else {
        release(file, way.range)?;
        return Ok(Taken::AtOnce);
    };
    // Also who waits anyhow is to know if it was for another.
    if try_once(file, mode, way.range)? {
        return Ok(Taken::AtOnce);
    }
    if way.wait == Wait::No {
        return Ok(Taken::Not);
    }
    if let Some(waits) = waits.take() {
        waits();
    }
    let alarm = deadline.map(|_| Alarm::new());
    loop {
        if let (Some(alarm), Some(deadline)) = (&alarm, deadline) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Taken::Not);
            }
            alarm.after(Some(left));
        }
        match block(file, mode, way.range) {
            Ok(()) => return Ok(Taken::Late),
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

fn block(file: &File, mode: Mode, range: Option<ByteRange>) -> io::Result<()> {
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
