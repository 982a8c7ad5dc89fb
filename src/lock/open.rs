//! Opens lock files, and creates those that do not exist yet.
//!
//! [`acquire`](super::acquire), the tasks and `aba-lock path` open files with [`open_lock_file`]. It never follows a
//! link, and never blocks for longer than its caller allows. `status` and `unlock` call [`check_lock_file`], which opens
//! nothing.
//!
//! # Leases
//!
//! The owner of a file can take a lease on it (fcntl(2)). Then the kernel blocks each open(2) until that process gives up the lease, or
//! for at most 45 s, and in a directory that users share, the process may take it again at once. With `O_NONBLOCK`, open(2) fails with
//! `EWOULDBLOCK`. [`clean`](super::clean) has a lease for an instant, so each caller tries again for a time
//! ([`find_lease_patience`](super::holders::find_lease_patience)). Then a lease counts as a lock that another process holds: the call
//! fails, or tries again until its time is over.

use crate::base::target::{Kind, Target};
use crate::lock::error::{LockError, PlantedNames};
use crate::lock::log_flag::flag_new_file;
use crate::os::proc::process;
use crate::os::replace::parent_directory;
use crate::os::{self, Right, word_for};
use crate::store::Store;
use crate::store::creation::{self, DirectoryUsers};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The maximum number of times that a lock file is opened again because it was replaced before it was locked. More are only
/// needed if another process removes the file in a loop.
pub(super) const MAX_OPENS: u32 = 1000;

/// The time for which [`clean`](super::clean) may have a lease on a file, also on a slow machine.
pub const INSTANT: Duration = Duration::from_millis(500);

/// The first and the longest pause before a file is opened again on which another process has a lease.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Opens the lock file, and creates it and its directory if they do not exist. If another process has a lease on the file, tries again
/// for the time `patience`, and then fails with an error for which [`is_lease_error`] returns true.
pub fn open_lock_file(target: &Target, store: Option<&Store>, patience: Duration) -> Result<File, LockError> {
    let path = &target.path;
    let mut options = lock_file_options();
    let mut opened = open_in_turn(&options, path, patience);
    for _ in 0..MAX_OPENS {
        if !has_failed_with(&opened, libc::ENOENT) {
            break;
        }
        if let (Kind::Named, Some(store)) = (target.kind, store) {
            store.make()?;
        }
        opened = match create(target) {
            // Another process has just created it, or it is a link to a file that does not exist.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => open_in_turn(&options, path, patience),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                opened = Err(error);
                break;
            }
            Ok(file) => {
                if store.is_some() && target.kind == Kind::Named {
                    flag_new_file(&file, path);
                }
                Ok(file)
            }
            failed => failed,
        };
    }
    let is_unwritable = |errno: &i32| has_failed_with(&opened, *errno);
    if [libc::EACCES, libc::EROFS, libc::EISDIR, libc::EPERM, libc::ETXTBSY].iter().any(is_unwritable) {
        // A descriptor that can only be read is enough to lock.
        opened = match open_in_turn(options.write(false), path, patience) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => opened,
            again => again,
        };
    }
    let file = opened.map_err(|source| cannot_open(path, source))?;
    let data = file.metadata().map_err(|source| cannot_open(path, source))?;
    let kind = data.file_type();
    if kind.is_file() || (kind.is_dir() && target.kind == Kind::Users) {
        check_links(target, data.nlink())?;
        Ok(file)
    } else {
        Err(LockError::NotRegular { path: path.clone(), kind: word_for(kind) })
    }
}

/// Fails if the lock file has more names than one, and other users may write to its directory: one of them may have linked a file
/// that must not change.
pub(super) fn check_links(target: &Target, names: u64) -> Result<(), LockError> {
    match find_planted_names(target, names) {
        None => Ok(()),
        Some(planted) => {
            Err(LockError::Open { path: target.path.clone(), owner: None, source: io::Error::other(planted) })
        }
    }
}

/// Returns the problem that the lock file, which has this number of names, has some that other users may have made.
#[must_use]
pub fn find_planted_names(target: &Target, names: u64) -> Option<PlantedNames> {
    if names < 2 || target.kind != Kind::Named || !may_be_linked_by_others(&target.path) {
        return None;
    }
    let owner = fs::symlink_metadata(&target.path).ok()?.uid();
    Some(PlantedNames { path: target.path.clone(), names, owner })
}

