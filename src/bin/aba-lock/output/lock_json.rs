//! The JSON objects of locks, for `status --json` and `list --json`. `args::status::STATUS_JSON` documents them.

use super::hint::hint_for_state;
use super::holder::describe_problem;
use aba_lock::base::target::Target;
use aba_lock::lock::holders::{Availability, Belief, Holder, Holding, LockState, ProcessTree, Waiter};
use aba_lock::lock::promise::PromisedRun;
use aba_lock::lock::record::Record;
use aba_lock::os::proc::process::RunState;
use aba_lock::store::scope::find_scope;
use serde_json::{Value, json};
use std::time::Duration;

/// The state of a lock on this machine and at the lease server together. The exit status of `status` depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverallState {
    /// Held on this machine.
    Held,
    /// Its lease is held at the server, and no holder is known on this machine.
    HeldElsewhere,
    /// Held neither here nor there.
    Free,
    /// It may be held, here or there.
    Unknown,
}

impl OverallState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::HeldElsewhere => "held-elsewhere",
            Self::Free => "free",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Availability> for OverallState {
    fn from(known: Availability) -> Self {
        match known {
            Availability::Held => Self::Held,
            Availability::Free => Self::Free,
            Availability::Unknown => Self::Unknown,
        }
    }
}

/// Returns the time for which a lock is held, if it is known.
pub(crate) fn find_age(holding: &Holding) -> Option<Duration> {
    let (record, belief) = holding.record.as_ref()?;
    // The record of a shared lock is that of the last holder, which may have ended.
    if *belief == Belief::Perhaps { None } else { record.age() }
}

/// Returns the maximum time for which a lock is held, and the remaining time. The latter is `None` if it is not known, or if no
/// process enforces the limit any more.
pub(crate) fn find_limit(holding: &Holding) -> Option<(Duration, Option<Duration>)> {
    let (record, belief) = holding.record.as_ref()?;
    let is_here = matches!(belief, Belief::Alive | Belief::Ended | Belief::Closed);
    Some((record.max_time?, if is_here { record.remaining_time() } else { None }))
}

/// Parses the JSON that the keeper printed. The value is null if the keeper failed.
pub(crate) fn parse_answer(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Builds the object of a lock.
pub(crate) fn build_lock(target: &Target, state: &LockState, overall: OverallState) -> Value {
    let holding = state.holding.as_ref();
    let believed = holding.and_then(|holding| holding.record.as_ref()).or(state.unseen.as_ref());
    let limit = holding.and_then(find_limit);
    json!({
        "name": target.name().unwrap_or(&target.label),
        "key": target.key.as_ref().or_else(|| state.record.as_ref()?.key.as_ref()),
        "path": target.path.to_string_lossy(),
        "scope": find_scope(target),
        "state": overall.as_str(),
        "mode": holding.map(|holding| holding.mode.as_str()),
        "slots": holding.and_then(Holding::slots).map(|(_, capacity)| capacity),
        "pid_file": believed.and_then(|(record, _)| record.pid_file.as_ref()),
        "since": believed.filter(|(_, belief)| *belief != Belief::Perhaps).map(|(record, _)| &record.since),
        "age_seconds": holding.and_then(find_age).map(|age| age.as_secs()),
        "max_time_seconds": limit.map(|(time, _)| time.as_secs_f64()),
        "remaining_seconds": limit.and_then(|(_, left)| left).map(|left| left.as_secs()),
        "holders": build_holders(holding.map_or(&[], |holding| &holding.holders)),
        "waiters": state.waiters().iter().map(build_waiter).collect::<Vec<_>>(),
        "removed": build_holders(&state.removed),
        "record": state.record.as_ref().map(|record| build_record(record, believed.map(|(_, belief)| *belief))),
        "hidden": state.hidden,
        "fcntl": state.range.as_ref().map(|range| json!({
            "mode": range.range.mode.as_str(),
            "start": range.range.start,
            "length": range.range.len,
            "holders": build_holders(&range.holders),
        })),
        "lease": state.lease.as_ref().map(|lease| json!({ "holders": build_holders(lease.taker.as_slice()) })),
        "problem": describe_problem(state),
        "promised_run": state.promised.map(|promised| match promised {
            PromisedRun::Awaited(pid) => json!({ "owed": false, "waiter_pid": pid }),
            PromisedRun::Owed => json!({ "owed": true, "waiter_pid": null }),
        }),
        "remedy": hint_for_state(target, state),
    })
}

fn build_holders(holders: &[Holder]) -> Value {
    let build_holder = |holder: &Holder| {
        json!({
            "pid": holder.pid,
            "user": holder.user,
            "command": holder.command,
            "inherited": holder.inherited,
            "terminal": holder.terminal,
            "running_seconds": holder.age.map(|age| age.as_secs()),
            "namespace": holder.namespace,
            "slot": holder.slot.map(|slot| slot.number),
            "state": holder.state.map(RunState::as_str),
        })
    };
    holders.iter().map(build_holder).collect()
}

/// Builds the array of the processes below the holders.
pub(crate) fn build_process_trees(trees: &[ProcessTree]) -> Value {
    let build_tree = |tree: &ProcessTree| {
        json!({
            "pid": tree.pid,
            "command": tree.command,
            "state": tree.state.as_str(),
            "running_seconds": tree.age.map(|age| age.as_secs()),
            "sleeps_in": tree.sleeps_in,
            "children": build_process_trees(&tree.children),
            "omitted": tree.omitted,
        })
    };
    trees.iter().map(build_tree).collect()
}

fn build_waiter(waiter: &Waiter) -> Value {
    let script = waiter.script.as_ref().map(|(pid, command)| json!({ "pid": pid, "command": command }));
    json!({
        "pid": if waiter.pid == 0 { None } else { Some(waiter.pid) },
        "user": waiter.user,
        "command": waiter.command,
        "script": script,
        "mode": waiter.mode.as_str(),
        "priority": waiter.priority.as_str(),
        "replace": waiter.replaces,
        "state": waiter.state.map(RunState::as_str),
        "terminal": waiter.terminal,
        "waiting_seconds": waiter.age.map(|age| (age.as_secs_f64() * 100.0).round() / 100.0),
    })
}

fn build_record(record: &Record, belief: Option<Belief>) -> Value {
    json!({
        "holder": match belief {
            Some(Belief::Alive) => "alive",
            Some(Belief::Ended) => "ended",
            Some(Belief::Closed) => "closed",
            Some(Belief::Perhaps) => "perhaps",
            Some(Belief::OtherNamespace) => "other-namespace",
            Some(Belief::OtherHost) => "other-host",
            Some(Belief::Unchecked) => "unchecked",
            None => "stale",
        },
        "pid": record.pid,
        "user": record.user,
        "host": record.host,
        "namespace": record.ns,
        "since": record.since,
        "command": record.command,
        "who": record.who,
        "pid_file": record.pid_file,
        "mode": record.mode.as_str(),
        "token": record.token,
    })
}
