//! Releasing the lock of a script's descriptor.

use crate::lock::error::LockError;
use crate::lock::events;
use crate::os::proc::lock_table;
use crate::os::{self, Mode, leads_to};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Releases the lock on the script's descriptor `fd`, for every copy of it at once.
///
/// [`LockError::Replaced`] when `path` is given and `fd` is open on some other file than the one that is or was there.
pub fn release_descriptor(fd: RawFd, path: Option<&Path>) -> Result<(), LockError> {
    let file = os::second_descriptor(fd).ok_or(LockError::BadDescriptor { fd })?;
    if let Some(path) = path {
        // A file that was removed has no name any more, and is to be released like the others.
        let removed = file.metadata().is_ok_and(|data| data.nlink() == 0);
        if !removed && !leads_to(path, &file) {
            return Err(LockError::Replaced { fd, path: path.to_owned() });
        }
    }
    // Before it: in the log, the next one is to come after us.
    events::log_release(&file);
    // If another program locks this description next, as flock(1) does, the lock is not that of the old owner.
    os::set_owner(&file, 0);
    os::unlock(&file).map_err(|source| LockError::Lock { path: path.unwrap_or(Path::new("")).to_owned(), source })
}

/// How the lock at `path` is held through descriptor `fd` of this process; `None` when it is not, or when that
/// is not the file that `path` leads to. [`LockError::Unknown`] where the kernel cannot be asked.
pub fn read_held_mode(fd: RawFd, path: &Path) -> Result<Option<Mode>, LockError> {
    let Some(file) = os::second_descriptor(fd) else { return Ok(None) };
    if !leads_to(path, &file) {
        return Ok(None);
    }
    let lock = lock_table::try_lock_of_descriptor(file.as_raw_fd());
    let lock = lock.map_err(|source| LockError::Unknown { fd, path: path.to_owned(), source })?;
    Ok(lock.map(|lock| if lock.exclusive { Mode::Exclusive } else { Mode::Shared }))
}
