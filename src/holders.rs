//! Who holds a lock, and who waits for it: the kernel's word, and beside it the holder record as far as the kernel bears it
//! out.
//!
//! Looking takes no lock, so it never makes another's try fail.

use crate::error::Error;
use crate::kernel::{self, FileId, KernelLock, Listed, Opener, Wanted};
use crate::lock::Mode;
use crate::name::LockName;
use crate::record::{self, Content, Record};
use crate::store::{self, Store};
use crate::{process, sys};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
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
    /// Who waits for it, in the order in which they will be served.
    pub waiters: Vec<Waiter>,
    /// The record in the lock file, whether it counts or not.
    pub record: Option<Record>,
    /// Whether there are processes that we may not look into.
    pub hidden: bool,
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
    /// The name of its terminal without `/dev/`, if it has one.
    pub terminal: Option<String>,
    /// How long it runs.
    pub age: Option<Duration>,
    /// Its pid namespace, if that is another than ours.
    pub namespace: Option<u64>,
}

/// A process that waits for a lock.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// Its number. 0 when it cannot be seen from this pid namespace.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// Its user.
    pub user: String,
    /// How it wants the lock.
    pub mode: Mode,
    /// The script that wants the lock, and its command line, if the process is a helper of one.
    pub script: Option<(u32, String)>,
    /// The name of its terminal without `/dev/`, if it has one.
    pub terminal: Option<String>,
    /// For how long it waits: how long it runs, if it is a program that does nothing else before.
    pub age: Option<Duration>,
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
    of_until(path, &AtomicBool::new(false))
}

/// The same; of no use any more when `stop` is set, and then returned soon.
#[must_use]
pub(crate) fn of_until(path: &Path, stop: &AtomicBool) -> State {
    let look = || look(vec![wanted(path)], None, stop).pop().map(|(_, state)| state).unwrap_or_default();
    for _ in 0..5 {
        let state = look();
        let recorded = |holding: &Holding| matches!(holding.record, Some((_, Belief::Alive)));
        if !state.holding.as_ref().is_some_and(|holding| holding.helper && !recorded(holding)) {
            return state;
        }
        thread::sleep(Duration::from_millis(3));
    }
    look()
}

/// The same for many, with one look through the processes.
#[must_use]
pub fn of_all(paths: &[PathBuf]) -> Vec<State> {
    let wanted = paths.iter().map(|path| wanted(path)).collect();
    look(wanted, None, &AtomicBool::new(false)).into_iter().map(|(_, state)| state).collect()
}

/// The same for all locks of a state root, in the order of their names; also for those whose file was removed.
#[must_use]
pub fn of_store(store: &Store) -> Vec<(LockName, State)> {
    let root = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let wanted = store.names().iter().map(|name| in_directory(&root, &store.lock_path(name))).collect();
    let named = |(file, state): (Wanted, State)| Some((store::name_of(&file.path)?, state));
    let mut states: Vec<_> = look(wanted, Some(&root), &AtomicBool::new(false)).into_iter().filter_map(named).collect();
    states.sort_by(|(one, _), (other, _)| one.cmp(other));
    states
}

fn look(mut wanted: Vec<Wanted>, directory: Option<&Path>, stop: &AtomicBool) -> Vec<(Wanted, State)> {
    let look = kernel::openers(&mut wanted, directory, stop);
    let mut listed: HashMap<FileId, Vec<Listed>> = HashMap::new();
    for lock in kernel::list() {
        listed.entry(lock.file).or_default().push(lock);
    }
    let mut found = look.found.as_slice();
    let mut states = Vec::new();
    for (index, file) in wanted.into_iter().enumerate() {
        let (ours, rest) = found.split_at(found.partition_point(|opener| opener.index <= index));
        found = rest;
        let id = if listed.is_empty() || file.ino == 0 { None } else { Some(kernel::file_id(&file)) };
        let listed = id.and_then(|id| listed.get(&id)).map_or(&[][..], Vec::as_slice);
        let state = State { hidden: look.hidden, ..state(&file, ours, listed) };
        states.push((file, state));
    }
    states
}

/// Links in the way to the file are resolved, because the kernel names a removed file by its real path; a link
/// at the very end is not ours to follow.
pub(crate) fn wanted(path: &Path) -> Wanted {
    match path.parent().and_then(|parent| fs::canonicalize(parent).ok()) {
        Some(real) => in_directory(&real, path),
        None => in_directory(path.parent().unwrap_or(Path::new("")), path),
    }
}

