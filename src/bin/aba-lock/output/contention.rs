//! Messages of `lock` and `unlock`: the lock is acquired, or another process holds it.

use super::hint::{
    hint_for_inherited, hint_for_kin, hint_for_stalled_holder, hint_for_stalled_range_holder, hint_for_state,
    hint_to_end, hint_to_wait_in_script,
};
use super::holder::{
    describe_holder, describe_lease, describe_leaseholder, describe_processes, describe_range_holders,
    describe_unknown, describe_unseen_holder,
};
use super::progress::LockProgress;
use super::stream::{print_message, report_log_failure};
use super::text::{escape_controls, format_command, format_target};
use aba_lock::base::names::LockName;
use aba_lock::base::target::{Kind, Target};
use aba_lock::base::text::{HINT_FOR_FULL_DISK, format_io_error, is_full_disk};
use aba_lock::error::Error;
use aba_lock::lock::error::{CoveredBy, LockError, ReplaceMistake};
use aba_lock::lock::holders::{self, Belief, Holder, Holding, LockState, Waiter, find_kin, ranges};
use aba_lock::lock::promise;
use aba_lock::lock::request::Acquired;
use aba_lock::os::{Mode, TURNSTILE};
use std::fmt::Write as _;

/// Reports problems of a lock that was acquired, and with `verbose` the time that it took. With `trusts_files`, locks of
/// fcntl(2) on files of the user are no problem.
pub(crate) fn report_acquired(acquired: &Acquired, progress: &LockProgress, trusts_files: bool, verbose: bool) {
    if let Some((path, reason)) = &acquired.unrecorded {
        let hint = is_full_disk(reason).then_some(HINT_FOR_FULL_DISK);
        let (path, reason) = (path.display(), format_io_error(reason));
        let text = format!("cannot record the holder of the lock in {path}: {reason}; the lock is held nevertheless");
        print_message(&text, hint);
    }
    report_log_failure();
    // Checks only files of the user, which other programs may lock with fcntl(2), because the check delays the command.
    for guard in acquired.guards.iter().filter(|guard| !trusts_files && guard.target.kind == Kind::Users) {
        if let Some(other) =
            ranges::find_conflicting_range_of_file(guard.file(), &guard.target.path, Mode::Exclusive, 0, TURNSTILE)
        {
            let (label, other) = (&guard.target.label, describe_range_holders(&other));
            let text = format!("{label} is also locked {other}; this lock does not exclude that one");
            print_message(&text, Some("to exclude it, use --fcntl"));
        }
    }
    if verbose {
        let labels: Vec<&str> = acquired.guards.iter().map(|guard| guard.target.label.as_str()).collect();
        let took = progress.elapsed().as_secs_f64();
        print_message(&format!("acquired {} after {took:.3} s", labels.join(", ")), None);
    }
}

/// The reader of a hint about a lock that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HintReader {
    /// The user of the helper.
    User,
    /// The user of a script. Such a user cannot give options to the helper.
    Script,
    /// The user of a script that never waits (`--nonblock`), whatever its environment says.
    ImpatientScript,
}

