//! Hints: what the user can do about a lock that is held, or whose state is unknown.

use super::holder::find_named_holder;
use super::text::{describe_file_type, escape_controls, format_command, format_target};
use aba_lock::base::names::TaskId;
use aba_lock::base::target::{Kind, Target};
use aba_lock::base::text::quote_path;
use aba_lock::lock::holders::{
    self, Availability, Belief, BlindSpot, FileLease, Holder, Holding, Kin, LockState, RangeHolding, Stall,
};
use aba_lock::os::proc::process;
use aba_lock::os::{self, Mode};
use aba_lock::store::{self, TaskRoot};
use aba_lock::task::Task;
use std::path::{Path, PathBuf};

/// Returns the hint for a lock that is held by the calling process, or by a process that started it. `waits` is true
/// for a call that asked for the lock.
pub(crate) fn hint_for_kin(kin: Kin, waits: bool) -> String {
    let instead = if waits { " instead of waiting for it" } else { "" };
    match kin {
        Kin::Itself => {
            format!("this process already holds the lock on another descriptor: release it there{instead}")
        }
        Kin::Ancestor(pid) => format!(
            "pid {pid} started this command and already holds the lock: run this without the lock, or release it there{instead}"
        ),
    }
}

/// Returns the hint for a lock that processes have inherited from a holder that ended. Waiting may not help here.
pub(crate) fn hint_for_inherited(holding: &Holding) -> Option<String> {
    match (&holding.record, holding.holders.as_slice()) {
        (Some((_, Belief::Ended | Belief::Closed)), [_, ..]) if holding.mode == Mode::Exclusive => Some(format!(
            "end it with `kill {}`; next time, start it with `aba_lock_detach`, or use --no-inherit, so that it does not keep the lock",
            holders::format_pids(&holding.holders)
        )),
        _ => None,
    }
}

/// Returns the hint for a lock whose holder does not go on by itself, or may wait for a stopped process that it has started. The message
/// names that process.
pub(crate) fn hint_for_stalled_holder(holding: &Holding) -> Option<String> {
    let holder = find_named_holder(holding)?;
    hint_for_stall(holder).or_else(|| Some(hint_to_continue(holder.stopped_descendants())?.1))
}

/// Does the same as [`hint_for_stalled_holder`] for the holders of a lock of fcntl(2).
pub(crate) fn hint_for_stalled_range_holder(range: &RangeHolding) -> Option<String> {
    let holder = range.holders.first()?;
    hint_for_stall(holder).or_else(|| Some(hint_to_continue(holder.stopped_descendants())?.1))
}

fn is_stalled(holder: &Holder) -> bool {
    holder.stall().is_some() || !holder.stopped_descendants().is_empty()
}

/// Returns the hint for a holder that does not go on by itself.
pub(crate) fn hint_for_stall(holder: &Holder) -> Option<String> {
    let pid = holder.pid;
    Some(match holder.stall()? {
        Stall::Stopped => {
            let ours = process::read_stat(std::process::id()).and_then(|ours| ours.terminal_name());
            let foreground = if ours.is_some() && ours == holder.terminal { "`fg` in its shell, or with " } else { "" };
            let pids = format_pids_of([&pid].into_iter().chain(holder.stopped_descendants()));
            format!("continue it with {foreground}`kill -CONT {pids}`{}", name_other_user(&holder.user))
        }
        Stall::Traced(Some(tracer)) => {
            let command = format_command(&process::command_line(tracer));
            format!("its tracer is pid {tracer} ({command}): continue or end it there")
        }
        Stall::Traced(None) => format!("show its tracer as root with `grep Tracer /proc/{pid}/status`"),
        Stall::Uninterruptible => format!(
            "no signal ends this sleep: check the disks and network mounts that it uses; root sees the call with `cat /proc/{pid}/stack`"
        ),
        Stall::Zombie => format!("show its threads with `ps -L -p {pid}`"),
    })
}

/// Returns the hint for `status`, whose list of processes marks those that are stopped.
fn hint_for_stopped_descendants(holder: &Holder) -> Option<String> {
    let (pids, hint) = hint_to_continue(holder.stopped_descendants())?;
    let is = if pids.contains(' ') { "are" } else { "is" };
    Some(format!("pid {pids}, which pid {} started, {is} stopped: {hint}", holder.pid))
}

