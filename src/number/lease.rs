//! Leased numbers: whoever holds the lock of a number has it. The kernel knows who that is, so there is nothing to write
//! down; the record in the lock file is for people, and for the list.

use super::error::NumberError;
use super::escape;
use super::pool::{Pool, Tag};
use super::pool_files::create_directory;
use super::range;
use crate::base::target::{Kind, Target, Wait};
use crate::lock::error::LockError;
use crate::lock::request::{Acquired, Request};
use crate::lock::wait::{Contention, Waiting};
use crate::lock::{acquire, holders};
use crate::os::{self, Mode, word_for};
use crate::store::Store;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The locks of the numbers of a pool.
#[derive(Debug)]
pub struct Leases {
    pool: Pool,
    directory: PathBuf,
}

/// A number that a command has.
#[derive(Debug)]
pub struct LeasedNumber {
    /// The number.
    pub number: u32,
    /// The tag.
    pub tag: Tag,
    /// The directory in which it was asked for, if that is known.
    pub directory: Option<PathBuf>,
    /// How long it has been held, if that is known.
    pub age: Option<Duration>,
    /// The processes that have it, with their commands.
    pub holders: Vec<(u32, String)>,
}

/// For locks that are not waited for.
pub(super) struct SilentContention;

impl Contention for SilentContention {
    fn interval(&self) -> Option<Duration> {
        None
    }
    fn begins(&mut self, _: &Waiting) {}
    fn tick(&mut self, _: &Waiting) {}
    fn ends(&mut self) {}
}

fn make_not_regular_error(path: &Path) -> NumberError {
    let kind = fs::symlink_metadata(path).map_or("directory", |data| word_for(data.file_type()));
    LockError::NotRegular { path: path.to_owned(), kind }.into()
}

impl Leases {
    /// Those of a pool.
    #[must_use]
    pub fn new(store: &Store, pool: &Pool) -> Self {
        Self { pool: pool.clone(), directory: store.reservations().join(format!("{pool}.d")) }
    }

    fn lock_path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number}.lock"))
    }

    /// Whether a command has this number. Only for who has the lock of the pool: it is found out by trying.
    ///
    /// On a description of its own, so that also the lease of an ancestor, which handed its lock down to us, counts.
    pub fn is_leased(&self, number: u32) -> Result<bool, NumberError> {
        let path = self.lock_path(number);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path) {
            Ok(file) if !file.metadata().is_ok_and(|data| data.is_file()) => Err(make_not_regular_error(&path)),
            Ok(file) => {
                Ok(!os::try_lock(&file, Mode::Exclusive).map_err(|source| LockError::cannot_lock(&path, source))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => Err(NumberError::denied(&path, source)),
            Err(_) if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_file()) => {
                Err(make_not_regular_error(&path))
            }
            Err(source) => Err(LockError::Open { path, owner: None, source }.into()),
        }
    }

    /// Takes the lock of a number that is free, for a command that this process becomes or waits for.
    pub fn lease_number(
        &self,
        store: &Store,
        number: u32,
        tag: &Tag,
        from: &Path,
        command: String,
    ) -> Result<Acquired, NumberError> {
        create_directory(store, &self.directory)?;
        let label = format!("{number} of {}", self.pool);
        let target = Target { label, path: self.lock_path(number), kind: Kind::Named, link: None };
        let who = format!("{tag} in {}", escape::escape_path_in_line(from));
        let request = Request { command: Some(command), who: Some(&who), ..Request::exclusive(Wait::No) };
        Ok(acquire::acquire(vec![target], Some(store), &request, &mut SilentContention)?)
    }

    /// All that are held now, in the order of their numbers. Looking takes no lock.
    #[must_use]
    pub fn list_leased(&self) -> Vec<LeasedNumber> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let number = |entry: fs::DirEntry| range::parse_number(entry.file_name().to_str()?.strip_suffix(".lock")?);
        let mut numbers: Vec<u32> = entries.filter_map(number).collect();
        numbers.sort_unstable();
        let paths: Vec<PathBuf> = numbers.iter().map(|number| self.lock_path(*number)).collect();
        let states = holders::observe_all(&paths);
        let lease = |(number, state): (&u32, holders::LockState)| {
            let holding = state.holding?;
            let record = holding.record.map(|(record, _)| record);
            let who = record.as_ref().and_then(|record| record.who.as_deref()?.split_once(" in "));
            Some(LeasedNumber {
                number: *number,
                tag: who.and_then(|(tag, _)| Tag::parse_field(tag)).unwrap_or_default(),
                directory: who.and_then(|(_, directory)| escape::unescape_path_in_line(directory)),
                age: record.as_ref().and_then(crate::lock::record::Record::age),
                holders: holding.holders.into_iter().map(|holder| (holder.pid, holder.command)).collect(),
            })
        };
        numbers.iter().zip(states).filter_map(lease).collect()
    }
}