/// Reports that another process holds the lock, and that this process does not wait, or has given up. `instead` is the
/// command of `--on-busy`.
pub(crate) fn report_contention(error: &Error, instead: Option<&str>, reader: HintReader) {
    if let (Error::Lock(LockError::Replace { mistake: ReplaceMistake::NotEnded, .. }), None) = (error, instead) {
        // The reason was reported with the holder.
        return;
    }
    let Error::Lock(LockError::Busy { label, path, kind } | LockError::TimedOut { label, path, kind, .. }) = error
    else {
        let Some(instead) = instead else {
            // A script acquires several locks with a function of the library.
            let of_script = |hint: String| match hint.split_once("at once: `aba-lock lock ") {
                Some((start, names)) => {
                    format!("{start}at once: `aba_lock_operation {}", names.replace(" -- CMD`", "`"))
                }
                None => hint,
            };
            let hint = error.hint().map(|hint| if reader == HintReader::User { hint } else { of_script(hint) });
            return print_message(&error.to_string(), hint.as_deref());
        };
        return print_message(&format!("{error}; running `{}`", escape_controls(instead)), None);
    };
    let state = holders::observe_briefly(path);
    let see = format!("show its holder with `aba-lock status {}`", format_target(*kind, label, path));
    let mut hint = match error {
        Error::Lock(LockError::TimedOut { .. }) => see,
        _ if reader == HintReader::ImpatientScript => see,
        _ if reader == HintReader::Script => format!("wait for it with {}, or {see}", hint_to_wait_in_script()),
        _ => format!("wait for it with `--wait`, or {see}"),
    };
    // A caller with a policy also waits for parts of the lock file, which any process can lock.
    let is_unexplained = state.holding.is_none() && state.unseen.is_none() && state.blind_spot.is_none();
    let range = if is_unexplained { ranges::find_lock_of_others(path) } else { None };
    let range = range.map(|range| format!("its lock file is locked {}", describe_range_holders(&range)));
    let lease = if is_unexplained && range.is_none() { holders::find_lease(path) } else { None };
    if lease.is_some() {
        hint = hint.replace("show its holder", "show that process");
    }
    let cause = range.or_else(|| Some(format!("its lock file cannot be opened: {}", describe_lease(lease.as_ref()?))));
    let mut text = match (&state.holding, error) {
        (None, Error::Lock(LockError::TimedOut { .. })) if cause.is_some() => {
            format!("{error}: {}", cause.unwrap_or_default())
        }
        (None, _) if cause.is_some() => format!("{label} cannot be acquired: {}", cause.unwrap_or_default()),
        (Some(holding), Error::Lock(LockError::TimedOut { .. })) => {
            format!("{error}, held by {}", describe_holder(holding))
        }
        (Some(holding), _) => {
            hint = hint_for_inherited(holding).unwrap_or(hint);
            let waiter = find_exclusive_waiter(&state, holding);
            describe_refusal(label, holding) + &waiter.map(describe_exclusive_waiter).unwrap_or_default()
        }
        (None, Error::Lock(LockError::TimedOut { .. })) => {
            format!("{error}, held by {}", describe_unseen_holder(&state))
        }
        (None, _) if state.blind_spot.is_some() => format!("{label} is held by {}", describe_unseen_holder(&state)),
        (None, _) => format!("{label} was held a moment ago by {}", describe_unseen_holder(&state)),
    };
    if let Some(stalled) = state.holding.as_ref().and_then(hint_for_stalled_holder) {
        hint = stalled;
    }
    if let Some(kin) = state.holding.as_ref().and_then(Holding::kin) {
        hint = hint_for_kin(kin, true);
    }
    if let Some(instead) = instead {
        let _ = write!(text, "; running `{}`", escape_controls(instead));
        return print_message(&text, None);
    }
    print_message(&text, Some(&hint));
}

/// Does the same as [`report_contention`] for a lock of fcntl(2).
pub(crate) fn report_fcntl_contention(error: &Error, instead: Option<&str>, reader: HintReader) {
    let Error::Lock(LockError::Busy { label, path, kind } | LockError::TimedOut { label, path, kind, .. }) = error
    else {
        return report_contention(error, instead, reader);
    };
    let see = format!("show its holder with `aba-lock status {}`", format_target(*kind, label, path));
    let is_busy = matches!(error, Error::Lock(LockError::Busy { .. }));
    let mut hint = if is_busy { format!("wait for it with `--wait`, or {see}") } else { see };
    let found = ranges::find_range_lock(path);
    let lease = if found.is_none() { holders::find_lease(path) } else { None };
    if lease.is_some() {
        hint = hint.replace("show its holder", "show that process");
    }
    let cause = lease.map(|lease| format!("its lock file cannot be opened: {}", describe_lease(&lease)));
    let mut text = match &found {
        Some(range) if is_busy => format!("{label} is locked {}", describe_range_holders(range)),
        Some(range) => format!("{error}, locked {}", describe_range_holders(range)),
        None if is_busy && cause.is_some() => format!("{label} cannot be acquired: {}", cause.unwrap_or_default()),
        None if cause.is_some() => format!("{error}: {}", cause.unwrap_or_default()),
        None if is_busy => {
            format!("{label} was held a moment ago by {}", describe_unseen_holder(&LockState::default()))
        }
        None => error.to_string(),
    };
    if let Some(stalled) = found.as_ref().and_then(hint_for_stalled_range_holder) {
        hint = stalled;
    }
    if let Some(kin) = found.as_ref().and_then(|range| find_kin(&range.holders)) {
        hint = hint_for_kin(kin, true);
    }
    if let Some(instead) = instead {
        let _ = write!(text, "; running `{}`", escape_controls(instead));
        return print_message(&text, None);
    }
    print_message(&text, Some(&hint));
}

/// Reports that a call with `--coalesce` ends without the lock.
pub(crate) fn report_covered(label: &str, by: CoveredBy) {
    report_log_failure();
    let text = match by {
        CoveredBy::Waiter(Some(pid)) => {
            let (pid, command) = promise::describe_waiter(pid);
            format!(
                "{label}: not run: pid {pid} ({}) waits for the lock and starts after this call",
                format_command(&command)
            )
        }
        _ => format!("{label}: {by}"),
    };
    print_message(&text, None);
}