/// Returns the hint for `status` for a stopped process that shares the lock.
fn hint_for_stopped_sharer(holder: &Holder) -> Option<String> {
    let is_stopped = holder.stall() == Some(Stall::Stopped);
    is_stopped.then(|| format!("pid {} is stopped: {}", holder.pid, hint_for_stall(holder).unwrap_or_default()))
}

fn format_pids_of<'a>(pids: impl IntoIterator<Item = &'a u32>) -> String {
    pids.into_iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// Returns the pids of stopped processes, and the hint to continue them.
fn hint_to_continue(stopped: &[u32]) -> Option<(String, String)> {
    let first = stopped.first()?;
    let pids = format_pids_of(stopped);
    let them = if stopped.len() == 1 { "it" } else { "them" };
    let user = process::user_of(*first).map(process::user_name).unwrap_or_default();
    let hint = format!("continue {them} with `kill -CONT {pids}`{}", name_other_user(&user));
    Some((pids, hint))
}

/// Returns the hint for a lock whose file cannot be opened because of a lease.
fn hint_for_lease(lease: &FileLease) -> String {
    match &lease.taker {
        Some(taker) => format!("end that process with `kill {}`{}", taker.pid, name_other_user(&taker.user)),
        None => "the owner of the file, or root, may have taken it; the kernel ends it after 45 seconds".to_owned(),
    }
}

/// Names the users that may send signals to a process of this user, if this one may not.
fn name_other_user(user: &str) -> String {
    let ours = os::user_id();
    if ours == 0 || process::user_name(ours) == user {
        return String::new();
    }
    match escape_controls(user).as_str() {
        "root" => " as root".to_owned(),
        user => format!(" as {user} or root"),
    }
}

/// Returns the hint that a lock becomes free when its holders end, and how to end them.
pub(crate) fn hint_to_end(target: &Target, holders: &[Holder]) -> String {
    let (ends, them) = if holders.len() == 1 { ("its holder ends", "it") } else { ("its holders end", "them") };
    if target.name().is_some() {
        let name = format_target(target.kind, &target.label, &target.path);
        return format!("the lock is free when {ends}; `aba-lock unlock {name} --kill` ends {them}");
    }
    format!("the lock is free when {ends}; to end {them}: `kill {}`", holders::format_pids(holders))
}

/// The tool of other systems that lists the processes that have a file open.
const OPENERS: &str = if cfg!(target_os = "freebsd") { "fuser" } else { "lsof" };

/// Returns the hint for the state of a lock: how to get it free, or how to learn more. A free lock without a problem
/// has none.
pub(crate) fn hint_for_state(target: &Target, state: &LockState) -> Option<String> {
    if let Some(kind) = state.wrong_type {
        return Some(format!(
            "{}: show its owner with `ls -ld {}`",
            describe_file_type(kind),
            quote_path(&target.path)
        ));
    }
    Some(match (&state.holding, &state.unseen) {
        (Some(holding), _) if holding.changes_hands => "its holder changed during the check: run this command again".to_owned(),
        (Some(holding), _) if holding.kin().is_some() => match holding.kin() {
            Some(Kin::Ancestor(pid)) => {
                format!("pid {pid} started this command: the lock is free when that process releases it, or ends")
            }
            _ => "this command holds the lock itself: it is free when this command ends".to_owned(),
        },
        (Some(holding), _) if holding.holders.is_empty() => match holding.unseen_taker() {
            Some(record) => {
                let user = match escape_controls(&record.user).as_str() {
                    "root" => String::new(),
                    user => format!("{user}, or "),
                };
                format!("the lock is free when its holder ends; to examine the holder, run this command as {user}root")
            }
            // Other systems than Linux name no holder without a record, not even to root.
            None if cfg!(not(linux)) => {
                format!("show the processes that have the file open with `{OPENERS} {}`", quote_path(&target.path))
            }
            None => "the holder cannot be seen from here: run this command as root, or outside of this container".to_owned(),
        },
        (Some(holding), _) => find_named_holder(holding)
            .and_then(hint_for_stall)
            .or_else(|| holding.holders.iter().find_map(hint_for_stopped_descendants))
            .or_else(|| holding.holders.iter().find_map(hint_for_stopped_sharer))
            .or_else(|| hint_for_inherited(holding))
            .unwrap_or_else(|| hint_to_end(target, &holding.holders)),
        (None, Some((record, Belief::OtherHost))) => format!("run this command on host {}", escape_controls(&record.host)),
        (None, _) if state.blind_spot == Some(BlindSpot::Proc) => "run this command where /proc is mounted".to_owned(),
        (None, _) if state.blind_spot == Some(BlindSpot::List) => {
            "run this command as root, or where /proc/locks can be read".to_owned()
        }
        (None, _) if state.blind_spot.is_some() => "run this command again".to_owned(),
        (None, Some(_)) => "run this command outside of this container, or in that of the holder".to_owned(),
        (None, None) if state.range.as_ref().is_some_and(|range| holders::find_kin(&range.holders) == Some(Kin::Itself)) => {
            "this command holds the lock itself: it is free when this command ends".to_owned()
        }
        (None, None) if state.range.as_ref().is_some_and(|range| range.holders.iter().any(is_stalled)) => {
            let holders = state.range.iter().flat_map(|range| &range.holders);
            holders.clone().find_map(hint_for_stall).or_else(|| holders.clone().find_map(hint_for_stopped_descendants))?
        }
        (None, None) if state.range.is_some() => {
            "locks of flock(2) and fcntl(2) do not exclude each other: `aba-lock lock` ignores this one, and `aba-lock lock --fcntl` does not"
                .to_owned()
        }
        (None, None) if state.planted.is_some() => state.planted.as_ref()?.hint(),
        (None, None) if state.denied.is_some() => {
            store::hint_about_mode(&target.path).or_else(|| state.denied.as_ref()?.hint())?
        }
        (None, None) if state.lease.is_some() => hint_for_lease(state.lease.as_ref()?),
        (None, None) if !state.removed.is_empty() => {
            "a process removed the file while it was locked, so a second process can hold the lock now; remove lock files only with `aba-lock clean`".to_owned()
        }
        (None, None) => return None,
    })
}

/// Returns the name of the lock if a task has this name, and the lock has no file: the user probably means the task.
pub(crate) fn find_task(target: &Target, has_file: bool) -> Option<&str> {
    let name = target.name().filter(|_| !has_file)?;
    let root = TaskRoot::from_env().ok()?;
    Task::new(&root, TaskId::parse(name).ok()?).directory().exists().then_some(name)
}

/// Returns the hint about a free lock that has the name of a file, or is the lock on a file, if updates of that file have a
/// lock file. The user probably means that lock.
pub(crate) fn find_update_hint(target: &Target, has_file: bool) -> Option<String> {
    let named = || target.name().filter(|_| !has_file).map(PathBuf::from);
    let file = match target.kind {
        Kind::Named => named()?,
        Kind::Users if target.link.is_some() => target.path.clone(),
        Kind::Users => PathBuf::from(&target.label),
        Kind::Beside => return None,
    };
    let mut path = file.clone().into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    if !path.is_file() || !file.is_file() {
        return None;
    }
    let command = format!("`aba-lock status --file {}`", quote_path(&path));
    Some(match holders::observe_briefly(&path).availability() {
        Availability::Held => format!("the lock of updates of this file is held: show its holder with {command}"),
        _ => format!("an update of this file uses another lock: {command}"),
    })
}

/// The maximum number of characters of a script's command line in a hint.
const MAX_SCRIPT: usize = 120;

/// Returns the command line that makes the calling script wait for its locks.
pub(crate) fn hint_to_wait_in_script() -> String {
    let words = process::local_words(os::parent_id());
    let called = match words.as_slice() {
        // An interactive shell: the user typed the call.
        [] | [_] => return "`--wait`".to_owned(),
        [_, option, ..] if option.starts_with('-') => None,
        // An executable script was called by its own name. The first word is its interpreter.
        [_, script, ..] if script.contains('/') && os::may(os::Right::Execute, Path::new(script)).is_ok() => {
            Some(&words[1..])
        }
        words => Some(words),
    };
    let called = called
        .map(shell_words::join)
        .filter(|line| line.chars().count() <= MAX_SCRIPT && escape_controls(line) == *line);
    called.map_or_else(|| "ABA_LOCK_TIMEOUT=60".to_owned(), |line| format!("`ABA_LOCK_TIMEOUT=60 {line}`"))
}
