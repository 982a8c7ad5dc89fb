//! The registry of a pool: [`Registry`] locks it for a change, and [`read_contents`] reads it without a lock. Readers need no
//! lock, because a change replaces the file as a whole.
//!
//! The commands (`reserve`, `release`, `exclude`, `migrate`) and the operations of this folder use it.

use super::contents::{RegistryContents, UnreadableRegistry};
use super::damaged_registry::save_copy;
use super::error::NumberError;
use super::lease::{LeasedNumber, Leases, SilentContention};
use super::pool::Pool;
use super::pool_files::{check_owner, registry_path};
use super::registry_file::{MissingRegistry, begin_edit, read_file, write_contents};
use crate::base::target::Wait;
use crate::file::edit::Edit;
use crate::lock::wait::Contention;
use crate::store::Store;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// A registry that is locked: no other process changes it while this value exists.
#[derive(Debug)]
#[must_use = "the lock is released when it is dropped"]
pub struct Registry {
    pub pool: Pool,
    pub contents: RegistryContents,
    pub leases: Leases,
    /// `None` if the registry does not exist and must not be created.
    edit: Option<Edit>,
}

/// The maximum number of attempts to read a registry that changes while its leases are read.
const MAX_READS: u32 = 10;

impl Registry {
    /// Locks and reads the registry. Returns [`NumberError::Damaged`], [`NumberError::Version`] and the errors of
    /// [`Edit::begin`].
    pub fn begin(
        store: &Store,
        pool: &Pool,
        missing: MissingRegistry,
        wait: Wait,
        contention: &mut dyn Contention,
    ) -> Result<Self, NumberError> {
        let path = registry_path(store, pool);
        let leases = Leases::new(store, pool);
        let Some(edit) = begin_edit(store, &path, missing, wait, contention)? else {
            return Ok(Self { pool: pool.clone(), contents: RegistryContents::default(), leases, edit: None });
        };
        let contents = match edit.open_old()? {
            None => RegistryContents::default(),
            Some(file) => match RegistryContents::parse(read_file(&file).map_err(edit.failed("read"))?) {
                Ok(contents) => contents,
                Err(UnreadableRegistry::Version(version)) => return Err(NumberError::Version { path, version }),
                Err(UnreadableRegistry::Damaged) => {
                    let kept = save_copy(&path);
                    return Err(NumberError::Damaged { path, kept });
                }
            },
        };
        Ok(Self { pool: pool.clone(), contents, leases, edit: Some(edit) })
    }

    /// Creates the error for an invalid line, and saves a copy of the registry.
    #[must_use]
    pub fn make_damage_error(&self) -> NumberError {
        let path = self.edit.as_ref().map(|edit| PathBuf::from(edit.label())).unwrap_or_default();
        let kept = save_copy(&path);
        NumberError::Damaged { path, kept }
    }

    /// Releases the lock without writing. Returns the contents, for callers that continue to read them.
    #[must_use]
    pub fn release(self) -> RegistryContents {
        self.contents
    }

    /// Writes the changes, if there are any, and releases the lock.
    pub fn commit(self) -> Result<(), NumberError> {
        match self.edit {
            Some(edit) if self.contents.is_changed() => write_contents(edit, &self.contents, None),
            _ => Ok(()),
        }
    }
}

/// Reads a registry without locking it. Returns `None` if it does not exist. Fails if another user could have written it.
pub fn read_contents(store: &Store, pool: &Pool) -> Result<Option<RegistryContents>, NumberError> {
    check_owner(store, &store.reservations())?;
    let read = read_contents_once(store, pool);
    if !matches!(read, Err(NumberError::Damaged { .. })) {
        return read;
    }
    // A copy of a damaged registry may be made only under the lock. A process that holds the lock now makes the copy
    // itself if the registry is still damaged.
    match Registry::begin(store, pool, MissingRegistry::Leave, Wait::No, &mut SilentContention) {
        Ok(registry) => Ok(Some(registry.contents)),
        Err(damaged @ NumberError::Damaged { .. }) => Err(damaged),
        Err(_) => read,
    }
}

/// Returns the rows of a registry, the leases of its numbers, and true if both are from one state.
///
/// A number changes from a row to a lease, or back, in two steps under the lock of the pool, which this reader does not
/// hold:
///
/// 1. The reader reads the rows, one of which has the number.
/// 2. Another process removes that row.
/// 3. A command leases the number.
/// 4. The reader reads the leases: the number appears as a row and as a lease.
///
/// So both are read again if the registry was replaced in between. A change of leases alone does not replace the registry,
/// and needs no second read: a number that has no row before and after cannot appear twice.
pub(super) fn read_contents_and_leases(
    store: &Store,
    pool: &Pool,
) -> Result<(Option<RegistryContents>, Vec<LeasedNumber>, bool), NumberError> {
    let path = registry_path(store, pool);
    let version = || {
        let data = fs::metadata(&path).ok()?;
        Some((data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec()))
    };
    let leases = Leases::new(store, pool);
    let mut attempt = 0;
    loop {
        let before = version();
        let (contents, held) = (read_contents(store, pool)?, leases.list_leased());
        let is_one_state = version() == before;
        attempt += 1;
        if is_one_state || attempt == MAX_READS {
            return Ok((contents, held, is_one_state));
        }
    }
}

fn read_contents_once(store: &Store, pool: &Pool) -> Result<Option<RegistryContents>, NumberError> {
    let path = registry_path(store, pool);
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let bytes = match opened.and_then(|file| read_file(&file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NumberError::Read { path, source }),
    };
    match RegistryContents::parse(bytes) {
        Ok(contents) => Ok(Some(contents)),
        Err(UnreadableRegistry::Version(version)) => Err(NumberError::Version { path, version }),
        Err(UnreadableRegistry::Damaged) => Err(NumberError::Damaged { path, kept: None }),
    }
}
