//! The output of `status`.

use super::hint::{find_task, find_update_hint, hint_for_state};
use super::holder::{
    describe_blind, describe_last_taker, describe_problem, describe_process, describe_promised_run,
    describe_remote_holder, describe_state, describe_waiter, format_slots,
};
use super::lock_json::{OverallState, build_lock, build_process_trees, find_age, find_limit, parse_answer};
use super::log::{format_ending, format_usual_time};
use super::stream::print;
use super::text::{escape_controls, format_command, format_range};
use aba_lock::base::duration::{format_limit, format_span};
use aba_lock::base::target::{Kind, Target};
use aba_lock::lock::history::LockPast;
use aba_lock::lock::holders::{Availability, Belief, Holder, Holding, LockState, ProcessTree, find_process_trees};
use aba_lock::os::Mode;
use aba_lock::os::proc::process::RunState;
use aba_lock::store::scope::find_scope;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Prints `status --fd N NAME`.
pub(crate) fn print_descriptor_status(target: &Target, fd: i32, held: Option<Mode>) {
    let label = escape_controls(&target.label);
    print(&match held {
        Some(mode) => format!("{label}: held, {mode}, through descriptor {fd}\n"),
        None => format!("{label}: not held through descriptor {fd}\n"),
    });
}

/// The state of a lock of one scope.
pub(crate) struct LockView<'a> {
    pub(crate) target: &'a Target,
    /// True if the lock file exists.
    pub(crate) has_file: bool,
    pub(crate) state: &'a LockState,
    pub(crate) overall: OverallState,
    /// The past of the lock, if it is logged.
    pub(crate) past: Option<LockPast>,
}

/// Prints `status NAME`, and the answer of the lease server. If the lock has a file in another scope, that lock follows.
pub(crate) fn print_status(view: &LockView, elsewhere: Option<&str>, other: Option<&LockView>) {
    let mut text = format_status(view, elsewhere, other.is_some());
    text.push_str(elsewhere.unwrap_or_default());
    if let Some(other) = other {
        text.push_str(&format_status(other, None, true));
    }
    print(&text);
}

/// Formats the state of a lock. Its scope is named on request.
fn format_status(view: &LockView, elsewhere: Option<&str>, names_scope: bool) -> String {
    let LockView { target, has_file, state, overall, past } = view;
    let (has_file, overall, past) = (*has_file, *overall, past.as_ref());
    let mut label = escape_controls(&target.label);
    if let Some(scope) = find_scope(target).filter(|_| names_scope) {
        let _ = write!(label, " (scope {scope})");
    }
    let label = &label;
    let mut text = match (&state.holding, state.availability(), state.blind_spot) {
        (Some(holding), _, _) => format_holding(label, holding),
        (None, Availability::Held, _) if state.range.is_none() => format!("{label}: held by a file lease\n"),
        (None, Availability::Held, _) => format!("{label}: free for flock(2), held by fcntl(2)\n"),
        (None, Availability::Free, _) if overall == OverallState::HeldElsewhere => {
            format!("{label}: held elsewhere, free on this machine\n")
        }
        (None, Availability::Free, _) if overall == OverallState::Unknown => {
            format!("{label}: free on this machine; it is unknown whether its lease is held\n")
        }
        // A mistyped name looks like a free lock.
        (None, Availability::Free, _) if !has_file && state.removed.is_empty() && elsewhere.is_none() => {
            match target.kind {
                Kind::Named => format!("{label}: free (no lock file: never used, or removed)\n"),
                Kind::Users | Kind::Beside => format!("{label}: free (no such file)\n"),
            }
        }
        (None, Availability::Free, _) => format!("{label}: free\n"),
        (None, _, Some(blind)) => {
            format!("{label}: cannot determine whether it is held: {}\n", describe_blind(blind))
        }
        (None, _, None) => format!("{label}: no holder can be seen from here\n"),
    };
    if let (OverallState::Free, Some(name)) = (overall, find_task(target, has_file)) {
        let _ = writeln!(text, "  hint: a task has this name: show it with `aba-lock run-once --list -i {name}`");
    }
    if overall == OverallState::Free
        && let Some(hint) = find_update_hint(target, has_file)
    {
        let _ = writeln!(text, "  hint: {hint}");
    }
    if let (OverallState::Free, Some(record)) = (overall, &state.record) {
        // The lock is free, so it does not matter whether that process still runs.
        let _ = writeln!(text, "  {}", describe_last_taker(record, Belief::Perhaps));
        if let Some(last) = past.and_then(|past| past.last.as_ref()).filter(|last| last.token == Some(record.token)) {
            let _ = writeln!(text, "  {}", format_ending(last));
        }
    }
    if let Some(problem) = describe_problem(state) {
        let _ = writeln!(text, "  problem: {problem}");
    }
    if let Some((time, runs)) = past.and_then(|past| past.usual) {
        let _ = writeln!(text, "  {}", format_usual_time(time, runs));
    }
    if let Some((record, belief)) = &state.unseen {
        let _ = writeln!(text, "  {}; that process may still hold it", describe_last_taker(record, *belief));
    }
    if let Some(range) = &state.range {
        let _ = writeln!(text, "  fcntl(2) lock, {}{}:", range.range.mode, format_range(&range.range));
        for holder in &range.holders {
            let _ = writeln!(text, "  {}", describe_process(holder));
        }
        if range.holders.is_empty() {
            text.push_str("  by a process that cannot be seen from here\n");
        }
    }
    for holder in &state.removed {
        let holder = describe_process(holder);
        let _ = writeln!(text, "  removed file: still locked by {holder}, but that lock excludes no other process");
    }
    let trees = find_process_trees(&list_holders(state));
    if !trees.is_empty() {
        text.push_str("  processes of the holder:\n");
        add_process_trees(&mut text, &trees, 4);
    }
    for (at, waiter) in state.waiters().iter().enumerate() {
        let _ = writeln!(text, "  {}. waits: {}", at + 1, describe_waiter(waiter));
    }
    if let Some(promised) = state.promised {
        let _ = writeln!(text, "  {}", describe_promised_run(promised));
    }
    if let Some(hint) = hint_for_state(target, state) {
        let _ = writeln!(text, "  hint: {hint}");
    }
    match (&target.key, state.record.as_ref().and_then(|record| record.key.as_ref())) {
        (Some(_), _) => _ = writeln!(text, "  name: {}", target.name().unwrap_or_default()),
        (None, Some(key)) => _ = writeln!(text, "  key: {}", escape_controls(key)),
        (None, None) => {}
    }
    let _ = writeln!(text, "  file: {}", escape_controls(&target.path.to_string_lossy()));
    text
}