/// The file of that name in this directory.
fn in_directory(directory: &Path, path: &Path) -> Wanted {
    let path = path.file_name().map_or_else(|| path.to_owned(), |name| directory.join(name));
    let data = fs::symlink_metadata(&path);
    let (dev, ino) = data.map_or((0, 0), |data| (data.dev(), data.ino()));
    Wanted { dev, ino, path }
}

fn state(file: &Wanted, found: &[Opener], listed: &[Listed]) -> State {
    let removed = found.iter().filter(|opener| opener.removed).map(|opener| holder(opener, None)).collect();
    let live: Vec<&Opener> = found.iter().filter(|opener| !opener.removed).collect();
    // Where there is nobody that we may look into, the kernel's list still knows that there is somebody.
    let seen = live.first().map(|opener| opener.lock);
    let lock = seen.or_else(|| listed.iter().find(|listed| !listed.waits).map(|listed| listed.lock));
    let waiters = listed.iter().filter(|listed| listed.waits).map(waiter).collect();
    let record = match record::read_path(&file.path) {
        Content::Record(record) => Some(*record),
        _ => None,
    };
    let believed = record.clone().and_then(|record| belief(&record, &live, lock).map(|belief| (record, belief)));
    let (holding, beyond) = match lock {
        Some(lock) => (Some(holding(lock, &live, believed)), None),
        None => (None, believed),
    };
    State { holding, beyond, removed, waiters, record, hidden: false }
}

fn waiter(listed: &Listed) -> Waiter {
    let pid = listed.lock.locker;
    let seen = process::seen(pid);
    let helps = matches!(process::name(pid).as_str(), "aba-lock" | "flock");
    Waiter {
        pid,
        command: process::command_line(pid),
        user: process::user_of(pid).map(process::user_name).unwrap_or_default(),
        mode: mode(listed.lock),
        script: script_of(pid).map(|script| (script, process::command_line(script))),
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.filter(|_| helps).and_then(|seen| seen.age()),
    }
}

/// What people call a lock file: the name of the lock, the task, or its path.
#[must_use]
pub fn label(path: &Path) -> String {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(name) = store::name_of(Path::new(file.trim_end_matches(" (deleted)"))) {
        return name.to_string();
    }
    match path.parent().and_then(|parent| parent.file_name()) {
        Some(id) if file == "lock" && path.with_file_name("log.out").exists() => {
            format!("task {}", id.to_string_lossy())
        }
        _ => path.display().to_string(),
    }
}

/// The script for which a helper takes a lock: it was given a descriptor of its parent's.
pub(crate) fn script_of(helper: u32) -> Option<u32> {
    let words = process::words(helper);
    let options = words.iter().skip(1).take_while(|word| *word != "--");
    let given = match process::name(helper).as_str() {
        "aba-lock" => options.clone().any(|word| word == "--fd" || word.starts_with("--fd=")),
        // flock(1): a number in the place of the file, and no command behind it.
        "flock" => words.last().is_some_and(|word| word.parse::<u16>().is_ok()),
        _ => false,
    };
    if given { process::parent(helper).filter(|pid| *pid > 0) } else { None }
}

fn mode(lock: KernelLock) -> Mode {
    if lock.exclusive { Mode::Exclusive } else { Mode::Shared }
}

fn holding(lock: KernelLock, live: &[&Opener], record: Option<(Record, Belief)>) -> Holding {
    let taker = match &record {
        Some((record, Belief::Alive | Belief::Ended | Belief::Closed)) => Some(record.pid),
        _ => None,
    };
    let mut holders: Vec<Holder> = live.iter().map(|opener| holder(opener, taker)).collect();
    holders.sort_by_key(|holder| holder.inherited == Some(true));
    let mode = mode(lock);
    let helper = live.iter().any(|opener| process::name(opener.pid) == "aba-lock");
    Holding { mode, holders, record, helper }
}

fn holder(opener: &Opener, taker: Option<u32>) -> Holder {
    let seen = process::seen(opener.pid);
    Holder {
        pid: opener.pid,
        command: process::command_line(opener.pid),
        user: process::user_name(opener.uid),
        // A shared lock has several takers, of which the record names the last: it says nothing of the others.
        inherited: taker.filter(|_| opener.lock.exclusive).map(|pid| pid != opener.pid),
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.and_then(|seen| seen.age()),
        namespace: process::namespace_of(opener.pid).filter(|namespace| *namespace != process::pid_namespace()),
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
