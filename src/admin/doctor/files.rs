//! The checks of the lock files, the deadlocks and the tasks in the state root.

use super::finding::{Finding, Level, Report};
use crate::base::text::format_io_error;
use crate::lock::deadlock;
use crate::lock::holders::{self, Availability, Belief, LockState};
use crate::os::proc::process;
use crate::os::{self, Right, word_for};
use crate::store::{Store, TaskRoot};
use crate::task::Task;
use crate::task::state::TaskState;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
        return report(Finding::note(LOCKS, format!("which there are is not known: {}", format_io_error(&error))));
    }
    let states = match holders::observe_store(store) {
        Ok(states) => states,
        Err(error) => return report(Finding::note(LOCKS, format!("which there are is not known: {error}"))),
    };
    let paths: Vec<PathBuf> = states.iter().map(|(name, _)| store.lock_path(name)).collect();
    let held = states.iter().filter(|(_, state)| state.holding.is_some()).count();
    let free = |state: &LockState| state.availability() == Availability::Free;
    let left = states.iter().filter(|(_, state)| free(state) && state.record.is_some()).count();
    let free = states.iter().filter(|(_, state)| free(state)).count();
    let unknown = match paths.len() - held - free {
        0 => String::new(),
        unknown => format!(", {unknown} of which that cannot be known from here"),
    };
    let found = format!(
        "{} files, {held} held, {free} free{unknown}; of the free ones {left} tell of an earlier holder, which is as it should be",
        paths.len(),
    );
    report(if paths.is_empty() {
        Finding::fine(LOCKS, "no files yet")
    } else if free > MANY_FREE {
        Finding::note(LOCKS, found).hint("they harm nobody; `aba-lock clean` takes the free ones away")
    } else {
        Finding::fine(LOCKS, found)
    });
    let mut findings: Vec<Finding> = Vec::new();
    for ((name, state), path) in states.iter().zip(&paths) {
        findings.extend(find_unusable(path));
        findings.extend(find_notable(name.as_str(), state));
    }
    let more = findings.len().saturating_sub(MAX_FINDINGS);
    // The worst findings come first, because only some of them are reported.
    findings.sort_by_key(|finding| finding.level != Level::Wrong);
    findings.into_iter().take(MAX_FINDINGS).for_each(&mut *report);
    if more > 0 {
        report(Finding::note(LOCKS, format!("and {more} more of these")));
    }
}

/// Returns the finding for a lock file that this user cannot open.
fn find_unusable(path: &Path) -> Option<Finding> {
    let data = fs::symlink_metadata(path).ok()?;
    let name = path.display();
    if !data.is_file() {
        let kind = word_for(data.file_type());
        return Some(
            Finding::wrong(LOCKS, format!("{name} is a {kind}, not a regular file: it is refused"))
                .hint("somebody put it there: see whose it is with `ls -l`"),
        );
    }
    let error = os::may(Right::Read, path).err()?;
    let owner = process::user_name(data.uid());
    let me = process::user_name(os::user_id());
    let who = if data.uid() == 0 { owner.clone() } else { format!("{owner} or root") };
    let file = shell_words::quote(&path.to_string_lossy()).into_owned();
    Some(
        Finding::wrong(LOCKS, format!("{name} belongs to {owner} and cannot be opened: {}", format_io_error(&error)))
            .hint(format!("{who} can open it to you: `chmod a+r {file}`, or `chown {me} {file}`")),
    )
}

/// Returns the findings for states of a lock that a waiter does not expect.
fn find_notable(name: &str, state: &LockState) -> Vec<Finding> {
    let mut findings = Vec::new();
    for holder in &state.removed {
        let found = format!(
            "{name}: its file was removed while pid {} ({}) held it: it shuts nobody out any more",
            holder.pid, holder.command
        );
        findings.push(Finding::wrong(LOCKS, found).hint(format!(
            "let that come to its end, or end it with `kill {}`; find what removes lock files, and stop that",
            holder.pid
        )));
    }
    if let Some((record, Belief::OtherHost | Belief::OtherNamespace)) = &state.unseen {
        let found = format!(
            "{name}: last taken by pid {} on {} in another pid namespace or on another machine, which may have it still",
            record.pid, record.host
        );
        findings.push(Finding::note(LOCKS, found).hint(format!("ask there: `aba-lock status {name}`")));
    }
    if let Some(holding) = &state.holding
        && let Some((record, Belief::Ended | Belief::Closed)) = &holding.record
        && let Some(holder) = holding.holders.first()
    {
        let found = format!(
            "{name}: taken by pid {}, which has ended or let go; still held by pid {} ({}), which has inherited it",
            record.pid, holder.pid, holder.command
        );
        findings.push(Finding::note(LOCKS, found).hint(format!(
            "start it with `aba_lock_detach` so that it does not keep the lock, or end it: `kill {}`",
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
        return report(Finding::fine(DEADLOCKS, "nobody waits in a circle, as far as can be seen"));
    }
    for circle in circles {
        let last = circle.steps.last().map_or(0, |step| step.pid);
        let hint = format!("end one of them: `kill {last}`; and have all take these locks in the same order");
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
        Finding::note(TASKS, found)
            .hint("see them with `aba-lock run-once --list`; a failure stands until `run-once -F` or a TTL forgets it")
    } else {
        Finding::fine(TASKS, found)
    });
}
