//! The file of a pool: read by everyone, changed by who has its lock.

use super::book::{Book, Unreadable};
use super::damaged_registry::keep_aside;
use super::error::NumberError;
use super::lease::{Lease, Leases, Silent};
use super::pool::Pool;
use super::pool_files::path;
use super::registry_file::{Absent, content, edit, write};
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
    pub book: Book,
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
        absent: Absent,
        wait: Wait,
        contention: &mut dyn Contention,
    ) -> Result<Self, NumberError> {
        let path = path(store, pool);
        let leases = Leases::of(store, pool);
        let Some(edit) = edit(store, &path, absent, wait, contention)? else {
            return Ok(Self { pool: pool.clone(), book: Book::default(), leases, edit: None });
        };
        let book = match edit.open_old()? {
            None => Book::default(),
            Some(file) => match Book::parse(content(&file).map_err(edit.failed("read"))?) {
                Ok(book) => book,
                Err(Unreadable::Version(version)) => return Err(NumberError::Version { path, version }),
                Err(Unreadable::Damaged) => {
                    let kept = keep_aside(&path);
                    return Err(NumberError::Damaged { path, kept });
                }
            },
        };
        Ok(Self { pool: pool.clone(), book, leases, edit: Some(edit) })
    }

    /// The error that a line of the registry is none that we would write.
    #[must_use]
    pub fn damaged(&self) -> NumberError {
        let path = self.edit.as_ref().map(|edit| PathBuf::from(edit.label())).unwrap_or_default();
        let kept = keep_aside(&path);
        NumberError::Damaged { path, kept }
    }

    /// Releases the lock. What was in it, for who looks at that without.
    #[must_use]
    pub fn let_go(self) -> Book {
        self.book
    }

    /// Writes what has changed, and releases the lock.
    pub fn commit(self) -> Result<(), NumberError> {
        match self.edit {
            Some(edit) if self.book.is_changed() => write(edit, &self.book, None),
            _ => Ok(()),
        }
    }
}

/// What is in the registry of a pool, without any lock; `None` where there is none.
pub fn read(store: &Store, pool: &Pool) -> Result<Option<Book>, NumberError> {
    let read = read_once(store, pool);
    if !matches!(read, Err(NumberError::Damaged { .. })) {
        return read;
    }
    // To keep a copy of it the lock is needed; who has that keeps one himself, if it is still damaged then.
    match Registry::begin(store, pool, Absent::Leave, Wait::No, &mut Silent) {
        Ok(registry) => Ok(Some(registry.book)),
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
pub(super) fn read_with_leases(store: &Store, pool: &Pool) -> Result<(Option<Book>, Vec<Lease>, bool), NumberError> {
    let path = path(store, pool);
    let version = || {
        let data = fs::metadata(&path).ok()?;
        Some((data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec()))
    };
    let leases = Leases::of(store, pool);
    let mut attempt = 0;
    loop {
        let before = version();
        let (book, held) = (read(store, pool)?, leases.held());
        let is_one_state = version() == before;
        attempt += 1;
        if is_one_state || attempt == MOST_READS {
            return Ok((book, held, is_one_state));
        }
    }
}

fn read_once(store: &Store, pool: &Pool) -> Result<Option<Book>, NumberError> {
    let path = path(store, pool);
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let bytes = match opened.and_then(|file| content(&file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NumberError::Read { path, source }),
    };
    match Book::parse(bytes) {
        Ok(book) => Ok(Some(book)),
        Err(Unreadable::Version(version)) => Err(NumberError::Version { path, version }),
        Err(Unreadable::Damaged) => Err(NumberError::Damaged { path, kept: None }),
    }
}
