//! The checks of the lock files, the deadlocks and the tasks in the state root.

use super::finding::{Finding, Level, Report};
use crate::base::target::Target;
use crate::base::text::{format_io_error, quote_path};
use crate::lock::deadlock;
use crate::lock::holders::{self, Availability, Belief, FileLease, LockState};
use crate::lock::open;
use crate::os::proc::process;
use crate::os::{self, Right, word_for};
use crate::store::{self, Store, TaskRoot};
use crate::task::Task;
use crate::task::state::TaskState;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const LOCKS: &str = "locks";
const DEADLOCKS: &str = "deadlocks";
const TASKS: &str = "tasks";

/// The number of free lock files above which the check suggests `aba-lock clean`. No user creates so many by hand.
const MANY_FREE: usize = 500;

/// The maximum number of findings about lock files.
const MAX_FINDINGS: usize = 20;

/// Checks the lock files: files that cannot be used, and states that a waiter does not expect.
pub(super) fn check_locks(store: &Store, report: Report) {
    if let Err(error) = os::may(Right::Read, store.root()) {
        return report(Finding::note(LOCKS, format!("cannot be listed: {}", format_io_error(&error))));
    }
    let states = match holders::observe_store(store) {
        Ok(states) => states,
        Err(error) => return report(Finding::note(LOCKS, format!("cannot be listed: {error}"))),
    };
    let paths: Vec<PathBuf> = states.iter().map(|(name, _)| store.lock_path(name)).collect();
    let held = states.iter().filter(|(_, state)| state.holding.is_some()).count();
    let free = |state: &LockState| state.availability() == Availability::Free;
    let left = states.iter().filter(|(_, state)| free(state) && state.record.is_some()).count();
    let free = states.iter().filter(|(_, state)| free(state)).count();
    let unknown = match paths.len() - held - free {
        0 => String::new(),
        unknown => format!(", {unknown} unknown"),
    };
    let found = format!(
        "{} files: {held} held, {free} free{unknown}; {left} of the free files name an earlier holder, which is normal",
        paths.len(),
    );
    report(if paths.is_empty() {
        Finding::fine(LOCKS, "no files yet")
    } else if free > MANY_FREE {
        Finding::note(LOCKS, found).hint("free files do no harm; `aba-lock clean` removes them")
    } else {
        Finding::fine(LOCKS, found)
    });
    let mut findings: Vec<Finding> = Vec::new();
    for (name, state) in &states {
        findings.extend(find_unusable(&store.target(name)));
        findings.extend(find_notable(name.as_str(), state));
    }
    let more = findings.len().saturating_sub(MAX_FINDINGS);
    // The worst findings come first, because only some of them are reported.
    findings.sort_by_key(|finding| finding.level != Level::Wrong);
    findings.into_iter().take(MAX_FINDINGS).for_each(&mut *report);
    if more > 0 {
        report(Finding::note(LOCKS, format!("{more} more findings about locks are not shown")));
    }
}

/// Returns the finding for a lock file that this user cannot open.
fn find_unusable(target: &Target) -> Option<Finding> {
    let path = &target.path;
    let data = fs::symlink_metadata(path).ok()?;
    let name = path.display();
    if !data.is_file() {
        let kind = word_for(data.file_type());
        return Some(
            Finding::wrong(LOCKS, format!("{name} is a {kind}, not a regular file: it cannot be locked"))
                .hint(format!("show its owner with `ls -ld {}`; move it away, or use another name", quote_path(path))),
        );
    }
    if let Some(planted) = open::find_planted_names(target, data.nlink()) {
        return Some(Finding::wrong(LOCKS, format!("{name} is refused: {planted}")).hint(planted.hint()));
    }
    if let Some(lease) = holders::find_lease(path) {
        return Some(describe_lease(&name, &lease));
    }
    let error = os::may(Right::Read, path).err()?;
    let owner = process::user_name(data.uid());
    let me = process::user_name(os::user_id());
    let file = quote_path(path);
    Some(Finding::wrong(LOCKS, format!("cannot open {name}: {} (owner: {owner})", format_io_error(&error))).hint(
        store::hint_about_mode(path).unwrap_or_else(|| format!(
            "to share this lock, run as user {owner}: `chmod a+rw {file}`; to get it back, as root: `chown {me} {file}`"
        )),
    ))
}

