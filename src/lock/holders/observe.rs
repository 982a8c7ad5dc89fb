//! Observes flock(2) locks: combines the open files of all processes, the kernel's list of locks, and the records.
//!
//! The three are not read in one instant, so a holder can end or appear in between. The functions here look again until the
//! result is consistent, at most [`MAX_LOOKS`] times.

use super::belief::{Sight, judge_record};
use super::holder::Holder;
use super::lease::find_lasting_lease;
use super::lock_file::{LockFile, LockFileFacts, identify_file, identify_file_in, identify_files};
#[cfg(not(linux))]
use super::portable;
use super::shortcut::{self, AllHolders};
use super::state::{Availability, Belief, BlindSpot, Holding, LockState};
use super::waiter::name_ticket_holders;
use crate::base::names::LockName;
use crate::lock::open::{find_denial, find_planted_names};
use crate::lock::peer;
use crate::lock::promise;
use crate::lock::record::{self, Content, Record};
use crate::os::number_map::NumberMap;
use crate::os::proc::lock_table::{self, KernelLock, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess};
use crate::os::proc::process;
use crate::os::{Mode, word_for};
use crate::store::error::StoreError;
use crate::store::{self, Store};
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The maximum number of looks at a lock that changes while it is observed.
const MAX_LOOKS: usize = 6;

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Returns the state of the lock at `path`.
///
/// If the lock was acquired just now, this waits some milliseconds for its record.
#[must_use]
pub fn observe_lock(path: &Path) -> LockState {
    observe_until(path, &AtomicBool::new(false))
}

/// Returns the holder of the lock at `path`, and no more than a message needs. It is for waiters, of which there can be a
/// thousand: if the process in the record is seen to hold the lock, no other process is examined.
#[must_use]
pub fn observe_briefly(path: &Path) -> LockState {
    observe_briefly_until(path, &AtomicBool::new(false))
}

/// Does the same as [`observe_briefly`], but returns soon after `stop` is set, with a state that may be incomplete.
#[must_use]
pub(crate) fn observe_briefly_until(path: &Path, stop: &AtomicBool) -> LockState {
    let holding = find_taker(path);
    if holding.is_some() { LockState { holding, ..LockState::default() } } else { observe_until(path, stop) }
}

/// Does the same as [`observe_briefly`], but never examines all processes. If no record names the holder, the state has
/// no holder.
#[must_use]
pub(crate) fn observe_taker(path: &Path) -> LockState {
    LockState { holding: find_taker(path).or_else(|| find_bound_taker(path)), ..LockState::default() }
}

/// Returns the process in the record, if a lock is bound to it (`--no-inherit`), and the acquisition of the record holds the lock.
fn find_bound_taker(path: &Path) -> Option<Holding> {
    let file = identify_file(path);
    let record = shortcut::find_running_taker(&file).filter(|record| record.mode == Mode::Exclusive)?;
    if !process::descriptors(record.pid).any(|(descriptor, data)| peer::may_bind_lock(&descriptor, &data)) {
        return None;
    }
    let lock = lock_table::lines::find_exclusive_lock(lock_table::file_id(&file))?;
    if ![0, record.locker].contains(&lock.locker) {
        return None;
    }
    let holder = Holder::find(record.pid, process::user_of(record.pid)?)?;
    Some(build_holding(lock, vec![holder], Some((record, Belief::Alive))))
}

/// Returns the process in the record, if it is seen to hold the lock.
fn find_taker(path: &Path) -> Option<Holding> {
    let file = identify_file(path);
    // The record of a shared lock names only the last of its holders.
    let record = shortcut::find_running_taker(&file).filter(|record| record.mode == Mode::Exclusive)?;
    let lock = openers::lock_on(record.pid, &file)?;
    // In a pid namespace other than the first one, the kernel shows 0 for a locker that has ended.
    if !lock.exclusive || ![0, record.locker].contains(&lock.locker) {
        return None;
    }
    let holder = Holder::find(record.pid, process::user_of(record.pid)?)?;
    Some(build_holding(lock, vec![holder], Some((record, Belief::Alive))))
}

