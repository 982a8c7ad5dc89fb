//! Observing locks: the kernel's list, the open files of processes, and the record, combined.

use super::belief::{Sight, belief};
use super::holder::{Holder, holder};
use super::lock_file::{identify_file, identify_file_in};
use super::state::{Belief, BlindSpot, Holding, LockState};
use super::waiter::mode;
use crate::base::names::LockName;
use crate::lock::peer;
use crate::lock::record::{self, Content, Record};
use crate::os::proc::lock_table::{self, FileId, KernelLock, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess};
use crate::os::proc::process;
use crate::os::{Mode, word_for};
use crate::store::error::StoreError;
use crate::store::{self, Store};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often to look, where what is seen changes meanwhile.
const MOST_LOOKS: usize = 6;

/// How soon to look again.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// What is known of the lock file at `path`.
///
/// If its lock was taken just now, this waits some milliseconds for the record.
#[must_use]
pub fn observe_lock(path: &Path) -> LockState {
    observe_until(path, &AtomicBool::new(false))
}

/// Who has the lock file at `path`, as far as a sentence names them: for those who are in a hurry, and may be a thousand. No
/// look through all processes, if the one of which the record tells can be seen to have it.
#[must_use]
pub fn observe_briefly(path: &Path) -> LockState {
    observe_briefly_until(path, &AtomicBool::new(false))
}

/// The same; of no use any more when `stop` is set, and then returned soon.
#[must_use]
pub(crate) fn observe_briefly_until(path: &Path, stop: &AtomicBool) -> LockState {
    let holding = find_taker(path);
    if holding.is_some() { LockState { holding, ..LockState::default() } } else { observe_until(path, stop) }
}

/// The same, and no look through all processes in any case: nobody, where no record names the holder.
#[must_use]
pub(crate) fn observe_taker(path: &Path) -> LockState {
    LockState { holding: find_taker(path), ..LockState::default() }
}

/// The one who took the lock, if that is so and can be seen.
fn find_taker(path: &Path) -> Option<Holding> {
    let file = identify_file(path);
    let Content::Record(record) = record::read_path(path) else { return None };
    let here = record.ns == process::pid_namespace() && record.boot == process::boot_id();
    // Of those who share it the record names the last.
    if !here || record.mode != Mode::Exclusive || !process::is_alive(record.pid, record.tick) {
        return None;
    }
    let lock = openers::lock_on(record.pid, &file)?;
    // In a pid namespace of its own the kernel gives no number for a locker that has ended.
    if !lock.exclusive || ![0, record.locker].contains(&lock.locker) {
        return None;
    }
    let holder = holder(&LockingProcess {
        index: 0,
        pid: record.pid,
        uid: process::user_of(record.pid)?,
        lock,
        removed: false,
    })?;
    Some(build_holding(lock, vec![holder], Some((*record, Belief::Alive))))
}

fn observe_until(path: &Path, stop: &AtomicBool) -> LockState {
    let look =
        || look_until_settled(vec![identify_file(path)], None, stop).pop().map(|(_, state)| state).unwrap_or_default();
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
pub fn observe_all(paths: &[PathBuf]) -> Vec<LockState> {
    let wanted = paths.iter().map(|path| identify_file(path)).collect();
    look_until_settled(wanted, None, &AtomicBool::new(false)).into_iter().map(|(_, state)| state).collect()
}

/// The same for all locks of a state root, in the order of their names; also for those whose file was removed.
pub fn observe_store(store: &Store) -> Result<Vec<(LockName, LockState)>, StoreError> {
    let root = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let wanted = store.try_names()?.iter().map(|name| identify_file_in(&root, &store.lock_path(name))).collect();
    let named = |(file, state): (WantedFile, LockState)| {
        let there = fs::symlink_metadata(&file.path).ok().filter(|data| !data.is_file());
        let wrong_type = there.map(|data| word_for(data.file_type()));
        Some((store::name_of(&file.path)?, LockState { wrong_type, ..state }))
    };
    let found = look_until_settled(wanted, Some(&root), &AtomicBool::new(false));
    let mut states: Vec<_> = found.into_iter().filter_map(named).collect();
    states.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(states)
}

/// Looks, and looks again where a holder went, or came, while we did: processes, the list of locks and the record are not
/// read in one moment.
fn look_until_settled(
    wanted: Vec<WantedFile>,
    directory: Option<&Path>,
    stop: &AtomicBool,
) -> Vec<(WantedFile, LockState)> {
    let mut states = look(wanted, directory, stop);
    let unsettled = |state: &LockState| state.holding.as_ref().is_some_and(|holding| !holding.is_settled());
    let mut open: Vec<Unsettled> = Vec::new();
    for (at, (_, state)) in states.iter().enumerate().filter(|(_, (_, state))| unsettled(state)) {
        open.push(Unsettled { at, locker: state.holding.as_ref().map_or(0, |holding| holding.locker), same: 0 });
    }
    for _ in 1..MOST_LOOKS {
        if open.is_empty() || stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(LOOK_AGAIN);
        let again = |open: &Unsettled| {
            let path = &states[open.at].0.path;
            identify_file_in(path.parent().unwrap_or(Path::new("")), path)
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
            holding.changes_hands = true;
            holding.record = None;
        }
    }
    states
}

/// A lock of which it is open who has it.
struct Unsettled {
    /// Which.
    at: usize,
    /// Who called flock(2), when we looked last.
    locker: u32,
    /// How often it was the same one.
    same: u32,
}

impl Unsettled {
    /// What is open after another look, if anything is.
    fn next(&self, state: &LockState) -> Option<Self> {
        let holding = state.holding.as_ref().filter(|holding| !holding.is_settled())?;
        let same = if holding.locker == self.locker && !holding.went { self.same + 1 } else { 0 };
        // One who keeps it, and cannot be seen. Where all can be, it may be a child that started behind our back.
        let enough = if state.hidden { 1 } else { 2 };
        (same < enough).then_some(Self { at: self.at, locker: holding.locker, same })
    }
}

fn look(mut wanted: Vec<WantedFile>, directory: Option<&Path>, stop: &AtomicBool) -> Vec<(WantedFile, LockState)> {
    let look = openers::find_locking_processes(&mut wanted, directory, stop);
    let mut listed: HashMap<FileId, Vec<ListedLock>> = HashMap::new();
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
        let state = build_state(&file, ours, listed, sight);
        states.push((file, state));
    }
    states
}

fn build_state(file: &WantedFile, found: &[LockingProcess], listed: &[ListedLock], sight: Sight) -> LockState {
    let removed = found.iter().filter(|opener| opener.removed).filter_map(holder).collect();
    let (live, holders): (Vec<&LockingProcess>, Vec<Holder>) =
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
    let (holding, unseen) = match lock {
        Some(lock) => (Some(Holding { went, ..build_holding(lock, holders, believed) }), None),
        None => (None, believed),
    };
    // Where there is no file, nobody has a lock on it.
    let blind_spot = if file.lost { Some(BlindSpot::File) } else { sight.blind_spot.filter(|_| file.ino != 0) };
    LockState {
        holding,
        unseen,
        removed,
        queue,
        record,
        hidden: sight.hidden,
        blind_spot,
        wrong_type: None,
        range: None,
    }
}

fn build_holding(lock: KernelLock, mut holders: Vec<Holder>, record: Option<(Record, Belief)>) -> Holding {
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
    let helper = holders.iter().any(|holder| peer::is_recording_helper(holder.pid));
    Holding { mode, holders, record, changes_hands: false, helper, went: false, locker: lock.locker }
}
