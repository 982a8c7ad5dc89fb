//! The paths of the files of a pool in the state root: `reserve/POOL` is the registry, `reserve/POOL.lock` its lock,
//! and `reserve/POOL.d/NUMBER.lock` the lock of a leased number.

use super::error::NumberError;
use super::pool::Pool;
use crate::store::creation::{self, DirectoryUsers};
use crate::store::error::StoreError;
use crate::store::{self, Store};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Returns all pools that have a registry or a directory of leases, sorted by name.
pub fn list_pools(store: &Store) -> Result<Vec<Pool>, NumberError> {
    let path = store.reservations();
    check_owner(store, &path)?;
    // An unreadable entry is an error: a partial list would look complete.
    let entries: Vec<fs::DirEntry> = match fs::read_dir(&path).and_then(Iterator::collect) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(NumberError::Read { path, source }),
    };
    // A pool that only leases numbers may have no registry, only this directory. Names of pools contain no dot.
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Pool::parse(name.strip_suffix(".d").unwrap_or(&name)).ok()
    };
    let mut pools: Vec<Pool> = entries.into_iter().filter_map(name).collect();
    pools.sort();
    pools.dedup();
    Ok(pools)
}

/// Returns the path of the registry of a pool. The file may not exist.
#[must_use]
pub fn registry_path(store: &Store, pool: &Pool) -> PathBuf {
    store.reservations().join(pool.as_str())
}

/// Returns the path of the lock of the registry. The file may not exist.
#[must_use]
pub fn registry_lock_path(store: &Store, pool: &Pool) -> PathBuf {
    add_suffix(&registry_path(store, pool), ".lock")
}

/// Creates a directory in the state root whatever the umask is. Succeeds if it already exists.
pub(super) fn create_directory(store: &Store, path: &Path) -> Result<(), NumberError> {
    store.refuse_untrusted()?;
    let failed = |source| StoreError::NumberRoot { path: path.to_owned(), source };
    let try_it = || creation::create_directory_for_group(path, creation::STATE_DIRECTORY);
    let made = match try_it() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => store.make().map(|()| try_it())?,
        made => made,
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_owner(store, path)?;
            let not_a_directory = || failed(io::Error::from_raw_os_error(libc::ENOTDIR)).into();
            path.is_dir().then_some(()).ok_or_else(not_a_directory)
        }
        made => Ok(made.map_err(failed)?),
    }
}

/// Fails if another user could exchange the state root, or if all users share it, and the directory belongs to another user. That
/// user could falsify the registries.
pub(super) fn check_owner(store: &Store, path: &Path) -> Result<(), NumberError> {
    store.refuse_untrusted()?;
    if !matches!(DirectoryUsers::of_directory(store.root()), Ok(DirectoryUsers::Everyone)) {
        return Ok(());
    }
    store::check_own_directory(path).map_err(|source| StoreError::NumberRoot { path: path.to_owned(), source }.into())
}

pub(super) fn add_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
