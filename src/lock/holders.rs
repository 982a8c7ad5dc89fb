//! Who holds a lock, and who waits for it: the kernel's word, and beside it the holder record as far as the kernel bears it
//! out.
//!
//! Looking takes no lock, so it never makes another's try fail.

pub mod ranges;

use crate::base::names::LockName;
use crate::base::target::{Kind, Target};
use crate::lock::error::LockError;
use crate::lock::flock::arguments::On;
use crate::lock::flock::lockable;
use crate::lock::record::{self, Content, Record};
use crate::os::proc::lock_table::{self, FileId, KernelLock, Listed, Opener, Wanted};
use crate::os::proc::process;
use crate::os::{self, Mode, word_for};
use crate::store::{self, Store};
use ranges::RangeHolding;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Who waits for it, in the order in which they will be served: see [`State::waiters`].
    pub queue: Vec<KernelLock>,
    /// The record in the lock file, whether it counts or not.
    pub record: Option<Record>,
    /// Whether there are processes that we may not look into.
    pub hidden: bool,
    /// Why the kernel could not be asked, if it could not: somebody may have it of whom nothing is seen.
    pub blind: Option<Blind>,
    /// What stands in the place of the lock file, if that is no regular file.
    pub odd: Option<&'static str>,
    /// An fcntl(2) lock on it, which does not conflict with the others. Only asked for where the user named the file.
    pub range: Option<RangeHolding>,
}

/// Whether somebody has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Somebody has it.
    Held,
    /// Nobody has it.
    Free,
    /// Neither would be true.
    Unknown,
}

/// Why the kernel cannot be asked who has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blind {
    /// There is no `/proc` that shows us.
    Proc,
    /// `/proc/locks` cannot be read, and there are processes that we may not look into.
    List,
    /// The lock file could not be looked at.
    File,
}

impl State {
    /// What is known of those who wait for it, in the order in which they will be served. To ask takes a dozen looks into
    /// `/proc` for each.
    #[must_use]
    pub fn waiters(&self) -> Vec<Waiter> {
        self.queue.iter().copied().map(waiter).collect()
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn known(&self) -> Known {
        match self {
            Self { holding: Some(_), .. } | Self { range: Some(_), .. } => Known::Held,
            Self { beyond: None, blind: None, odd: None, .. } => Known::Free,
            _ => Known::Unknown,
        }
    }
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
    /// Whether it was another's each time that we looked: who had it has let go since.
    pub passing: bool,
    /// Whether one of the holders is a helper, which may be about to write the record.
    helper: bool,
    /// Whether one that had it was gone when we looked at it.
    went: bool,
    /// The process that called flock(2).
    locker: u32,
}

impl Holding {
    /// The record of a holder that runs, and that is not among those that we may look into.
    #[must_use]
    pub fn unseen_taker(&self) -> Option<&Record> {
        let (record, belief) = self.record.as_ref()?;
        let seen = self.holders.iter().any(|holder| holder.pid == record.pid);
        (*belief == Belief::Alive && !seen).then_some(record)
    }

    /// Returns how the holder is related to this process, if this process or one that started it holds the lock. Waiting for
    /// the lock may then never end.
    #[must_use]
    pub fn kin(&self) -> Option<Kin> {
        if !process::has_our_numbers() {
            return None;
        }
        let has_it = |pid: u32| {
            self.holders.iter().any(|holder| holder.pid == pid)
                || self.unseen_taker().is_some_and(|record| record.pid == pid)
        };
        let us = std::process::id();
        if has_it(us) {
            return Some(Kin::Itself);
        }
        process::ancestors(us).find(|pid| has_it(*pid)).map(Kin::Ancestor)
    }

    /// Whether who has it was seen, and is there still.
    fn is_settled(&self) -> bool {
        let named = matches!(self.record, Some((_, Belief::Alive)));
        !self.holders.is_empty() || (named && !self.went)
    }
}

/// How a holder is related to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// It is this process.
    Itself,
    /// It started this process, perhaps through others.
    Ancestor(u32),
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
    /// How long it runs, if it is a program that does nothing else than wait: also for other locks before this one.
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
    /// The kernel cannot be asked whether it is of this lock or an earlier one.
    Unchecked,
}

/// How often to look, where what is seen changes meanwhile.
const MOST_LOOKS: usize = 6;

