//! The output of `unlock --kill`.

use super::hint::{find_task, find_update_hint};
use super::holder::{
    describe_holder, describe_last_taker, describe_leaseholder, describe_processes, describe_range_holders,
    describe_record,
};
use super::stream::print_message;
use super::text::{escape_controls, format_command, format_target};
use crate::exit;
use aba_lock::base::target::{Kind, Target};
use aba_lock::base::text::format_io_error;
use aba_lock::lock::holders::{self, Availability, Holding, LockState, ranges};
use aba_lock::lock::kill::{ForcedRelease, Refusal, ReleaseOutcome, SignalledProcess};
use aba_lock::lock::open;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// Reports the processes that were ended, and the result. With `quiet`, success is not reported. Returns the exit status.
pub(crate) fn report_forced_release(target: &Target, forced: &ForcedRelease, quiet: bool) -> i32 {
    if quiet && matches!(forced.outcome, ReleaseOutcome::Released) {
        return exit::DONE;
    }
    report_signalled(forced);
    let label = &target.label;
    match &forced.outcome {
        ReleaseOutcome::Released => {
            let state = observe(target);
            match (describe_holder_of(&state), forced.signalled.is_empty()) {
                (Some(by), false) => print_message(&format!("{label} is released; now {by}"), None),
                (None, true) if state.availability() == Availability::Free => report_free(target),
                _ => {}
            }
            exit::DONE
        }
        ReleaseOutcome::StillHeld => {
            let by = describe_holder_of(&observe(target));
            let by = by.unwrap_or_else(|| "held by a process that cannot be seen from here".to_owned());
            print_message(
                &format!("{label} is still {by}"),
                Some(&format!(
                    "show its holder with `aba-lock status {}`",
                    format_target(target.kind, label, &target.path)
                )),
            );
            exit::BUSY
        }
        ReleaseOutcome::Refused(refusal) => {
            report_refusal(&format!("refused to release {label}"), target, refusal);
            exit::BUSY
        }
    }
}

/// Observes the lock and file leases, and on a file of the user also the locks of fcntl(2), which `unlock --file` ends, too.
fn observe(target: &Target) -> LockState {
    let mut state = holders::observe_lock(&target.path);
    if target.kind != Kind::Named {
        state.range = ranges::find_range_lock(&target.path);
    }
    if state.holding.is_none() && state.range.is_none() {
        state.lease = holders::find_lasting_lease(&target.path).map(Box::new);
    }
    state
}

/// Describes the holder of a lock of flock(2) or fcntl(2), or of a lease, in a phrase that follows "now".
fn describe_holder_of(state: &LockState) -> Option<String> {
    match (&state.holding, &state.range) {
        (Some(holding), _) => Some(format!("held by {}", describe_holder(holding))),
        (None, Some(range)) => Some(format!("locked {}", describe_range_holders(range))),
        (None, None) => state.lease.as_ref().map(|lease| format!("held by {}", describe_leaseholder(lease))),
    }
}

/// Reports the processes that were ended for `--replace`, or the reason why none was. Returns true if the holder is waited for, and
/// the message says so.
pub(crate) fn report_replacement(target: &Target, forced: &ForcedRelease) -> bool {
    report_signalled(forced);
    let label = &target.label;
    match &forced.outcome {
        ReleaseOutcome::Released | ReleaseOutcome::StillHeld => false,
        ReleaseOutcome::Refused(Refusal::Unproved) => {
            let state = holders::observe_briefly(&target.path);
            let by = state.holding.as_ref().map(|holding| format!(", held by {}", describe_holder(holding)));
            let by = by.unwrap_or_default();
            let why = if target.kind == Kind::Users {
                "without --replace, a holder of --file has no record"
            } else {
                "no record says that it uses aba-lock"
            };
            print_message(&format!("waiting for {label}{by}; this holder is not ended: {why}"), None);
            true
        }
        // Each look found another holder. The wait is reported like others.
        ReleaseOutcome::Refused(Refusal::HolderUnseen(state))
            if state.holding.as_ref().is_some_and(|holding| holding.changes_hands) =>
        {
            false
        }
        ReleaseOutcome::Refused(refusal) => {
            report_refusal(&format!("refused to replace the holder of {label}"), target, refusal);
            false
        }
    }
}

fn report_signalled(forced: &ForcedRelease) {
    for process in &forced.signalled {
        let who = describe_signalled(process);
        print_message(
            &match (process.ended, process.killed, &forced.outcome) {
                (true, false, _) => format!("ended {who}"),
                (true, true, _) => format!("ended {who}, with SIGKILL"),
                (false, _, ReleaseOutcome::StillHeld) => format!("could not end {who}"),
                (false, _, _) => format!("{who} has released the lock, and continues"),
            },
            None,
        );
    }
}

