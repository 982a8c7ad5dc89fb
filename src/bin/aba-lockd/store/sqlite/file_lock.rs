//! One service a file: there is a lock of aba-lock's own on a file beside the store, which tells who has it, and one on the
//! store itself, which no other name and no removed file gets around.

use crate::lifecycle::Failure;
use crate::report;
use aba_lock::base::target::{Kind, Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::flock::lockable::{Lockable, Way};
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

/// No other service has the store while this is there.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Where it is, by whatever name it was called.
    pub(crate) path: PathBuf,
    _beside: Acquired,
    /// Of the file itself: also if it has several names, or what is beside it was removed. SQLite's own locks are fcntl(2)'s,
    /// which know nothing of this one, but end when we close a descriptor of the file: so this is kept to the end.
    _file: Lockable,
}

/// The hint for a store that the user of the service may not make or change.
pub(super) const PLACE: &str =
    "the user of the service must be able to write to the store and to its directory; or give --store another path";

struct Silent;

impl Contention for Silent {
    fn interval(&self) -> Option<Duration> {
        None
    }
    fn begins(&mut self, _: &Waiting) {}
    fn tick(&mut self, _: &Waiting) {}
    fn ends(&mut self) {}
}

/// Makes the store, and its directory, where they are not there, and takes it for us.
pub(crate) fn take(path: &Path) -> Result<Alone, Failure> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    store::make_directory(directory, 0o700, true)
        .map_err(|error| with_hint(format!("could not make directory {}: {error}", directory.display()), &error))?;
    // SQLite would make files next to a device, and to open a FIFO would block.
    if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        let sentence = format!("could not open store {}: it is not a regular file", path.display());
        return Err(Failure::new(sentence).hint("give --store the path of a file"));
    }
    let unusable = |error: io::Error| with_hint(format!("could not open store {}: {error}", path.display()), &error);
    // The files beside it get the same rights from SQLite.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(unusable)?;
    let path = fs::canonicalize(path).map_err(unusable)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let target =
        Target { label: format!("store {}", path.display()), path: beside.into(), kind: Kind::Beside, link: None };
    let request = Request {
        mode: Mode::Exclusive,
        wait: Wait::No,
        holder: std::process::id(),
        command: None,
        who: Some("aba-lockd"),
        pid_file: None,
        ends: false,
        waited: Duration::ZERO,
        logs_contention: true,
    };
    let locks = acquire::acquire(vec![target.clone()], None, &request, &mut Silent);
    if let Some((log, error)) = events::take_failure() {
        report::warn(&format!("could not write to the event log {}: {error}", log.display()));
    }
    let locks = locks.map_err(|error| taken(&path, &target.path, &error))?;
    let way = Way { mode: Some(Mode::Exclusive), wait: Wait::No, range: None };
    let file = Lockable::open(&path, way).and_then(|mut file| file.lock(None).map(|()| file));
    let file = file.map_err(|error| taken(&path, &path, &error))?;
    Ok(Alone { _beside: locks, _file: file, path })
}

/// Why it could not be locked.
fn taken(store: &Path, locked: &Path, error: &Error) -> Failure {
    match error {
        Error::Busy { .. } => (),
        // The hints of these errors do not apply: they are about the directory of locks.
        Error::Open { source, .. } => return with_hint(error.to_string(), source),
        error => return Failure::new(error.to_string()),
    }
    let holding = holders::of(locked).holding.map(|holding| format!(": pid {}", holders::numbers(&holding.holders)));
    Failure::new(format!("store {} is held by another{}", store.display(), holding.unwrap_or_default()))
        .hint("one service serves one file; give the second its own --store")
}

/// A failure with the hint about rights if it is about rights.
fn with_hint(sentence: String, error: &io::Error) -> Failure {
    let failure = Failure::new(sentence);
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => failure.hint(PLACE),
        _ => failure,
    }
}