/// Returns the finding for the lock file `name`, which cannot be opened because of a lease.
fn describe_lease(name: &impl fmt::Display, lease: &FileLease) -> Finding {
    let cannot = |taker: String| Finding::wrong(LOCKS, format!("cannot open {name}: {taker} has a file lease on it"));
    match &lease.taker {
        Some(taker) => cannot(format!("pid {} ({}), user {},", taker.pid, taker.command, taker.user))
            .hint(format!("end that process with `kill {}`, as user {} or root", taker.pid, taker.user)),
        None => cannot("another process".to_owned()),
    }
}

/// Returns the findings for states of a lock that a waiter does not expect.
fn find_notable(name: &str, state: &LockState) -> Vec<Finding> {
    let mut findings = Vec::new();
    for holder in &state.removed {
        let found = format!(
            "{name}: its file was removed while pid {} ({}) held the lock, so a second process can acquire it",
            holder.pid, holder.command
        );
        findings.push(Finding::wrong(LOCKS, found).hint(format!(
            "wait until it ends, or end it: `kill {}`; stop the program that removes or replaces lock files",
            holder.pid
        )));
    }
    if let Some((record, belief @ (Belief::OtherHost | Belief::OtherNamespace))) = &state.unseen {
        let place = if *belief == Belief::OtherHost { "on another machine" } else { "in another pid namespace" };
        let found = format!("{name}: pid {} {place} ({}) acquired it, and may still hold it", record.pid, record.host);
        findings.push(Finding::note(LOCKS, found).hint(format!("run `aba-lock status {name}` there")));
    }
    if let Some(holding) = &state.holding
        && let Some((record, Belief::Ended | Belief::Closed)) = &holding.record
        && let Some(holder) = holding.holders.first()
    {
        let found = format!(
            "{name}: acquired by pid {}, which has ended or closed its descriptor; still held by pid {} ({}), which inherited it",
            record.pid, holder.pid, holder.command
        );
        findings.push(Finding::note(LOCKS, found).hint(format!(
            "end it with `kill {}`; next time, start it with `aba_lock_detach`, or use --no-inherit, so that it does not keep the lock",
            holders::format_pids(&holding.holders)
        )));
    }
    findings
}

/// Checks for processes that wait for each other over a lock of this directory. This also finds scripts that use
/// flock(1), which detects no deadlocks.
pub(super) fn check_deadlocks(store: &Store, report: Report) {
    let root = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let mut circles = deadlock::search::find_all_circles();
    circles.retain(|circle| circle.files.iter().any(|file| file.starts_with(&root)));
    if circles.is_empty() {
        return report(Finding::fine(DEADLOCKS, "none among the locks of the state root"));
    }
    for circle in circles {
        let last = circle.steps.last().map_or(0, |step| step.pid);
        let hint = format!(
            "end one of the processes, for example: `kill {last}`; acquire these locks in the same order everywhere"
        );
        report(Finding::wrong(DEADLOCKS, circle.to_string()).hint(hint));
    }
}

/// Counts the tasks by state.
pub(super) fn check_tasks(root: &TaskRoot, report: Report) {
    let tasks = match Task::all(root) {
        Ok(tasks) => tasks,
        Err(error) => return report(Finding::wrong(TASKS, error.to_string())),
    };
    let states: Vec<TaskState> = tasks.iter().filter(|task| task.is_known()).map(|task| task.look().state()).collect();
    let count = |state| states.iter().filter(|other| **other == state).count();
    let (failed, interrupted) = (count(TaskState::Failed), count(TaskState::Interrupted));
    let found = format!(
        "{} known: {} running, {} succeeded, {failed} failed, {interrupted} interrupted",
        states.len(),
        count(TaskState::Running),
        count(TaskState::Succeeded)
    );
    report(if failed + interrupted > 0 {
        Finding::note(TASKS, found).hint(
            "list them with `aba-lock run-once --list`; a failed task is kept until `aba-lock run-once -F`, or until its TTL ends",
        )
    } else {
        Finding::fine(TASKS, found)
    });
}
