//! The file of a pool: read by everyone, changed by who has its lock.

use super::book::{Book, Unreadable};
use super::error::NumberError;
use super::lease::{Lease, Leases, Silent};
use super::pool::Pool;
use crate::base::target::Wait;
use crate::file::edit::Edit;
use crate::file::error::FileError;
use crate::file::path::MissingFile;
use crate::lock::error::LockError;
use crate::lock::wait::Contention;
use crate::os::{self, replace};
use crate::store::Store;
use crate::store::error::StoreError;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What to do where a pool has no registry yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Make it, and its directory, when something is put into it.
    Make,
    /// Leave it so: there is nothing in it.
    Leave,
}

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

/// What was saved of a damaged registry.
#[derive(Debug)]
pub struct Recovered {
    /// How many rows.
    pub rows: usize,
    /// How many lines could not be read.
    pub lost: usize,
    /// Where the damaged one is now.
    pub kept: PathBuf,
    /// An earlier one that was kept, if the rows are out of that: there were none in the damaged one.
    pub earlier: Option<PathBuf>,
}

/// How often a registry is read again that changes while its leases are looked at.
const MOST_READS: u32 = 10;

/// The most that a registry may have: in bytes. More than a million rows have.
const MAX_FILE: u64 = 1 << 28;

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

/// Makes a new registry of what can be read of a damaged one, and keeps that. `None` if it is not damaged.
pub fn recover(
    store: &Store,
    pool: &Pool,
    wait: Wait,
    contention: &mut dyn Contention,
) -> Result<Option<Recovered>, NumberError> {
    let path = path(store, pool);
    let Some(edit) = edit(store, &path, Absent::Leave, wait, contention)? else { return Ok(None) };
    let Some(file) = edit.open_old()? else { return Ok(None) };
    let bytes = content(&file).map_err(edit.failed("read"))?;
    let is_sound = |book: Book| book.rows().is_some();
    match Book::parse(bytes.clone()).map(is_sound) {
        Ok(true) => return Ok(None),
        Err(Unreadable::Version(version)) => return Err(NumberError::Version { path, version }),
        Ok(false) | Err(Unreadable::Damaged) => {}
    }
    let (mut book, mut lost) = Book::recover(&bytes);
    // It was kept here, too, when it was found to be damaged; or what is here was found before somebody emptied it.
    let beside = with(&path, ".damaged");
    let other = content_at(&beside).ok().filter(|other| *other != bytes);
    let is_empty = |book: &Book| book.numbers().is_none_or(|numbers| numbers.is_empty());
    let mut earlier = None;
    if let (true, Some(other)) = (is_empty(&book), &other) {
        let (before, lost_before) = Book::recover(other);
        if !is_empty(&before) {
            (book, lost) = (before, lost + lost_before);
            earlier = Some(unused(&path, 2));
        }
    }
    let kept = unused(&path, 1);
    let suffix = kept.as_os_str().as_bytes()[path.as_os_str().len()..].to_vec();
    let rows = book.numbers().map_or(0, |numbers| numbers.len());
    write(edit, &book, Some(OsStr::from_bytes(&suffix)))?;
    if let Some(earlier) = &earlier {
        let _ = replace::rename_if_exists(&beside, earlier);
    } else if content_at(&beside).is_ok_and(|beside| beside == bytes) {
        let _ = fs::remove_file(&beside);
    }
    Ok(Some(Recovered { rows, lost, kept, earlier }))
}