/// How soon to look again.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Whether anything can be known of a lock: not if its directory may not be searched, or if its file is none that can be
/// locked.
pub fn can_be_known(target: &Target) -> Result<(), LockError> {
    let path = &target.path;
    match fs::symlink_metadata(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(LockError::Look { path: path.clone(), source }),
        Ok(data) if !(data.is_file() || data.is_dir() && target.kind == Kind::Users) => {
            Err(LockError::NotRegular { path: path.clone(), kind: word_for(data.file_type()) })
        }
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

/// Who has the lock file at `path`, as far as a sentence names them: for those who are in a hurry, and may be a thousand. No
/// look through all processes, if the one of which the record tells can be seen to have it.
#[must_use]
pub fn briefly(path: &Path) -> State {
    briefly_until(path, &AtomicBool::new(false))
}

/// The same; of no use any more when `stop` is set, and then returned soon.
#[must_use]
pub(crate) fn briefly_until(path: &Path, stop: &AtomicBool) -> State {
    let holding = taker(path);
    if holding.is_some() { State { holding, ..State::default() } } else { of_until(path, stop) }
}

/// The same, and no look through all processes in any case: nobody, where no record names the holder.
#[must_use]
pub(crate) fn at_a_glance(path: &Path) -> State {
    State { holding: taker(path), ..State::default() }
}

/// The one who took the lock, if that is so and can be seen.
fn taker(path: &Path) -> Option<Holding> {
    let file = wanted(path);
    let Content::Record(record) = record::read_path(path) else { return None };
    let here = record.ns == process::pid_namespace() && record.boot == process::boot_id();
    // Of those who share it the record names the last.
    if !here || record.mode != Mode::Exclusive || !process::is_alive(record.pid, record.tick) {
        return None;
    }
    let lock = lock_table::lock_on(record.pid, &file)?;
    // In a pid namespace of its own the kernel gives no number for a locker that has ended.
    if !lock.exclusive || ![0, record.locker].contains(&lock.locker) {
        return None;
    }
    let holder =
        holder(&Opener { index: 0, pid: record.pid, uid: process::user_of(record.pid)?, lock, removed: false })?;
    Some(holding(lock, vec![holder], Some((*record, Belief::Alive))))
}

fn of_until(path: &Path, stop: &AtomicBool) -> State {
    let look = || settled(vec![wanted(path)], None, stop).pop().map(|(_, state)| state).unwrap_or_default();
    for _ in 0..5 {
        let state = look();
        let recorded = |holding: &Holding| matches!(holding.record, Some((_, Belief::Alive)));
        if !state.holding.as_ref().is_some_and(|holding| holding.helper && !recorded(holding)) {
            return state;
        }
        thread::sleep(LOOK_AGAIN);
    }
    look()
}

/// The same for many, with one look through the processes.
#[must_use]
pub fn of_all(paths: &[PathBuf]) -> Vec<State> {
    let wanted = paths.iter().map(|path| wanted(path)).collect();
    settled(wanted, None, &AtomicBool::new(false)).into_iter().map(|(_, state)| state).collect()
}

/// The same for all locks of a state root, in the order of their names; also for those whose file was removed.
pub fn of_store(store: &Store) -> Result<Vec<(LockName, State)>, LockError> {
    let root = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let wanted = store.try_names()?.iter().map(|name| in_directory(&root, &store.lock_path(name))).collect();
    let named = |(file, state): (Wanted, State)| {
        let there = fs::symlink_metadata(&file.path).ok().filter(|data| !data.is_file());
        let odd = there.map(|data| word_for(data.file_type()));
        Some((store::name_of(&file.path)?, State { odd, ..state }))
    };
    let found = settled(wanted, Some(&root), &AtomicBool::new(false));
    let mut states: Vec<_> = found.into_iter().filter_map(named).collect();
    states.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(states)
}

/// Looks, and looks again where a holder went, or came, while we did: processes, the list of locks and the record are not
/// read in one moment.
fn settled(wanted: Vec<Wanted>, directory: Option<&Path>, stop: &AtomicBool) -> Vec<(Wanted, State)> {
    let mut states = look(wanted, directory, stop);
    let unsettled = |state: &State| state.holding.as_ref().is_some_and(|holding| !holding.is_settled());
    let mut open: Vec<Open> = Vec::new();
    for (at, (_, state)) in states.iter().enumerate().filter(|(_, (_, state))| unsettled(state)) {
        open.push(Open { at, locker: state.holding.as_ref().map_or(0, |holding| holding.locker), same: 0 });
    }
    for _ in 1..MOST_LOOKS {
        if open.is_empty() || stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(LOOK_AGAIN);
        let again = |open: &Open| {
            let path = &states[open.at].0.path;
            in_directory(path.parent().unwrap_or(Path::new("")), path)
        };
        let new = look(open.iter().map(again).collect(), None, stop);
        open = open
            .into_iter()
            .zip(new)
            .filter_map(|(one, new)| {
                let next = one.next(&new.1);
                states[one.at] = new;
                next
            })
            .collect();
    }
    for one in open {
        if let Some(holding) = &mut states[one.at].1.holding {
            // It was another's each time: what was seen of one says nothing of the others.
            holding.passing = true;
            holding.record = None;
        }
    }
    states
}

/// A lock of which it is open who has it.
struct Open {
    /// Which.
    at: usize,
    /// Who called flock(2), when we looked last.
    locker: u32,
    /// How often it was the same one.
    same: u32,
}

impl Open {
    /// What is open after another look, if anything is.
    fn next(&self, state: &State) -> Option<Self> {
        let holding = state.holding.as_ref().filter(|holding| !holding.is_settled())?;
        let same = if holding.locker == self.locker && !holding.went { self.same + 1 } else { 0 };
        // One who keeps it, and cannot be seen. Where all can be, it may be a child that started behind our back.
        let enough = if state.hidden { 1 } else { 2 };
        (same < enough).then_some(Self { at: self.at, locker: holding.locker, same })
    }
}

/// How much can be seen from here.
#[derive(Clone, Copy)]
struct Sight {
    /// Whether there are processes that we may not look into.
    hidden: bool,
    blind: Option<Blind>,
    /// Whether there is no holder that we do not see, in whatever pid namespace of this machine.
    all: bool,
}

impl Sight {
    fn new(closed: bool, listed: bool) -> Self {
        if !process::can_be_seen() {
            return Self { hidden: true, blind: Some(Blind::Proc), all: false };
        }
        let hidden = closed || process::are_hidden();
        let blind = (hidden && !listed).then_some(Blind::List);
        Self { hidden, blind, all: !hidden && process::pid_namespace() == lock_table::FIRST_NAMESPACE }
    }
}

fn look(mut wanted: Vec<Wanted>, directory: Option<&Path>, stop: &AtomicBool) -> Vec<(Wanted, State)> {
    let look = lock_table::openers(&mut wanted, directory, stop);
    let mut listed: HashMap<FileId, Vec<Listed>> = HashMap::new();
    let list = lock_table::try_list();
    let sight = Sight::new(look.hidden, list.is_some());
    for lock in list.unwrap_or_default() {
        listed.entry(lock.file).or_default().push(lock);
    }
    let mut found = look.found.as_slice();
    let mut states = Vec::new();
    for (index, file) in wanted.into_iter().enumerate() {
        let (ours, rest) = found.split_at(found.partition_point(|opener| opener.index <= index));
        found = rest;
        let id = if listed.is_empty() || file.ino == 0 { None } else { Some(lock_table::file_id(&file)) };
        let listed = id.and_then(|id| listed.get(&id)).map_or(&[][..], Vec::as_slice);
        let state = state(&file, ours, listed, sight);
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
    let lost = data.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
    let (dev, ino) = data.map_or((0, 0), |data| (data.dev(), data.ino()));
    Wanted { dev, ino, path, lost }
}

fn state(file: &Wanted, found: &[Opener], listed: &[Listed], sight: Sight) -> State {
    let removed = found.iter().filter(|opener| opener.removed).filter_map(holder).collect();
    let (live, holders): (Vec<&Opener>, Vec<Holder>) =
        found.iter().filter(|opener| !opener.removed).filter_map(|opener| Some((opener, holder(opener)?))).unzip();
    let seen = found.iter().find(|opener| !opener.removed);
    let went = seen.is_some() && live.is_empty();
    // Where there is nobody that we may look into, the kernel's list still knows that there is somebody.
    let lock = live.first().copied().or(seen).map(|opener| opener.lock);
    let lock = lock.or_else(|| listed.iter().find(|listed| !listed.waits).map(|listed| listed.lock));
    let queue = listed.iter().filter(|listed| listed.waits).map(|listed| listed.lock).collect();
    let record = match record::read_path(&file.path) {
        Content::Record(record) => Some(*record),
        _ => None,
    };
    let believed = record.clone().and_then(|record| belief(&record, &live, lock, sight).map(|belief| (record, belief)));
    let (holding, beyond) = match lock {
        Some(lock) => (Some(Holding { went, ..holding(lock, holders, believed) }), None),
        None => (None, believed),
    };
    // Where there is no file, nobody has a lock on it.
    let blind = if file.lost { Some(Blind::File) } else { sight.blind.filter(|_| file.ino != 0) };
    State { holding, beyond, removed, queue, record, hidden: sight.hidden, blind, odd: None, range: None }
}

fn waiter(lock: KernelLock) -> Waiter {
    let pid = lock.locker;
    let seen = process::seen(pid);
    let helps = matches!(process::name(pid).as_str(), "aba-lock" | "flock");
    Waiter {
        pid,
        command: process::command_line(pid),
        user: process::user_of(pid).map(process::user_name).unwrap_or_default(),
        mode: mode(lock),
        script: script_of(pid).map(|script| (script, process::command_line(script))),
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.filter(|_| helps).and_then(|seen| seen.age()),
    }
}

/// Their numbers, as kill(1) takes them.
#[must_use]
pub fn numbers(holders: &[Holder]) -> String {
    holders.iter().map(|holder| holder.pid.to_string()).collect::<Vec<_>>().join(" ")
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
    let given = match lockable::of_process(helper) {
        Some(flock) => matches!(flock.on, On::Descriptor(_)) && flock.command.is_none(),
        None if process::name(helper) == "aba-lock" => {
            let words = process::words(helper);
            let mut options = words.iter().skip(1).take_while(|word| *word != "--");
            options.any(|word| word == "--fd" || word.starts_with("--fd="))
        }
        None => false,
    };
    if given { process::parent(helper).filter(|pid| *pid > 0) } else { None }
}

fn mode(lock: KernelLock) -> Mode {
    if lock.exclusive { Mode::Exclusive } else { Mode::Shared }
}

fn holding(lock: KernelLock, mut holders: Vec<Holder>, record: Option<(Record, Belief)>) -> Holding {
    let mut record = record;
    if let Some((record, Belief::Alive)) = &mut record
        && let Some(holder) = holders.iter().find(|holder| holder.pid == record.pid)
        && process::user_of(holder.pid).is_some_and(process::is_known_user)
    {
        // In the user namespace in which the record was written the user may have another name.
        record.user.clone_from(&holder.user);
    }
    let taker = match &record {
        Some((record, Belief::Alive | Belief::Ended | Belief::Closed)) => Some(record.pid),
        _ => None,
    };
    for holder in &mut holders {
        // A shared lock has several takers, of which the record names the last: it says nothing of the others.
        holder.inherited = taker.filter(|_| lock.exclusive).map(|pid| pid != holder.pid);
    }
    holders.sort_by_key(|holder| holder.inherited == Some(true));
    let mode = mode(lock);
    let records = |pid| process::name(pid) == "aba-lock" && lockable::of_process(pid).is_none();
    let helper = holders.iter().any(|holder| records(holder.pid));
    Holding { mode, holders, record, passing: false, helper, went: false, locker: lock.locker }
}

/// `None`: it has gone meanwhile.
fn holder(opener: &Opener) -> Option<Holder> {
    person(opener.pid, opener.uid, None)
}

/// Returns the facts about a process that holds a lock. `None`: it has ended.
fn person(pid: u32, uid: u32, inherited: Option<bool>) -> Option<Holder> {
    let command = process::command_line(pid);
    // Last, so that the rest is of this process.
    let seen = process::seen(pid);
    (seen.is_some() && !command.is_empty()).then(|| Holder {
        pid,
        command,
        user: process::user_name(uid),
        inherited,
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.and_then(|seen| seen.age()),
        namespace: process::namespace_of(pid).filter(|namespace| *namespace != process::pid_namespace()),
    })
}

/// How far `record` is to be believed beside what the kernel says. `None`: it is of an earlier lock, or of one
/// that has ended.
fn belief(record: &Record, live: &[&Opener], lock: Option<KernelLock>, sight: Sight) -> Option<Belief> {
    // A holder that we see has a number here, which the record of another place cannot give.
    let unseen = live.is_empty();
    let (boot, same_host) = (process::boot_id(), record.host == os::host_name());
    // Which boot this is may be closed to us: then the name of the machine has to do.
    if if boot.is_empty() { !same_host } else { record.boot != boot } {
        // The same name and another boot: this machine was started again since, and no lock outlives that.
        return (unseen && !same_host).then_some(Belief::OtherHost);
    }
    if sight.blind == Some(Blind::Proc) {
        return Some(Belief::Unchecked);
    }
    if record.ns != process::pid_namespace() {
        return (unseen && !sight.all).then_some(Belief::OtherNamespace);
    }
    let lockers: Vec<u32> = match lock {
        None if sight.blind.is_some() => return Some(Belief::Unchecked),
        None => return None,
        Some(lock) if unseen => vec![lock.locker],
        Some(_) => live.iter().map(|opener| opener.lock.locker).collect(),
    };
    let named = lockers.contains(&record.locker);
    // In a pid namespace of its own the kernel gives no number for a locker that has ended.
    let untold = lockers.contains(&0);
    let is_seen = live.iter().any(|opener| opener.pid == record.pid);
    match (named, untold, !process::has_ended(record.pid, record.tick)) {
        // Whether one that we may not look into has closed it is not known.
        (true, _, true) if unseen || is_seen || !process::may_be_looked_into(record.pid) => Some(Belief::Alive),
        (true, _, true) => Some(Belief::Closed),
        (true, _, false) => Some(Belief::Ended),
        (false, true, true) if is_seen => Some(Belief::Alive),
        (false, true, false) => Some(Belief::Perhaps),
        // The record of an earlier holder: this one left none, as flock(1) does.
        _ => None,
    }
}