/// Returns the error for a lock file that this user has no permission to open.
#[must_use]
pub fn find_denial(path: &Path) -> Option<LockError> {
    let source = os::may(Right::Read, path).err().filter(|error| error.kind() == io::ErrorKind::PermissionDenied)?;
    Some(cannot_open(path, source))
}

/// Returns true if another user than root may have made this name of a file: the directory is shared, or it belongs to another user,
/// to whom the file does not belong.
fn may_be_linked_by_others(path: &Path) -> bool {
    let (Ok(file), Ok(directory)) = (fs::symlink_metadata(path), fs::metadata(parent_directory(path))) else {
        return true;
    };
    let users = DirectoryUsers::from_mode(directory.mode(), directory.gid());
    users != DirectoryUsers::Owner || ![os::user_id(), 0, file.uid()].contains(&directory.uid())
}

/// Opens a lock file that exists, for reading and writing. Fails at once if another process has a lease on it.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    lock_file_options().open(path)
}

/// The flags with which lock files are opened.
///
/// `O_NOFOLLOW`: another user may have planted a link. `O_NONBLOCK`: opening a FIFO or a terminal could block. `O_NOCTTY`: a terminal
/// must not become the one that controls this process.
const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;

/// The options with which an existing lock file is opened.
fn lock_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(FLAGS);
    options
}

/// Creates the lock file, or fails with `EEXIST` if another process has created it.
///
/// This is called only for a file that was not found: in a sticky directory, `fs.protected_regular` refuses `O_CREAT` for an
/// existing file of another user, even to root. `O_EXCL` makes sure that a file that is given to the owner of the directory is
/// new.
fn create(target: &Target) -> io::Result<File> {
    let mut options = OpenOptions::new();
    creation::create_lock_file(&target.path, target.kind, options.read(true).write(true), FLAGS)
}

/// Opens a file, which `options` must not block, and tries again for the time `patience` while another process has a lease on it.
pub(super) fn open_in_turn(options: &OpenOptions, path: &Path, patience: Duration) -> io::Result<File> {
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => open_after_lease(options, path, patience),
        opened => opened,
    }
}

fn open_after_lease(options: &OpenOptions, path: &Path, patience: Duration) -> io::Result<File> {
    let (started, (mut pause, longest)) = (Instant::now(), PAUSES);
    loop {
        let left = patience.saturating_sub(started.elapsed());
        thread::sleep(pause.min(left));
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if left.is_zero() {
                    return Err(io::Error::new(error.kind(), "another process has a file lease on it"));
                }
            }
            opened => return opened,
        }
        pause = (pause * 5 / 4).min(longest);
    }
}

/// Returns true if another process has a lease on the file at `path` for the time `patience`.
pub(super) fn stays_leased(path: &Path, patience: Duration) -> bool {
    let started = Instant::now();
    while os::is_leased(path) {
        let left = patience.saturating_sub(started.elapsed());
        if left.is_zero() {
            return true;
        }
        thread::sleep(PAUSES.1.min(left));
    }
    false
}

/// Returns true if a lock file was not opened because another process has a lease on it.
#[must_use]
pub fn is_lease_error(error: &LockError) -> bool {
    matches!(error, LockError::Open { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

fn has_failed_with(opened: &io::Result<File>, errno: i32) -> bool {
    matches!(opened, Err(error) if error.raw_os_error() == Some(errno))
}

/// Returns the error for a lock file that could not be opened.
pub(super) fn cannot_open(path: &Path, source: io::Error) -> LockError {
    let found = fs::symlink_metadata(path).ok();
    match &found {
        Some(data) if !data.is_file() && !data.is_dir() => {
            LockError::NotRegular { path: path.to_owned(), kind: word_for(data.file_type()) }
        }
        _ => {
            let foreign = found.filter(|data| data.uid() != os::user_id());
            LockError::Open { path: path.to_owned(), owner: foreign.map(|data| process::user_name(data.uid())), source }
        }
    }
}

/// Fails if the state of a lock cannot be observed, because its directory cannot be searched or its file is of a type that
/// cannot be locked. Returns `None` if the file does not exist, which is no error.
pub fn check_lock_file(target: &Target) -> Result<Option<Metadata>, LockError> {
    let path = &target.path;
    match fs::symlink_metadata(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LockError::Examine { path: path.clone(), source })
        }
        Ok(data) if !(data.is_file() || data.is_dir() && target.kind == Kind::Users) => {
            Err(LockError::NotRegular { path: path.clone(), kind: word_for(data.file_type()) })
        }
        found => Ok(found.ok()),
    }
}