/// Reports that no process was signalled, and the reason. `what` is the beginning of the message.
fn report_refusal(what: &str, target: &Target, refusal: &Refusal) {
    let refused = |why: &str, hint: &str| print_message(&format!("{what}: {why}"), Some(hint));
    let label = &target.label;
    match refusal {
        Refusal::HeldByCaller => refused(
            "the script that calls this command, or a process that started it, holds the lock",
            &match target.kind {
                Kind::Named => format!(
                    "release it in that script: `aba_unlock_operation {label}`, or `aba-lock unlock --fd N {label}`"
                ),
                _ => format!(
                    "release it in that script: `aba-lock unlock --fd N {}`",
                    format_target(target.kind, label, &target.path)
                ),
            },
        ),
        Refusal::HolderUnseen(state) => {
            let taker = state.holding.as_ref().and_then(Holding::unseen_taker);
            let lease = state.lease.as_ref().map_or(&[][..], |lease| lease.taker.as_slice());
            let fcntl = state.range.as_ref().map_or(lease, |range| &range.holders);
            let why = match (&state.holding, taker) {
                (None, _) if !fcntl.is_empty() => {
                    format!("cannot examine the descriptors of its holder, {}", describe_processes(fcntl))
                }
                (_, Some(record)) => format!(
                    "cannot examine the descriptors of its holder, pid {} {}",
                    record.pid,
                    describe_record(record)
                ),
                (Some(holding), _) if holding.changes_hands => "its holder changed during the check".to_owned(),
                _ => format!("its holder cannot be seen from here: {}", describe_obstacle(state)),
            };
            let is_brief = state.holding.as_ref().is_some_and(|holding| holding.changes_hands);
            refused(
                &why,
                if is_brief {
                    "run this command again"
                } else {
                    "end the holder as its user or as root, on its machine and in its container"
                },
            );
        }
        Refusal::NoProc => {
            refused("/proc cannot be read, so its holder is unknown", "run this command where /proc is mounted");
        }
        Refusal::NotAllowed(process, reason) => refused(
            &format!("cannot send a signal to {}: {}", describe_signalled(process), format_io_error(reason)),
            &match reason.kind() {
                ErrorKind::PermissionDenied => {
                    format!("run this command as {} or root", escape_controls(&process.user))
                }
                _ => format!("end it with another program: `kill {}`", process.pid),
            },
        ),
        Refusal::Unproved => refused("its holder does not use aba-lock", "wait for it with `--wait`"),
        Refusal::OtherProc => refused(
            "/proc shows another pid namespace, so its holder cannot be identified",
            "run this command where /proc shows its own pid namespace",
        ),
    }
}

/// Reports that no process had to be ended. The user may have mistyped the name.
fn report_free(target: &Target) {
    let data = fs::symlink_metadata(&target.path).ok();
    let has_file = data.is_some();
    let free = format!("{} is free: no process to kill", target.label);
    if let Some(planted) = data.and_then(|data| open::find_planted_names(target, data.nlink())) {
        return print_message(&format!("{free}, but its lock file is refused: {planted}"), Some(&planted.hint()));
    }
    let no_file =
        || target.name().map(|_| "no lock file has this name: show all locks with `aba-lock list`".to_owned());
    let hint = match find_task(target, has_file) {
        Some(name) => Some(format!("a task has this name: end it with `aba-lock run-once --reset -i {name}`")),
        None if has_file => None,
        None => find_update_hint(target, has_file).or_else(no_file),
    };
    print_message(&free, hint.as_deref());
}

fn describe_signalled(process: &SignalledProcess) -> String {
    format!("pid {} ({}), by {}", process.pid, format_command(&process.command), escape_controls(&process.user))
}

fn describe_obstacle(state: &LockState) -> String {
    match (&state.holding, &state.unseen) {
        (None, _) if state.range.is_some() || state.lease.is_some() => {
            "it belongs to another user, or is in another pid namespace".to_owned()
        }
        (Some(Holding { record: None, holders, .. }), _) if holders.is_empty() => {
            "it belongs to another user, or is in another pid namespace".to_owned()
        }
        (Some(holding), _) => format!("held by {}", describe_holder(holding)),
        (None, Some((record, belief))) => {
            format!("{}; that process may still hold it", describe_last_taker(record, *belief))
        }
        (None, None) => "it was held a moment ago".to_owned(),
    }
}
