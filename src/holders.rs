//! Who holds a lock: the kernel's word, and beside it the holder record as far as the kernel bears it out.
//!
//! Looking takes no lock, so it never makes another's try fail.

use crate::error::Error;
use crate::lock::Mode;
use crate::process::{self, KernelLock, Opener, Wanted};
use crate::record::{self, Content, Record};
use crate::sys;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// What is known of a lock file.
#[derive(Debug, Default)]
pub struct State {
    /// Who has the lock; `None` when it is free, as far as can be seen from here.
    pub holding: Option<Holding>,
    /// Who may have it although nothing can be seen of it from here: the last holder was in another pid
    /// namespace, or on another machine.
    pub beyond: Option<(Record, Belief)>,
    /// Who has a lock on a file that was removed from the path: it shuts nobody out any more.
    pub removed: Vec<Holder>,
}

/// A lock that is held.
#[derive(Debug)]
pub struct Holding {
    /// How.
    pub mode: Mode,
    /// Every process that has it, the one that took it first.
    pub holders: Vec<Holder>,
    /// The record, and how far it is to be believed.
    pub record: Option<(Record, Belief)>,
    /// Whether one of the holders is a helper, which may be about to write the record.
    helper: bool,
}

/// A process that has a lock.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// Its user.
    pub user: String,
    /// Whether the record names another as the one that took it. `None`: no record that tells.
    pub inherited: Option<bool>,
}

/// How far a holder record is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It is of this lock, and its process runs.
    Alive,
    /// It is of this lock, and its process has ended.
    Ended,
    /// It is of this lock, and its process runs, but has closed the lock file.
    Closed,
    /// Its process has ended, and the kernel does not say whether it took this lock or an earlier one.
    Perhaps,
    /// It is of another pid namespace of this machine: its pid means nothing here.
    OtherNamespace,
    /// It is of another machine.
    OtherHost,
}

/// Whether anything can be known of the lock file at `path`: not if its directory may not be searched.
pub fn can_be_known(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Look { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

/// What is known of the lock file at `path`.
///
/// If its lock was taken just now, this waits some milliseconds for the record.
#[must_use]
pub fn of(path: &Path) -> State {
    for _ in 0..5 {
        let state = look(path);
        let recorded = |holding: &Holding| matches!(holding.record, Some((_, Belief::Alive)));
        if !state.holding.as_ref().is_some_and(|holding| holding.helper && !recorded(holding)) {
            return state;
        }
        thread::sleep(Duration::from_millis(3));
    }
    look(path)
}

fn look(path: &Path) -> State {
    of_all(std::slice::from_ref(&path.to_owned())).pop().unwrap_or_default()
}

/// The same for many, with one look through the processes.
#[must_use]
pub fn of_all(paths: &[PathBuf]) -> Vec<State> {
    let wanted: Vec<Wanted> = paths.iter().map(|path| wanted(path)).collect();
    let look = process::look(&wanted);
    wanted
        .iter()
        .enumerate()
        .map(|(index, file)| {
            let found: Vec<&Opener> = look.openers.iter().filter(|opener| opener.index == index).collect();
            state(file, &found)
        })
        .collect()
}

/// Links in the way to the file are resolved, because the kernel names a removed file by its real path; a link
/// at the very end is not ours to follow.
pub(crate) fn wanted(path: &Path) -> Wanted {
    let real = match (path.parent().and_then(|parent| fs::canonicalize(parent).ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    };
    let data = fs::symlink_metadata(&real);
    let (dev, ino) = data.map_or((0, 0), |data| (data.dev(), data.ino()));
    Wanted { dev, ino, path: real }
}

fn state(file: &Wanted, found: &[&Opener]) -> State {
    let removed = found.iter().filter(|opener| opener.removed).map(|opener| holder(opener, None)).collect();
    let live: Vec<&Opener> = found.iter().filter(|opener| !opener.removed).copied().collect();
    let lock = live.first().map(|opener| opener.lock).or_else(|| {
        // Nobody that we may look into: the kernel's list still knows that there is somebody.
        if file.ino == 0 { None } else { process::listed_lock(file.dev, file.ino) }
    });
    let record = match record::read_path(&file.path) {
        Content::Record(record) => belief(&record, &live, lock).map(|belief| (*record, belief)),
        _ => None,
    };
    match lock {
        Some(lock) => State { holding: Some(holding(lock, &live, record)), beyond: None, removed },
        None => State { holding: None, beyond: record, removed },
    }
}

fn holding(lock: KernelLock, live: &[&Opener], record: Option<(Record, Belief)>) -> Holding {
    let taker = match &record {
        Some((record, Belief::Alive | Belief::Ended | Belief::Closed)) => Some(record.pid),
        _ => None,
    };
    let mut holders: Vec<Holder> = live.iter().map(|opener| holder(opener, taker)).collect();
    holders.sort_by_key(|holder| holder.inherited == Some(true));
    let mode = if lock.exclusive { Mode::Exclusive } else { Mode::Shared };
    let helper = live.iter().any(|opener| process::name(opener.pid) == "aba-lock");
    Holding { mode, holders, record, helper }
}

fn holder(opener: &Opener, taker: Option<u32>) -> Holder {
    Holder {
        pid: opener.pid,
        command: process::command_line(opener.pid),
        user: process::user_name(opener.uid),
        // A shared lock has several takers, of which the record names the last: it says nothing of the others.
        inherited: taker.filter(|_| opener.lock.exclusive).map(|pid| pid != opener.pid),
    }
}

/// How far `record` is to be believed beside what the kernel says. `None`: it is of an earlier lock, or of one
/// that has ended.
fn belief(record: &Record, live: &[&Opener], lock: Option<KernelLock>) -> Option<Belief> {
    // A holder that we see has a number here, which the record of another place cannot give.
    let unseen = live.is_empty();
    if record.boot != process::boot_id() {
        // The same name and another boot: this machine was started again since, and no lock outlives that.
        return (unseen && record.host != sys::host_name()).then_some(Belief::OtherHost);
    }
    if record.ns != process::pid_namespace() {
        return unseen.then_some(Belief::OtherNamespace);
    }
    let lockers: Vec<u32> =
        if unseen { vec![lock?.locker] } else { live.iter().map(|opener| opener.lock.locker).collect() };
    let named = lockers.contains(&record.locker);
    // In a pid namespace of its own the kernel gives no number for a locker that has ended.
    let untold = lockers.contains(&0);
    match (named, untold, process::is_alive(record.pid, record.start)) {
        (true, _, true) if unseen || live.iter().any(|opener| opener.pid == record.pid) => Some(Belief::Alive),
        (true, _, true) => Some(Belief::Closed),
        (true, _, false) => Some(Belief::Ended),
        (false, true, true) if live.iter().any(|opener| opener.pid == record.pid) => Some(Belief::Alive),
        (false, true, false) => Some(Belief::Perhaps),
        // The record of an earlier holder: this one left none, as flock(1) does.
        _ => None,
    }
}
