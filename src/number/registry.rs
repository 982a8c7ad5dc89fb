//! The file of a pool: read by everyone, changed by who has its lock.

use super::contents::{RegistryContents, UnreadableRegistry};
use super::damaged_registry::save_copy;
use super::error::NumberError;
use super::lease::{LeasedNumber, Leases, SilentContention};
use super::pool::Pool;
use super::pool_files::registry_path;
use super::registry_file::{MissingRegistry, begin_edit, read_file, write_contents};
use crate::base::target::Wait;
use crate::file::edit::Edit;
use crate::lock::wait::Contention;
use crate::store::Store;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// A registry that nobody else changes as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is released when it is dropped"]
pub struct Registry {
    /// The pool.
    pub pool: Pool,
    /// What is in it.
    pub contents: RegistryContents,
    /// The locks of its numbers.
    pub leases: Leases,
    /// `None`: there is none, and there is none to be.
    edit: Option<Edit>,
}

/// How often a registry is read again that changes while its leases are looked at.
const MOST_READS: u32 = 10;

impl Registry {
    /// Takes the lock and reads. [`NumberError::Damaged`], [`NumberError::Version`], and the errors of [`Edit::begin`].
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

    /// The error that a line of the registry is none that we would write.
    #[must_use]
    pub fn make_damage_error(&self) -> NumberError {
        let path = self.edit.as_ref().map(|edit| PathBuf::from(edit.label())).unwrap_or_default();
        let kept = save_copy(&path);
        NumberError::Damaged { path, kept }
    }

    /// Releases the lock. What was in it, for who looks at that without.
    #[must_use]
    pub fn release(self) -> RegistryContents {
        self.contents
    }

    /// Writes what has changed, and releases the lock.
    pub fn commit(self) -> Result<(), NumberError> {
        match self.edit {
            Some(edit) if self.contents.is_changed() => write_contents(edit, &self.contents, None),
            _ => Ok(()),
        }
    }
}

/// What is in the registry of a pool, without any lock; `None` where there is none.
pub fn read_contents(store: &Store, pool: &Pool) -> Result<Option<RegistryContents>, NumberError> {
    let read = read_contents_once(store, pool);
    if !matches!(read, Err(NumberError::Damaged { .. })) {
        return read;
    }
    // To keep a copy of it the lock is needed; who has that keeps one himself, if it is still damaged then.
    match Registry::begin(store, pool, MissingRegistry::Leave, Wait::No, &mut SilentContention) {
        Ok(registry) => Ok(Some(registry.contents)),
        Err(damaged @ NumberError::Damaged { .. }) => Err(damaged),
        Err(_) => read,
    }
}

/// Returns the rows of the registry of a pool, the leases of its numbers, and whether both were read from one state.
///
/// A number passes from a row to a command, or back, in two steps, and each holds the lock of the pool:
///
/// 1. This process reads the rows, among them one for the number.
/// 2. Another process drops the row.
/// 3. A command leases the number.
/// 4. This process looks at the leases: the number would be kept and leased at once.
///
/// So both are read again if the registry was replaced in between. A number that stays leased, or stays free, changes no row.
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
        if is_one_state || attempt == MOST_READS {
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