/// The pools that have a registry, in the order of their names.
pub fn pools(store: &Store) -> Result<Vec<Pool>, NumberError> {
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
pub fn path(store: &Store, pool: &Pool) -> PathBuf {
    store.reservations().join(pool.as_str())
}

/// The lock of the registry of a pool, whether it is there or not.
#[must_use]
pub fn lock_path(store: &Store, pool: &Pool) -> PathBuf {
    with(&path(store, pool), ".lock")
}

fn edit(
    store: &Store,
    path: &Path,
    absent: Absent,
    wait: Wait,
    contention: &mut dyn Contention,
) -> Result<Option<Edit>, NumberError> {
    let missing = match absent {
        Absent::Make => {
            make_directory(store, &store.reservations())?;
            MissingFile::CreatePrivate
        }
        Absent::Leave => MissingFile::Refuse,
    };
    let command = crate::os::proc::process::command_line(std::process::id());
    match Edit::begin(path, missing, wait, command, contention) {
        Ok(edit) => Ok(Some(edit)),
        Err(FileError::NoFile { source, .. })
            if source.kind() == io::ErrorKind::NotFound && absent == Absent::Leave =>
        {
            Ok(None)
        }
        Err(error) => Err(whose(error.into(), path)),
    }
}

/// With the name of whose a file is that we may not open.
fn whose(error: NumberError, path: &Path) -> NumberError {
    match error {
        NumberError::File(
            FileError::Update { source, .. }
            | FileError::NoFile { source, .. }
            | FileError::Lock(LockError::Store(StoreError::StateRoot { source, .. })),
        ) if source.kind() == io::ErrorKind::PermissionDenied => {
            let lock = with(path, ".lock");
            let is_shut =
                |path: &&PathBuf| File::open(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            let shut = [&lock, &path.to_owned()].into_iter().find(is_shut).cloned();
            NumberError::denied(&shut.unwrap_or_else(|| path.to_owned()), source)
        }
        other => other,
    }
}

/// Makes a directory in the state root, for its user alone whatever the umask. Fine when it is there.
pub(super) fn make_directory(store: &Store, path: &Path) -> Result<(), NumberError> {
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

fn write(edit: Edit, book: &Book, backup: Option<&OsStr>) -> Result<(), NumberError> {
    let mut draft = edit.create_draft()?;
    let bytes = book.to_bytes();
    os::without_size_signal(|| draft.writer().write_all(&bytes)).map_err(edit.failed("write"))?;
    Ok(edit.commit(&draft, backup)?)
}

fn content(file: &File) -> io::Result<Vec<u8>> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if data.len() > MAX_FILE {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let mut bytes = Vec::new();
    // To find that there is no memory in the middle of it would be the end of us.
    bytes.try_reserve_exact(usize::try_from(data.len()).unwrap_or(0) + 1).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is in a file, if it is one: to open a FIFO would hang.
fn content_at(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    content(&OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// Keeps a copy of a damaged registry, so that it is still there when somebody empties it to begin anew. It stays where it
/// is, too: without it, the next one would give numbers that others have.
fn keep_aside(path: &Path) -> Option<PathBuf> {
    let kept = with(path, ".damaged");
    let bytes = content_at(path).ok()?;
    let before = fs::symlink_metadata(&kept).ok();
    let is_same = before.as_ref().is_some_and(|data| data.is_file() && data.len() == bytes.len() as u64)
        && content_at(&kept).is_ok_and(|kept| kept == bytes);
    // Of an empty one there is nothing to keep, and it is not to push away one that has something.
    if !is_same && (before.is_none() || !bytes.is_empty()) {
        if before.is_some() {
            replace::rename_if_exists(&kept, &unused(path, 1)).ok()?;
        }
        replace::replace_under_lock(&kept, &bytes, 0o600).ok()?;
    }
    Some(kept)
}

/// A name for a damaged registry that no other has; of those the `nth`.
fn unused(path: &Path, nth: usize) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let names = (1_u32..).map(|at| if at == 1 { now.clone() } else { format!("{now}-{at}") });
    let mut free = names.map(|name| with(path, &format!(".damaged-{name}")));
    let mut free = free.by_ref().filter(|name| fs::symlink_metadata(name).is_err());
    free.nth(nth - 1).unwrap_or_else(|| with(path, ".damaged-before"))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
