//! Ensures that only one service uses a file as its store, with two locks.
//!
//! A lock of aba-lock's own is on a separate file next to the store. It records its holder, so that a second service
//! can name the first one. A lock on the store itself excludes services that reach the store by another name, or after
//! the separate file was removed.

use crate::error::StartError;
use crate::report;
use aba_lock::base::target::{Kind, Target, Wait};
use aba_lock::base::text::format_io_error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::flock::lockable::{FlockOperation, Lockable};
use aba_lock::lock::request::{Acquired, Request};
use aba_lock::lock::wait::{Contention, Waiting};
use aba_lock::lock::{acquire, events, holders};
use aba_lock::os::Mode;
use aba_lock::store;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Excludes other services from the store until it is dropped.
#[derive(Debug)]
pub(crate) struct StoreFileLock {
    /// The canonical path of the store.
    pub(crate) path: PathBuf,
    _separate_lock: Acquired,
    /// Must not be closed while SQLite uses the store: SQLite's own locks are those of fcntl(2), which do not conflict
    /// with this one, but which the process loses when it closes any descriptor of the file.
    _store_lock: Lockable,
}

/// The hint for a store that the user of the service may not create or change.
pub(super) const PERMISSION_HINT: &str =
    "make the store and its directory writable for the user of the service, or use another path with --store";

/// Does not report contention: the service does not wait for the lock.
struct NoReport;

impl Contention for NoReport {
    fn interval(&self) -> Option<Duration> {
        None
    }
    fn begins(&mut self, _: &Waiting) {}
    fn tick(&mut self, _: &Waiting) {}
    fn ends(&mut self) {}
}

/// Creates the store and its directory if they do not exist, and locks the store.
pub(crate) fn acquire(path: &Path) -> Result<StoreFileLock, StartError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    store::make_directory(directory, 0o700, true).map_err(|error| {
        with_hint(format!("cannot create directory {}: {}", directory.display(), format_io_error(&error)), &error)
    })?;
    // SQLite would create files next to a device, and opening a FIFO would block.
    if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        let message = format!("cannot open store {}: it is not a regular file", path.display());
        return Err(StartError::new(message).with_hint("use the path of a file with --store"));
    }
    let unusable = |error: io::Error| {
        with_hint(format!("cannot open store {}: {}", path.display(), format_io_error(&error)), &error)
    };
    // SQLite creates its other files with the same permissions.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(unusable)?;
    let path = fs::canonicalize(path).map_err(unusable)?;
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let target = Target {
        label: format!("store {}", path.display()),
        path: lock_path.into(),
        kind: Kind::Beside,
        key: None,
        link: None,
    };
    let request = Request { who: Some("aba-lockd"), ..Request::exclusive(Wait::No) };
    let locks = acquire::acquire(vec![target.clone()], None, &request, &mut NoReport);
    if let Some((log, error)) = events::take_failure() {
        report::log_warning(&format!("cannot write to the event log {}: {}", log.display(), format_io_error(&error)));
    }
    let locks = locks.map_err(|error| describe_lock_error(&path, &target.path, &error))?;
    let operation = FlockOperation { mode: Some(Mode::Exclusive), wait: Wait::No, range: None };
    let file = Lockable::open(&path, operation).and_then(|mut file| file.lock(None).map(|()| file));
    let file = file.map_err(|error| describe_lock_error(&path, &path, &error))?;
    Ok(StoreFileLock { _separate_lock: locks, _store_lock: file, path })
}

/// Translates the error of a lock on `locked`, one of the two files.
fn describe_lock_error(store: &Path, locked: &Path, error: &LockError) -> StartError {
    match error {
        LockError::Busy { .. } => (),
        // The hint of this error is about the directory of locks, and does not apply here.
        LockError::Open { source, .. } => return with_hint(error.to_string(), source),
        error => return StartError::new(error.to_string()),
    }
    let holding = holders::observe_lock(locked)
        .holding
        .map(|holding| format!(" (pid {})", holders::format_pids(&holding.holders)));
    StartError::new(format!(
        "cannot open store {}: another process uses it{}",
        store.display(),
        holding.unwrap_or_default()
    ))
    .with_hint("only one service can use a store file: use another one with --store")
}

/// Adds the hint about permissions if the error is about them.
fn with_hint(message: String, error: &io::Error) -> StartError {
    let failure = StartError::new(message);
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => failure.with_hint(PERMISSION_HINT),
        _ => failure,
    }
}
