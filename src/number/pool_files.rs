//! Files of pools.

use super::error::NumberError;
use super::pool::Pool;
use crate::os;
use crate::store::Store;
use crate::store::error::StoreError;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The pools that have a registry, in the order of their names.
pub fn list_pools(store: &Store) -> Result<Vec<Pool>, NumberError> {
    let path = store.reservations();
    // All of them: half a list would pass for the whole.
    let entries: Vec<fs::DirEntry> = match fs::read_dir(&path).and_then(Iterator::collect) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(NumberError::Read { path, source }),
    };
    // A pool may have leases and no row: then only its directory is there. (No pool has a dot in its name.)
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Pool::parse(name.strip_suffix(".d").unwrap_or(&name)).ok()
    };
    let mut pools: Vec<Pool> = entries.into_iter().filter_map(name).collect();
    pools.sort();
    pools.dedup();
    Ok(pools)
}

/// The registry of a pool, whether it is there or not.
#[must_use]
pub fn registry_path(store: &Store, pool: &Pool) -> PathBuf {
    store.reservations().join(pool.as_str())
}

/// The lock of the registry of a pool, whether it is there or not.
#[must_use]
pub fn registry_lock_path(store: &Store, pool: &Pool) -> PathBuf {
    add_suffix(&registry_path(store, pool), ".lock")
}

/// Makes a directory in the state root, for its user alone whatever the umask. Fine when it is there.
pub(super) fn create_directory(store: &Store, path: &Path) -> Result<(), NumberError> {
    let failed = |source| StoreError::StateRoot { path: path.to_owned(), source };
    let try_it = || os::as_owner(path, || os::without_umask(|| fs::DirBuilder::new().mode(0o700).create(path)));
    let made = match try_it() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => store.make().map(|()| try_it())?,
        made => made,
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => Ok(made.map_err(failed)?),
    }
}

pub(super) fn add_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
