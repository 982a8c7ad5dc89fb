//! Releases the lock on a descriptor of a script, and reports the mode in which a descriptor holds one.
//!
//! `lock`, `unlock --fd`, `status --fd` and the keeper of leases call this. A lock on our own descriptors is released
//! by dropping its [`Guard`](super::request::Guard).

use crate::lock::binding;
use crate::lock::error::LockError;
use crate::lock::events;
use crate::lock::fcntl;
use crate::lock::ownership::find_lock_of_ancestor;
use crate::lock::unlock::unlock_description;
use crate::os::proc::lock_table::{self, KernelLock};
use crate::os::{self, Mode, try_leads_to};
use crate::store;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Releases the lock on descriptor `fd` of the script, and with it the lock on all copies of that descriptor.
///
/// Fails with [`LockError::Replaced`] if `fd` is open on another file than the one at `path`, unless that other file
/// was removed. If `fd` is the pipe of a lock that is bound to the script, its holder releases the lock.
pub fn release_descriptor(fd: RawFd, path: Option<&Path>) -> Result<(), LockError> {
    let file = os::try_second_descriptor(fd).map_err(|source| LockError::cannot_copy(fd, source))?;
    let data = file.metadata().ok();
    if let Some(path) = path {
        // A removed file has no path any more, so it cannot be compared. Its lock is released like others.
        let removed = data.as_ref().is_some_and(|data| data.nlink() == 0);
        let leads_here = || try_leads_to(path, &file).map_err(|source| LockError::cannot_examine(path, source));
        if !removed && !leads_here()? {
            if let Some(released) = binding::release_bound(fd) {
                return released;
            }
            return Err(LockError::Replaced { fd, path: path.to_owned() });
        }
    }
    // This comes before the release, so that the next holder comes after it in the log.
    events::log_release(&file, data.as_ref());
    if path.is_some_and(is_users) {
        let _ = fcntl::unlock(&file);
    }
    unlock_description(&file)
        .map_err(|source| LockError::Lock { path: path.unwrap_or(Path::new("")).to_owned(), source })
}

/// Returns true if the file at `path` is one of the user, which may be locked by fcntl(2) (`--fcntl`).
fn is_users(path: &Path) -> bool {
    store::name_of(path).is_none()
}

/// Returns the mode in which descriptor `fd` of this process holds the lock at `path`. `None`: it does not hold it, or it is
/// open on another file. If the script was granted a lock that it had inherited on another descriptor, that lock counts. Fails with [`LockError::Unknown`] or another error if the kernel cannot be asked.
pub fn read_held_mode(fd: RawFd, path: &Path) -> Result<Option<Mode>, LockError> {
    let file = match os::try_second_descriptor(fd).map_err(|source| LockError::cannot_copy(fd, source)) {
        Err(LockError::BadDescriptor { .. }) => return Ok(None),
        copied => copied?,
    };
    if !try_leads_to(path, &file).map_err(|source| LockError::cannot_examine(path, source))? {
        // The lock of the script is held by another process. Its mode is not known here.
        return Ok(os::is_bound(fd).then_some(Mode::Exclusive));
    }
    let cannot = |source| LockError::Unknown { fd, path: path.to_owned(), source };
    let mut lock = lock_table::try_lock_of_descriptor(file.as_raw_fd()).map_err(cannot)?;
    if lock.is_none() && is_users(path) {
        lock = lock_table::try_fcntl_lock_of_descriptor(file.as_raw_fd()).map_err(cannot)?;
    }
    Ok(lock.or_else(|| find_lock_of_ancestor(path)).map(KernelLock::mode))
}