/// Returns the first exclusive waiter of a lock that is held shared and has a free slot, if it has slots. It is the reason why a call
/// for a shared lock or a slot is refused.
fn find_exclusive_waiter(state: &LockState, holding: &Holding) -> Option<Waiter> {
    let has_room = holding.slots().is_none_or(|(held, capacity)| held < capacity as usize);
    let is_shared = holding.mode == Mode::Shared;
    state.waiters().into_iter().find(|waiter| is_shared && has_room && waiter.mode == Mode::Exclusive && waiter.pid > 0)
}

fn describe_exclusive_waiter(waiter: Waiter) -> String {
    let (pid, command) = waiter.script.unwrap_or((waiter.pid, waiter.command));
    format!("; pid {pid} ({}) waits for an exclusive lock", format_command(&command))
}

/// Reports that a wait for a free lock timed out, or would be a deadlock.
pub(crate) fn report_free_wait(error: &Error) {
    if let Error::Lock(LockError::TimedOut { label, path, kind: kind @ Kind::Users, .. }) = error
        && holders::observe_briefly(path).holding.is_none()
        && let Some(range) = ranges::find_range_lock(path)
    {
        let see = || format!("show its holder with `aba-lock status {}`", format_target(*kind, label, path));
        let hint = hint_for_stalled_range_holder(&range).unwrap_or_else(see);
        return print_message(&format!("{error}, locked {}", describe_range_holders(&range)), Some(&hint));
    }
    report_contention(error, None, HintReader::User);
}

fn describe_refusal(label: &str, holding: &Holding) -> String {
    match &holding.record {
        _ if holding.changes_hands => format!("{label} was held a moment ago by {}", describe_holder(holding)),
        Some((_, Belief::Alive)) if holding.mode == Mode::Exclusive => {
            format!("{label} is already running: {}", describe_holder(holding))
        }
        Some((record, belief @ (Belief::Ended | Belief::Closed))) if !holding.holders.is_empty() => {
            let end = if *belief == Belief::Ended { "ended" } else { "closed the file" };
            let verb = if holding.mode == Mode::Exclusive { "which inherited it" } else { "which shares it" };
            format!(
                "{label} was acquired by pid {} ({}), which has {end}; it is still held by {}, {verb}",
                record.pid,
                format_command(&record.command),
                describe_processes(&holding.holders)
            )
        }
        _ => format!("{label} is held by {}", describe_holder(holding)),
    }
}

/// Reports that `unlock NAME` cannot release the lock of another process, whether it is one of flock(2) or of fcntl(2).
pub(crate) fn report_foreign_lock(target: &Target, state: &LockState) {
    let mut by = Vec::new();
    let mut all: Vec<Holder> = Vec::new();
    if let Some(holding) = &state.holding {
        by.push(format!("held by {}", describe_holder(holding)));
        all.extend(holding.holders.iter().cloned());
    }
    if let Some(lease) = &state.lease {
        by.push(format!("held by {}", describe_leaseholder(lease)));
        all.extend(lease.taker.iter().cloned());
    }
    if let Some(range) = &state.range {
        by.push(format!("locked {}", describe_range_holders(range)));
        let known: Vec<u32> = all.iter().map(|holder| holder.pid).collect();
        all.extend(range.holders.iter().filter(|holder| !known.contains(&holder.pid)).cloned());
    }
    let kin = state.holding.as_ref().and_then(Holding::kin).or_else(|| find_kin(&all));
    let hint = match (kin, all.as_slice()) {
        (Some(kin), _) => hint_for_kin(kin, false),
        (None, []) => "the lock is free when its holder ends".to_owned(),
        (None, holders) => hint_to_end(target, holders),
    };
    print_message(&format!("{} cannot be released from here: {}", target.label, by.join("; ")), Some(&hint));
}

/// Reports that a lock was released, but not its lease, because the program of the keeper cannot be run.
pub(crate) fn report_remaining_lease(name: Option<&LockName>, error: &Error) {
    let label = name.map_or("the lock", LockName::as_str);
    let text = format!(
        "{label} is released on this machine, but its lease at the server remains until its time to live ends: {error}"
    );
    print_message(&text, error.hint().as_deref());
}

/// Reports that `unlock NAME` cannot determine whether the lock is held.
pub(crate) fn report_unknown_state(target: &Target, state: &LockState) {
    let text = format!("{}: {}", target.label, describe_unknown(state));
    print_message(&text, hint_for_state(target, state).as_deref());
}
