//! Opening and creating lock files.

use crate::base::target::{Kind, Target};
use crate::lock::error::LockError;
use crate::os::proc::process;
use crate::os::{self, word_for};
use crate::store::Store;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often a lock file may be replaced between opening and locking before we give up. It takes somebody who
/// removes it in a loop.
pub(super) const MAX_OPENS: u32 = 1000;

/// How often to pause, when a lock file cannot be opened because another process has it to itself: for some seconds.
const MAX_PAUSES: u32 = 5000;

/// How soon to open it again while another process has it to itself.
const OPEN_AGAIN: Duration = Duration::from_millis(1);

/// Opens the lock file, and makes it and its directory where they are not there yet.
pub fn open_lock_file(target: &Target, store: Option<&Store>) -> Result<File, LockError> {
    let path = &target.path;
    let mut options = OpenOptions::new();
    // O_NOFOLLOW: a link here was planted. O_NONBLOCK: opening a FIFO would hang. O_NOCTTY: so could a terminal.
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let mut opened = open_in_turn(&options, path);
    for _ in 0..MAX_OPENS {
        if !is(&opened, libc::ENOENT) {
            break;
        }
        if let (Kind::Named, Some(store)) = (target.kind, store) {
            store.make()?;
        }
        opened = match create(options.clone(), target) {
            // Another process made it in this instant, or it is a link that leads nowhere.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => open_in_turn(&options, path),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                opened = Err(error);
                break;
            }
            created => created,
        };
    }
    if [libc::EACCES, libc::EROFS, libc::EISDIR, libc::EPERM, libc::ETXTBSY].iter().any(|errno| is(&opened, *errno)) {
        // A descriptor that can only be read is enough to lock.
        opened = match open_in_turn(options.write(false), path) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => opened,
            again => again,
        };
    }
    let file = opened.map_err(|source| cannot_open(path, source))?;
    let kind = file.metadata().map_err(|source| cannot_open(path, source))?.file_type();
    if kind.is_file() || (kind.is_dir() && target.kind == Kind::Users) {
        Ok(file)
    } else {
        Err(LockError::NotRegular { path: path.clone(), kind: word_for(kind) })
    }
}

/// Creates the lock file. `EEXIST`: it is there by now.
///
/// Only after it was not found: in a sticky directory `fs.protected_regular` refuses `O_CREAT` for an existing file of another
/// user, even to root. And with `O_EXCL`, so that a file that is given to the owner of the directory is certainly new.
fn create(mut options: OpenOptions, target: &Target) -> io::Result<File> {
    let path = &target.path;
    options.create_new(true).mode(if target.kind == Kind::Named { 0o600 } else { 0o666 });
    if target.kind == Kind::Users {
        return open_in_turn(&options, path);
    }
    let file = os::as_owner(path.parent().unwrap_or(path), || open_in_turn(&options, path))?;
    // Whatever the umask: a file that its user cannot open would make every later attempt to lock it fail.
    if let Some(mode) = file.metadata().ok().map(|data| data.mode() & 0o777).filter(|mode| mode & 0o600 != 0o600) {
        let _ = file.set_permissions(fs::Permissions::from_mode(mode | 0o600));
    }
    Ok(file)
}

/// Opens it, if need be after `clean`, which for an instant has a file that nobody had open to itself.
pub(super) fn open_in_turn(options: &OpenOptions, path: &Path) -> io::Result<File> {
    for _ in 0..MAX_PAUSES {
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(OPEN_AGAIN),
            opened => return opened,
        }
    }
    options.open(path)
}

fn is(opened: &io::Result<File>, errno: i32) -> bool {
    matches!(opened, Err(error) if error.raw_os_error() == Some(errno))
}

pub(super) fn cannot_open(path: &Path, source: io::Error) -> LockError {
    let there = fs::symlink_metadata(path).ok();
    match &there {
        Some(data) if !data.is_file() && !data.is_dir() => {
            LockError::NotRegular { path: path.to_owned(), kind: word_for(data.file_type()) }
        }
        _ => {
            let foreign = there.filter(|data| data.uid() != os::user_id());
            LockError::Open { path: path.to_owned(), owner: foreign.map(|data| process::user_name(data.uid())), source }
        }
    }
}

/// Whether anything can be known of a lock: not if its directory may not be searched, or if its file is none that can be
/// locked.
pub fn check_lock_file(target: &Target) -> Result<(), LockError> {
    let path = &target.path;
    match fs::symlink_metadata(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(LockError::Look { path: path.clone(), source }),
        Ok(data) if !(data.is_file() || data.is_dir() && target.kind == Kind::Users) => {
            Err(LockError::NotRegular { path: path.clone(), kind: word_for(data.file_type()) })
        }
        _ => Ok(()),
    }
}