/// Returns whether a process holds the lock at `path`. It stops at the first proof that one does, or that none does.
#[must_use]
pub fn find_availability(path: &Path) -> Availability {
    let file = identify_file(path);
    if shortcut::is_held_by_taker(&file) { Availability::Held } else { find_conflict_on(file, Mode::Exclusive) }
}

/// Returns whether a process holds the lock at `path` so that it cannot be acquired in `mode`. As long as the kernel lists such
/// a lock, this does not open the file, so a watch of the file is not disturbed.
#[must_use]
pub(crate) fn find_conflict(path: &Path, mode: Mode) -> Availability {
    find_conflict_on(identify_file(path), mode)
}

fn find_conflict_on(file: WantedFile, mode: Mode) -> Availability {
    let conflicts = |held: Mode| mode == Mode::Exclusive || held == Mode::Exclusive;
    let complete = if file.ino == 0 { None } else { lock_table::list_completely() };
    let is_free = complete.as_ref().is_some_and(|all| shortcut::is_free(&file, all));
    // A file that does not exist is not locked.
    if is_free || file.ino == 0 && !file.lost {
        return build_state(&file, &[], &[], Sight::with_complete_list(false)).availability();
    }
    // An entry in the kernel's list proves that the lock is held. Without an entry it may be held nevertheless.
    let all = complete.or_else(lock_table::list_held);
    let id = lock_table::file_id(&file);
    if all.iter().flatten().any(|one| !one.waits && one.file == id && conflicts(one.lock.mode())) {
        return Availability::Held;
    }
    let found = look(vec![file], Vec::new(), None, &AtomicBool::new(false), || all);
    let Some((_, state)) = found.first() else { return Availability::Unknown };
    match &state.holding {
        Some(holding) if !conflicts(holding.mode) => Availability::Free,
        _ => state.availability(),
    }
}

/// Returns the state of the exclusive lock at `path` without an examination of all descriptors, if its holders can be found by the
/// first of them.
fn look_at_sharers(path: &Path) -> Option<LockState> {
    let file = identify_file(path);
    let all = shortcut::find_all_holders(&file)?;
    let state = build_state(&file, &all.scan.found, &all.listed, Sight::new(all.scan.hidden, true));
    state.holding.as_ref().is_some_and(Holding::is_settled).then_some(state)
}

/// Returns the state of the lock at `path` without an examination of all descriptors, if the kernel's list proves that no process
/// holds it.
fn look_at_free_lock(path: &Path) -> Option<LockState> {
    let file = identify_file(path);
    let waiters = shortcut::find_waiters_of_free_lock(&file)?;
    Some(build_state(&file, &[], &waiters, Sight::with_complete_list(false)))
}

fn observe_until(path: &Path, stop: &AtomicBool) -> LockState {
    let look_at_all = || look_until_settled(vec![identify_file(path)], Vec::new(), None, stop).pop();
    let look = || {
        look_at_sharers(path).or_else(|| look_at_free_lock(path)).or_else(|| Some(look_at_all()?.1)).unwrap_or_default()
    };
    for _ in 0..5 {
        let state = look();
        let is_recorded = |holding: &Holding| matches!(holding.record, Some((_, Belief::Alive)));
        if !state.holding.as_ref().is_some_and(|holding| holding.has_helper && !is_recorded(holding)) {
            return state;
        }
        thread::sleep(LOOK_AGAIN);
    }
    look()
}

/// Returns the states of the locks at `paths`. All processes are examined once for all of them.
#[must_use]
pub fn observe_all(paths: &[PathBuf]) -> Vec<LockState> {
    look_until_settled(identify_files(paths), Vec::new(), None, &AtomicBool::new(false))
        .into_iter()
        .map(|(_, state)| state)
        .collect()
}

