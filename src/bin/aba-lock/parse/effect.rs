//! Finds options that clap accepts although they have no effect in this call.
//!
//! A user who gives such an option expects an effect, so the call is refused. Calls that `plain` parses have no such option.

use crate::args::Invocation;
use crate::args::run_once::RunOnceArgs;
use std::time::Duration;

/// Returns the mistake in a call with an option that would have no effect.
pub(super) fn find_ineffective_option(invocation: &Invocation) -> Option<String> {
    match invocation {
        Invocation::RunOnce(args) => find_in_run_once(args),
        Invocation::Lock(args) if args.on_busy.is_some() && args.conflict_exit_code.is_some() => {
            Some("-E has no effect with --on-busy, whose command sets the exit status".to_owned())
        }
        // In `lock backup sh -c LINE`, a missing `--` would make the program the name of a lock.
        Invocation::Lock(args) if args.shell_line.is_some() && args.names.len() + args.key.len() > 1 => {
            Some("-c takes one NAME or --key".to_owned())
        }
        _ => None,
    }
}

fn find_in_run_once(args: &RunOnceArgs) -> Option<String> {
    // The modes other than --start and --wait, which are the only ones that run the task.
    let modes = [
        (args.peek, "--peek"),
        (args.active, "--active"),
        (args.running, "--running"),
        (args.exit_status, "--exit-status"),
        (args.stdout, "--stdout"),
        (args.stderr, "--stderr"),
        (args.reset, "--reset"),
        (args.reset_all, "--reset-all"),
        (args.reset_failed, "--reset-failed"),
        (args.list || args.json, "--list"),
    ];
    let mode = modes.into_iter().find(|(is_given, _)| *is_given).map(|(_, mode)| mode);
    let waits = args.wait || (mode.is_none() && !args.start && args.timeout.is_some());
    let for_wait = [
        (args.timeout.is_some(), "--timeout"),
        (args.purge, "--purge"),
        (args.follow, "--follow"),
        (args.validate, "--validate"),
    ];
    if let Some((_, option)) = for_wait.into_iter().find(|(is_given, _)| *is_given && !waits) {
        return Some(format!("{option} has no effect without --wait"));
    }
    if let Some(mode) = mode.filter(|_| args.max_time.is_some()) {
        return Some(format!("--max-time has no effect with {mode}"));
    }
    if args.max_time == Some(Duration::ZERO) {
        return Some("--max-time must be more than 0".to_owned());
    }
    if args.combined_log && (waits || mode.is_some()) {
        return Some("--combined-log has no effect without --start".to_owned());
    }
    let reads_age = matches!(mode, None | Some("--peek" | "--active" | "--running" | "--exit-status"));
    mode.filter(|_| args.ttl.is_some() && !reads_age).map(|mode| format!("--ttl has no effect with {mode}"))
}
