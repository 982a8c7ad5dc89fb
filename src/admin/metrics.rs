//! Values for monitoring: the locks that are held and waited for now, and the counts of events in the event log.

#[cfg(any(test, fuzzing))]
pub mod properties;

use crate::base::names::LockName;
use crate::file::error::FileError;
use crate::lock::error::LockError;
use crate::lock::history::{LogSource, parse_events};
use crate::lock::holders::{self, Availability, Belief, BlindSpot, Holding, LeasedFile, LockState};
use crate::os::word_for;
use crate::store::Store;
use crate::store::scope::{find_scope_of_file, find_scope_of_root};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// An upper limit for wait times in seconds. A line with a longer time was not written by aba-lock.
const CENTURY: f64 = 100.0 * 366.0 * 24.0 * 3600.0;

/// The present state of a lock in the state root.
#[derive(Debug)]
pub struct LockMetrics {
    pub name: String,
    /// `user`, `system` or `directory`.
    pub scope: &'static str,
    /// `None` if that is unknown.
    pub held: Option<bool>,
    /// The time since the lock was acquired, if the record contains it.
    pub age: Option<Duration>,
    /// The number of slots that are held, and the number of slots that the lock has, if it is held with `--slots`.
    pub slots: Option<(usize, u32)>,
    /// The number of waiters, or `None` if that is unknown.
    pub waiting: Option<usize>,
}

/// A lock in an event log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoggedLock {
    /// The name of the lock, or the path of a lock file without a name.
    pub lock: String,
    /// The scope of a lock that has a name.
    pub scope: Option<&'static str>,
}

/// The counts of events, by lock.
pub type LockCounts = BTreeMap<LoggedLock, EventCounts>;

/// The counts of a lock's events in the event log.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct EventCounts {
    pub acquired: u64,
    /// Attempts that found the lock held by another process.
    pub contended: u64,
    /// Calls with `--coalesce` that ended without the lock.
    pub covered: u64,
    pub timed_out: u64,
    /// Acquisitions whose holders were ended by `--max-time`.
    pub expired: u64,
    /// Processes that `--replace` has signalled.
    pub taken_over: u64,
    /// Attempts that would have completed a deadlock.
    pub deadlocks: u64,
    /// Attempts during which the lock file was replaced.
    pub replaced: u64,
    /// The sum of the wait times in seconds, of attempts that acquired the lock or timed out.
    pub waited: f64,
}

/// Returns the state of each lock in the state root. Returns [`LockError::Store`] if the state root exists but cannot
/// be read, and [`LockError::NoProc`] if `/proc` is missing.
pub fn measure_locks(store: &Store) -> Result<Vec<LockMetrics>, LockError> {
    let measure = |(name, state): (LockName, LockState)| LockMetrics {
        name: name.to_string(),
        scope: find_scope_of_root(store.root()),
        held: match state.availability() {
            Availability::Held => Some(true),
            Availability::Free => Some(false),
            Availability::Unknown => None,
        },
        age: state.holding.as_ref().and_then(|holding| match &holding.record {
            Some((record, belief)) if *belief != Belief::Perhaps => record.age(),
            _ => None,
        }),
        slots: state.holding.as_ref().and_then(Holding::slots),
        waiting: state.blind_spot.is_none().then_some(state.queue.len()),
    };
    let states = holders::observe_store(store)?;
    if states.iter().any(|(_, state)| state.blind_spot == Some(BlindSpot::Proc)) {
        return Err(LockError::NoProc);
    }
    Ok(states.into_iter().map(measure).collect())
}

/// Adds the events in a log to `counts`. Does nothing if the log does not exist.
pub fn count_events(log: &LogSource, counts: &mut LockCounts) -> Result<(), FileError> {
    let label = || log.path().display().to_string();
    let fail = |source| FileError::NoFile { label: label(), source: LeasedFile::name_in(source, log.path()) };
    // Without O_NONBLOCK, opening a FIFO would block.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(log.path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(fail)?,
    };
    let kind = file.metadata().map_err(fail)?.file_type();
    if !kind.is_file() {
        return Err(FileError::NotAFile { label: label(), kind: word_for(kind) });
    }
    log.for_each_line(&file, |line| count_line(counts, line)).map_err(fail)
}

fn count_line(counts: &mut LockCounts, line: &[u8]) {
    for event in parse_events(line) {
        count_event(counts, &event);
    }
}

fn count_event(counts: &mut LockCounts, event: &Value) {
    let Some(lock) = event["lock"].as_str() else { return };
    let scope = event["path"].as_str().and_then(|path| find_scope_of_file(Path::new(path)));
    let counted = counts.entry(LoggedLock { lock: lock.to_owned(), scope }).or_default();
    match event["event"].as_str() {
        Some("acquired") => counted.acquired += 1,
        Some("contended") => counted.contended += 1,
        Some("covered") => counted.covered += 1,
        Some("timed_out") => counted.timed_out += 1,
        Some("expired") => counted.expired += 1,
        Some("taken_over") => counted.taken_over += 1,
        Some("deadlock") => counted.deadlocks += 1,
        Some("replaced") => counted.replaced += 1,
        _ => {}
    }
    let waited = event["waited_seconds"].as_f64().filter(|waited| (0.0..CENTURY).contains(waited));
    counted.waited += waited.unwrap_or(0.0);
}