/// Prints `status --json`, with the object of the lock in another scope, if it has a file there.
pub(crate) fn print_status_json(view: &LockView, elsewhere: Option<&str>, other: Option<&LockView>) {
    let mut object = build_status(view);
    object["other_scope"] = other.map_or(Value::Null, build_status);
    if let Some(text) = elsewhere {
        object["remote"] = parse_answer(text);
    }
    print(&format!("{object:#}\n"));
}

fn build_status(view: &LockView) -> Value {
    let LockView { target, state, overall, past, .. } = view;
    let mut object = build_lock(target, state, *overall);
    object["remedy"] = json!(hint_for_state(target, state));
    object["processes"] = build_process_trees(&find_process_trees(&list_holders(state)));
    object["usual_seconds"] = json!(past.as_ref().and_then(|past| past.usual).map(|(time, _)| time.as_secs()));
    object
}

/// Returns the holders of the lock, and then those of a lock or a lease of fcntl(2) on the file.
fn list_holders(state: &LockState) -> Vec<Holder> {
    let mut holders: Vec<Holder> = state.holding.iter().flat_map(|holding| holding.holders.clone()).collect();
    let leaseholder = state.lease.iter().filter_map(|lease| lease.taker.as_ref());
    for holder in state.range.iter().flat_map(|range| &range.holders).chain(leaseholder) {
        if !holders.iter().any(|known| known.pid == holder.pid) {
            holders.push(holder.clone());
        }
    }
    holders
}

/// Adds a line for each process, below that of its parent.
fn add_process_trees(text: &mut String, trees: &[ProcessTree], indent: usize) {
    for tree in trees {
        let _ = write!(text, "{:indent$}pid {}, {}", "", tree.pid, format_command(&tree.command));
        if let Some(age) = tree.age {
            let _ = write!(text, ", for {}", format_span(age));
        }
        text.push_str(if tree.state == RunState::Running { ", running" } else { describe_state(tree.state) });
        if let Some(function) = &tree.sleeps_in {
            let _ = write!(text, ", sleeps in {}", escape_controls(function));
        }
        text.push('\n');
        add_process_trees(text, &tree.children, indent + 2);
        if tree.omitted > 0 {
            let _ = writeln!(text, "{:1$}and {2} more", "", indent + 2, tree.omitted);
        }
    }
}

fn format_holding(label: &str, holding: &Holding) -> String {
    let mut text = match holding.slots() {
        Some((held, capacity)) => format!("{label}: held, {held} of {}", format_slots(capacity)),
        None => format!("{label}: held, {}", holding.mode),
    };
    if holding.changes_hands {
        return text + "\n  a moment ago, by a process that has released it since\n";
    }
    if let Some(age) = find_age(holding) {
        let _ = write!(text, ", for {}", format_span(age));
    }
    text.push('\n');
    if let Some((time, left)) = find_limit(holding) {
        let left =
            left.map_or_else(|| "its watcher has ended".to_owned(), |left| format!("{} left", format_span(left)));
        let _ = writeln!(text, "  max time: {}, {left}", format_limit(time));
    }
    if let Some((record, belief)) = &holding.record {
        if let Some(who) = &record.who {
            let _ = writeln!(text, "  who: {}", escape_controls(who));
        }
        if let Some(path) = &record.pid_file {
            let _ = writeln!(text, "  pid file: {}", escape_controls(path));
        }
        let (pid, user, what) = (record.pid, escape_controls(&record.user), format_command(&record.command));
        let _ = match belief {
            Belief::Alive if holding.unseen_taker().is_some() => writeln!(text, "  pid {pid}, {user}, {what}"),
            Belief::Alive => Ok(()),
            Belief::Closed => writeln!(text, "  acquired by pid {pid}, {user}, {what}, which has closed the file"),
            Belief::Ended => writeln!(text, "  acquired by pid {pid}, {user}, {what}, which has ended"),
            Belief::Perhaps => {
                writeln!(text, "  last acquired, according to the record, by pid {pid}, {what}, which has ended")
            }
            Belief::OtherNamespace | Belief::OtherHost | Belief::Unchecked => {
                writeln!(text, "  {}", describe_remote_holder(record, *belief))
            }
        };
    }
    for holder in &holding.holders {
        let inherited = if holder.inherited == Some(true) { " (inherited)" } else { "" };
        let _ = writeln!(text, "  {}{inherited}", describe_process(holder));
    }
    if holding.holders.is_empty() && holding.record.is_none() {
        text.push_str("  by a process that cannot be seen from here\n");
    }
    text
}
