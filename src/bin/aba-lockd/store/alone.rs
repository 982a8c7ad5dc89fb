//! One service a file: there is a lock of aba-lock's own on a file beside the store, which tells who has it, and one on the
//! store itself, which no other name and no removed file gets around.

use crate::report;
use crate::serve::Failure;
use aba_lock::error::Error;
use aba_lock::flock::{Lockable, Way};
use aba_lock::lock::{self, Acquired, Contention, Kind, Mode, Request, Target, Wait, Waiting};
use aba_lock::{events, holders, store};
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

/// The hint for a store that cannot be made or changed.
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
    store::make_directory(directory, 0o700, true).map_err(|error| {
        Failure::new(format!("could not make directory {}: {error}", directory.display())).hint(PLACE)
    })?;
    let unusable =
        |error: io::Error| Failure::new(format!("could not open store {}: {error}", path.display())).hint(PLACE);
    // The files beside it get the same rights from SQLite.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(unusable)?;
    let path = fs::canonicalize(path).map_err(unusable)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let target = Target { label: format!("store {}", path.display()), path: beside.into(), kind: Kind::Beside };
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
    let locks = lock::acquire(vec![target.clone()], None, &request, &mut Silent);
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
    if !matches!(error, Error::Busy { .. }) {
        // Not the hint of the error: that is about the directory of locks, which this is not.
        return Failure::new(error.to_string()).hint(PLACE);
    }
    let holding = holders::of(locked).holding.map(|holding| format!(": pid {}", holders::numbers(&holding.holders)));
    Failure::new(format!("store {} is held by another{}", store.display(), holding.unwrap_or_default()))
        .hint("one service serves one file; give the second its own --store")
}
