//! Releases the lock on a descriptor of a script, and reports the mode in which a descriptor holds one.
//!
//! `lock`, `unlock --fd`, `status --fd` and the keeper of leases call this. A lock on our own descriptors is released
//! by dropping its [`Guard`](super::request::Guard).

use crate::base::names::LockName;
use crate::lock::binding;
use crate::lock::error::LockError;
use crate::lock::events;
use crate::lock::fcntl;
#[cfg(not(linux))]
use crate::lock::ownership::find_lock_of_description;
use crate::lock::ownership::{find_held, find_lock_of_ancestor, is_held_for};
use crate::lock::unlock::unlock_description;
#[cfg(linux)]
use crate::os::proc::lock_table;
use crate::os::proc::lock_table::KernelLock;
use crate::os::{self, Mode, leads_to, try_leads_to};
use crate::store::{self, Store, lock_file_name};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Releases the lock `name` on descriptor `fd` of the script, as [`release_descriptor`] does.
///
/// The variables that name the state root may have changed since the acquisition. Even if they are not valid, the lock is released.
pub fn release_named(fd: RawFd, name: &LockName) -> Result<(), LockError> {
    let store = Store::from_env();
    let no_root = || Path::new("/").join(lock_file_name(name));
    let path = store.as_ref().map_or_else(|_| no_root(), |store| store.lock_path(name));
    match (release_descriptor(fd, Some(&path)), store) {
        (Err(LockError::Replaced { .. }), Err(error)) => Err(error.into()),
        (released, _) => released,
    }
}

/// Releases the lock on descriptor `fd` of the script, and with it the lock on all copies of that descriptor.
///
/// Fails with [`LockError::Replaced`] if `fd` is open on another file than the one at `path`, unless that other file
/// was removed, or is the lock file of the same name in another state root. If `fd` is the pipe of a lock that is bound to the script, its holder releases the lock.
pub fn release_descriptor(fd: RawFd, path: Option<&Path>) -> Result<(), LockError> {
    let file = os::try_second_descriptor(fd).map_err(|source| LockError::cannot_copy(fd, source))?;
    let data = file.metadata().ok();
    if let Some(path) = path {
        // A removed file has no path any more, so it cannot be compared. Its lock is released like others.
        let removed = data.as_ref().is_some_and(|data| data.nlink() == 0);
        let leads_here = || try_leads_to(path, &file).map_err(|source| LockError::cannot_examine(path, source));
        if !removed && !leads_here()? && !is_in_other_root(path, &file) {
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

/// Returns true if `file` is the lock file of the same name as the one at `path`, in another directory.
fn is_in_other_root(path: &Path, file: &File) -> bool {
    let Ok(own) = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) else { return false };
    let name = store::name_of(path);
    name.is_some() && name == store::name_of(&own) && own.parent() != path.parent() && leads_to(&own, file)
}

/// Returns true if the file at `path` is one of the user, which may be locked by fcntl(2) (`--fcntl`).
fn is_users(path: &Path) -> bool {
    store::name_of(path).is_none()
}

/// Returns the mode in which descriptor `fd` of this process holds the lock at `path`. `None`: it does not hold it, or it is
/// open on another file. If the script was granted a lock that it had inherited on another descriptor, that lock counts. Fails with
/// [`LockError::Unknown`] or another error if the kernel cannot be asked.
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
    #[cfg(linux)]
    let lock = match lock_table::try_lock_of_descriptor(file.as_raw_fd()).map_err(cannot)? {
        None if is_users(path) => lock_table::try_fcntl_lock_of_descriptor(file.as_raw_fd()).map_err(cannot)?,
        lock => lock,
    };
    #[cfg(not(linux))]
    let lock = find_lock_of_description(&file).map_err(cannot)?;
    Ok(lock.or_else(|| find_lock_of_ancestor(path, fd)).map(KernelLock::mode))
}

/// Returns true if the calling script holds the lock at `path` on descriptor `fd`, and has acquired it itself, perhaps as another script that
/// it has replaced with exec(3). False: a process above it has, or that is not known.
#[must_use]
pub fn is_acquired_by_script(fd: RawFd, path: &Path) -> bool {
    let Ok(file) = os::try_second_descriptor(fd) else { return false };
    let held = if leads_to(path, &file) { find_held(&file, false).ok().flatten() } else { None };
    held.is_some_and(|lock| is_held_for(&file, lock, os::parent_id()))
}
