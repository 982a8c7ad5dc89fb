//! Compares the last holdings of a log with the locks that are held now.

use super::chronicle::Chronicle;
use super::holding::{EndCause, Ending, PastHolding, RemainingHolder};
use super::logged_event::{LogSource, for_each_event};
use crate::lock::holders::{self, Availability, Belief, LockState};
use crate::lock::log_flag::LOG_NAME;
use jiff::Timestamp;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number of runs from which the usual time follows.
const RUNS: usize = 10;

/// Completes the holdings whose end the log does not have: each of them is held now, or its end lies before now, or that cannot be
/// determined.
pub fn settle_open_holdings(holdings: &mut [PastHolding]) {
    let mut paths: Vec<PathBuf> = Vec::new();
    for holding in holdings.iter().filter(|holding| matches!(holding.ending, Ending::After(_))) {
        if !paths.contains(&holding.path) {
            paths.push(holding.path.clone());
        }
    }
    if paths.is_empty() {
        return;
    }
    let states = holders::observe_all(&paths);
    let now = Timestamp::now();
    for holding in holdings {
        if let Ending::After(proved) = holding.ending
            && let Some(at) = paths.iter().position(|path| *path == holding.path)
        {
            holding.ending = match is_held_now(holding, &states[at]) {
                Some(true) => Ending::StillHeld,
                Some(false) => Ending::Between(proved, now.max(proved)),
                None => Ending::After(proved),
            };
        }
    }
}

/// Corrects the last holdings whose command has exited, but whose lock is still held by a process that the command started. The log may
/// not have that if the call of `lock` was killed, or if an older version of it wrote the line.
pub fn reopen_inherited_holdings(holdings: &mut [PastHolding]) {
    let last: HashMap<PathBuf, usize> =
        holdings.iter().enumerate().map(|(at, holding)| (holding.path.clone(), at)).collect();
    let exited: Vec<(PathBuf, usize)> =
        last.into_iter().filter(|(_, at)| matches!(holdings[*at].cause, Some(EndCause::Exited(_)))).collect();
    if exited.is_empty() {
        return;
    }
    let paths: Vec<PathBuf> = exited.iter().map(|(path, _)| path.clone()).collect();
    for (state, (_, at)) in holders::observe_all(&paths).iter().zip(exited) {
        let past = &mut holdings[at];
        if let Some((record, Belief::Ended)) = state.holding.as_ref().and_then(|holding| holding.record.as_ref())
            && (Some(record.token), record.pid) == (past.token, past.pid)
        {
            past.ending = Ending::StillHeld;
            past.remaining_holder = past.remaining_holder.take().or(Some(RemainingHolder::Unseen));
        }
    }
}

/// Returns true if this is the present holding of the lock. `None`: that cannot be determined.
fn is_held_now(past: &PastHolding, state: &LockState) -> Option<bool> {
    let Some(holding) = &state.holding else {
        return if state.availability() == Availability::Free { Some(false) } else { None };
    };
    // All holders of a shared lock have one token, and no token is known of some. So the pid decides there.
    if past.is_shared || past.token.is_none() {
        let is_seen = holding.holders.iter().any(|holder| past.has_holder(holder.pid));
        // Another process that the command started may have inherited it, too.
        return if is_seen || past.remaining_holder.is_none() { Some(is_seen) } else { None };
    }
    match &holding.record {
        Some((record, belief)) if *belief != Belief::Perhaps => {
            Some(Some(record.token) == past.token && record.pid == past.pid)
        }
        _ => None,
    }
}

/// The past of a lock.
#[derive(Debug)]
pub struct LockPast {
    /// The last holding.
    pub last: Option<PastHolding>,
    /// The usual time for which the lock is held, and the number of runs from which it follows: the median of the last runs whose end is
    /// known.
    pub usual: Option<(Duration, usize)>,
}

/// Returns the past of the lock at `path`, from the log of its state root.
#[must_use]
pub fn find_past(path: &Path, name: &str) -> LockPast {
    let log = LogSource::OfRoot(path.with_file_name(LOG_NAME));
    let mut chronicle = Chronicle::default();
    // Without a log that can be read, nothing is known.
    let _ = for_each_event(&log, |event| {
        if event.lock() == name {
            chronicle.add(&event);
        }
    });
    let mut holdings = chronicle.into_holdings();
    let mut last: Vec<Duration> = holdings.iter().rev().filter_map(PastHolding::duration).take(RUNS).collect();
    last.sort_unstable();
    let usual = last.get(last.len() / 2).map(|median| (*median, last.len()));
    let last = holdings.len().saturating_sub(1);
    settle_open_holdings(&mut holdings[last..]);
    LockPast { last: holdings.pop(), usual }
}