/// Returns the states of all locks of a state root, in the order of their names, including those whose file was removed while
/// they were held.
pub fn observe_store(store: &Store) -> Result<Vec<(LockName, LockState)>, StoreError> {
    let root = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let paths: Vec<PathBuf> = store.try_names()?.iter().map(|name| store.lock_path(name)).collect();
    let (mut wanted, mut contents, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    for LockFile { file, content, facts: found } in LockFile::examine_all(&root, &paths) {
        wanted.push(file);
        contents.push(content);
        facts.push(found);
    }
    let leased =
        if facts.iter().any(LockFileFacts::may_be_leased) { lock_table::list_leased_files() } else { Vec::new() };
    let facts = facts.into_iter().chain(iter::repeat(LockFileFacts::default())); // Those of removed files.
    let named = |((file, mut state), facts): ((WantedFile, LockState), LockFileFacts)| {
        let name = store::name_of(&file.path)?;
        state.wrong_type = facts.kind.filter(|kind| !kind.is_file()).map(word_for);
        let is_listed = || leased.iter().any(|id| id.ino == file.ino && *id == lock_table::file_id(&file));
        if state.holding.is_none() && (facts.is_leased || facts.is_shared && is_listed()) {
            state.lease = find_lasting_lease(&file.path).map(Box::new);
        }
        if state.wrong_type.is_none() && facts.names > 1 {
            state.planted = find_planted_names(&store.target(&name), facts.names).map(Box::new);
        }
        if facts.is_denied && state.wrong_type.is_none() {
            state.denied = find_denial(&file.path).map(Box::new);
        }
        if facts.may_have_promise {
            state.promised = promise::find_promised_run(&file.path, state.availability() == Availability::Free);
        }
        Some((name, state))
    };
    let found = look_until_settled(wanted, contents, Some(&root), &AtomicBool::new(false));
    let mut states: Vec<_> = found.into_iter().zip(facts).filter_map(named).collect();
    states.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(states)
}

/// Looks at the wanted locks, and looks again at those whose holder appeared or ended in between.
///
/// `contents` are those of the first of these files, as of a moment before.
fn look_until_settled(
    wanted: Vec<WantedFile>,
    contents: Vec<Content>,
    directory: Option<&Path>,
    stop: &AtomicBool,
) -> Vec<(WantedFile, LockState)> {
    let mut states = look(wanted, contents, directory, stop, lock_table::try_list);
    let unsettled = |state: &LockState| state.holding.as_ref().is_some_and(|holding| !holding.is_settled());
    let mut open: Vec<Unsettled> = Vec::new();
    for (index, (_, state)) in states.iter().enumerate().filter(|(_, (_, state))| unsettled(state)) {
        open.push(Unsettled { index, locker: state.holding.as_ref().map_or(0, |holding| holding.locker), repeats: 0 });
    }
    for _ in 1..MAX_LOOKS {
        if open.is_empty() || stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(LOOK_AGAIN);
        let identify_again = |open: &Unsettled| {
            let path = &states[open.index].0.path;
            identify_file_in(path.parent().unwrap_or(Path::new("")), path)
        };
        let wanted = open.iter().map(identify_again).collect();
        let new = look(wanted, Vec::new(), None, stop, lock_table::try_list);
        open = open
            .into_iter()
            .zip(new)
            .filter_map(|(one, new)| {
                let next = one.after_look(&new.1);
                states[one.index] = new;
                next
            })
            .collect();
    }
    for one in open {
        if let Some(holding) = &mut states[one.index].1.holding {
            // Each look found another holder, so the record of one says nothing about the others.
            holding.changes_hands = true;
            holding.record = None;
        }
    }
    states
}

/// A lock whose holder was not seen, although the kernel says that there is one.
struct Unsettled {
    index: usize,
    /// The process that called flock(2), as of the last look.
    locker: u32,
    /// The number of looks that found the same locker as the one before.
    repeats: u32,
}

impl Unsettled {
    /// Returns the lock for another look, unless `state` settles it.
    fn after_look(&self, state: &LockState) -> Option<Self> {
        let holding = state.holding.as_ref().filter(|holding| !holding.is_settled())?;
        let is_same = holding.locker == self.locker && !holding.has_ended;
        let repeats = if is_same { self.repeats + 1 } else { 0 };
        // The holder keeps the lock, and cannot be seen. If all processes can be seen, it may be a child that was started while
        // we looked, which the next look finds.
        let enough = if state.hidden { 1 } else { 2 };
        (repeats < enough).then_some(Self { index: self.index, locker: holding.locker, repeats })
    }
}

/// Looks once at the wanted locks. With a directory, includes the locks of files that were removed from it.
///
/// `read_list` reads the kernel's list of locks, after the processes.
fn look(
    mut wanted: Vec<WantedFile>,
    contents: Vec<Content>,
    directory: Option<&Path>,
    stop: &AtomicBool,
    read_list: impl FnOnce() -> Option<Vec<ListedLock>>,
) -> Vec<(WantedFile, LockState)> {
    let few = directory.and_then(|_| shortcut::find_holders_of_few(&wanted));
    let (look, list, sight) = if let Some(AllHolders { scan, listed }) = few {
        let sight = Sight::with_complete_list(scan.hidden);
        (scan, Some(listed), sight)
    } else {
        let scan = openers::find_locking_processes(&mut wanted, directory, stop);
        let list = read_list();
        let sight = Sight::new(scan.hidden, list.is_some());
        (scan, list, sight)
    };
    // By inode. The device that the kernel names is only looked up for files with a listed inode, because on tmpfs, btrfs and
    // overlay that takes six system calls.
    let mut listed: NumberMap<u64, Vec<ListedLock>> = NumberMap::default();
    for lock in list.unwrap_or_default() {
        listed.entry(lock.file.ino).or_default().push(lock);
    }
    let (mut found, mut contents) = (look.found.as_slice(), contents.into_iter());
    let mut states = Vec::with_capacity(wanted.len());
    for (index, file) in wanted.into_iter().enumerate() {
        let (openers, rest) = found.split_at(found.partition_point(|opener| opener.index <= index));
        found = rest;
        let listed = listed.get(&file.ino).filter(|_| file.ino != 0).map_or_else(Vec::new, |same_inode| {
            let id = lock_table::file_id(&file);
            same_inode.iter().filter(|one| one.file == id).copied().collect()
        });
        let content = contents.next();
        let is_free = openers.is_empty() && listed.iter().all(|one| one.waits);
        let content = content.filter(|_| is_free).unwrap_or_else(|| record::read_path(&file.path));
        #[cfg(not(linux))]
        let (openers, listed, sight) = portable::assign_lock(&file, openers, &content, sight);
        #[cfg(not(linux))]
        let openers = &openers;
        let state = build_state_with(&file, openers, &listed, sight, content);
        states.push((file, state));
    }
    states
}

/// Builds the state of one lock from the processes that have its file open with a lock, and from its entries in the kernel's list.
fn build_state(file: &WantedFile, found: &[LockingProcess], listed: &[ListedLock], sight: Sight) -> LockState {
    build_state_with(file, found, listed, sight, record::read_path(&file.path))
}

/// Does the same as [`build_state`], with the content of the file.
fn build_state_with(
    file: &WantedFile,
    found: &[LockingProcess],
    listed: &[ListedLock],
    sight: Sight,
    content: Content,
) -> LockState {
    let holder = |opener: &LockingProcess| {
        Some(Holder { slot: opener.lock.slots.slot(), ..Holder::find(opener.pid, opener.uid)? })
    };
    let removed = found.iter().filter(|opener| opener.removed).filter_map(holder).collect();
    let mut scripts = Vec::new();
    let (mut live, mut holders): (Vec<&LockingProcess>, Vec<Holder>) =
        found.iter().filter(|opener| !opener.removed).filter_map(|opener| Some((opener, holder(opener)?))).unzip();
    let slots = holders.iter().filter_map(|holder| holder.slot).collect();
    // A process with several slots is in the list once for each.
    live.dedup_by_key(|opener| opener.pid);
    holders.dedup_by_key(|holder| holder.pid);
    for (at, holder) in holders.iter_mut().enumerate() {
        if let Some(script) = find_bound_script(live[at], holder) {
            scripts.push((at, script));
        }
    }
    for (at, script) in &scripts {
        live[*at] = script;
    }
    mark_inherited_shared_locks(&live, &mut holders);
    let seen = found.iter().find(|opener| !opener.removed);
    let has_ended = seen.is_some() && live.is_empty();
    // If the files of the holder cannot be seen, the kernel's list still shows that there is one.
    let lock = live.first().copied().or(seen).map(|opener| opener.lock);
    let lock = lock.or_else(|| listed.iter().find(|listed| !listed.waits).map(|listed| listed.lock));
    let mut queue = listed.iter().filter(|listed| listed.waits).map(|listed| listed.lock).collect();
    name_ticket_holders(file, &mut queue, |pid| found.iter().any(|opener| opener.pid == pid));
    let record = match content {
        Content::Record(record) => Some(record),
        _ => None,
    };
    let belief = record.as_ref().and_then(|record| judge_record(record, &live, lock, sight));
    let believed = belief.and_then(|belief| Some((record.clone()?, belief)));
    let (holding, unseen) = match lock {
        Some(lock) => (Some(Holding { slots, has_ended, ..build_holding(lock, holders, believed) }), None),
        None => (None, believed),
    };
    // A file that does not exist is not locked.
    let blind_spot = if file.lost { Some(BlindSpot::File) } else { sight.blind_spot.filter(|_| file.ino != 0) };
    LockState { holding, unseen, removed, queue, record, hidden: sight.hidden, blind_spot, ..LockState::default() }
}

/// If a process holds the lock for a script that is bound to it, replaces `holder` by the script, and returns the script as the process
/// that holds the lock.
fn find_bound_script(opener: &LockingProcess, holder: &mut Holder) -> Option<LockingProcess> {
    let script = peer::find_bound_script(opener.pid, &holder.command)?;
    let uid = process::user_of(script)?;
    *holder = Holder { slot: opener.lock.slots.slot(), ..Holder::find(script, uid)? };
    Some(LockingProcess { pid: script, uid, ..opener.clone() })
}

/// Marks the holders of a shared lock that have inherited it from another one, as a command from the helper that waits for it. `live` are the
/// same processes, in the same order.
fn mark_inherited_shared_locks(live: &[&LockingProcess], holders: &mut [Holder]) {
    for (opener, holder) in live.iter().zip(holders).filter(|(opener, _)| !opener.lock.exclusive) {
        // The locker may have ended, and its pid may be that of another holder, which is then its own locker, too. It has another slot.
        let is_source = |other: &&&LockingProcess| {
            other.pid == opener.lock.locker && other.pid != opener.pid && other.lock.locker == other.pid
        };
        // The helper of a script is the locker until it ends, but the script has not inherited the lock from it.
        let has_inherited = live.iter().find(is_source).is_some_and(|source| {
            let is_same = source.lock.slots.slot() == opener.lock.slots.slot();
            is_same && process::ancestors(opener.pid).any(|ancestor| ancestor == source.pid)
        });
        holder.inherited = has_inherited.then_some(true);
    }
}

fn build_holding(lock: KernelLock, mut holders: Vec<Holder>, record: Option<(Box<Record>, Belief)>) -> Holding {
    let mut record = record;
    if let Some((record, Belief::Alive)) = &mut record
        && let Some(user) = process::user_of(record.pid).filter(|user| process::is_known_user(*user))
    {
        // The user can have another name in the user namespace in which the record was written, and another user can have written it.
        let holder = holders.iter().find(|holder| holder.pid == record.pid);
        record.user = holder.map_or_else(|| process::user_name(user), |holder| holder.user.clone());
    }
    let taker = match &record {
        Some((record, Belief::Alive | Belief::Ended | Belief::Closed)) => Some(record.pid),
        _ => None,
    };
    // A shared lock was acquired by several processes, and the record names only the last of them.
    for holder in holders.iter_mut().filter(|_| lock.exclusive) {
        holder.inherited = taker.map(|pid| pid != holder.pid);
    }
    holders.sort_by_key(|holder| (holder.inherited == Some(true), holder.slot.map_or(0, |slot| slot.number)));
    let has_helper = holders.iter().any(|holder| peer::has_name_of_recording_helper(holder.pid));
    Holding {
        mode: lock.mode(),
        holders,
        record,
        slots: Vec::new(),
        changes_hands: false,
        has_helper,
        has_ended: false,
        locker: lock.locker,
    }
}
