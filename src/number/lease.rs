//! Leased numbers. A command leases a number by holding the lock of the number, so the kernel knows the holder and
//! releases the lease, and nothing has to be written. The record in the lock file is only shown in lists.

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

/// The locks of the numbers of one pool.
#[derive(Debug)]
pub struct Leases {
    pool: Pool,
    directory: PathBuf,
}

/// A number that is leased now.
#[derive(Debug)]
pub struct LeasedNumber {
    pub number: u32,
    pub tag: Tag,
    /// The directory in which the number was requested, if the record contains it.
    pub directory: Option<PathBuf>,
    /// The time since the lock was acquired, if the record contains it.
    pub age: Option<Duration>,
    /// The pids and command lines of the processes that hold the lock.
    pub holders: Vec<(u32, String)>,
}

/// A callback that reports nothing, for calls that do not wait.
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
    #[must_use]
    pub fn new(store: &Store, pool: &Pool) -> Self {
        Self { pool: pool.clone(), directory: store.reservations().join(format!("{pool}.d")) }
    }

    fn lock_path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number}.lock"))
    }

    /// Returns true if a command leases this number. This tries to acquire the lock of the number, so the caller must
    /// hold the lock of the pool.
    ///
    /// The attempt uses an open file description of its own, so it fails even if this process has inherited the lock
    /// from the command that leases the number.
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

    /// Acquires the lock of a free number, for a command that this process executes or starts.
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
        let target = Target { label, path: self.lock_path(number), kind: Kind::Named, key: None, link: None };
        let who = format!("{tag} in {}", escape::escape_path_in_line(from));
        let request = Request { command: Some(command), who: Some(&who), ..Request::exclusive(Wait::No) };
        Ok(acquire::acquire(vec![target], Some(store), &request, &mut SilentContention)?)
    }

    /// Returns all leased numbers in ascending order. This takes no lock.
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
                age: record.as_ref().and_then(|record| record.age()),
                holders: holding.holders.into_iter().map(|holder| (holder.pid, holder.command)).collect(),
            })
        };
        numbers.iter().zip(states).filter_map(lease).collect()
    }
}
