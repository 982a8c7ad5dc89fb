//! `unlock`: releases a lock of the calling script, or ends the holders with `--kill`.

use super::keeper::{become_keeper, has_server};
use super::target::find_target;
use crate::args::lock::UnlockArgs;
use crate::exit;
use crate::output::contention::{report_foreign_lock, report_unknown_state};
use crate::output::force::report_forced_release;
use crate::output::stream;
use aba_lock::base::target::Target;
use aba_lock::error::Error;
use aba_lock::lock::events::{self, LockEvent, ReleaseCause};
use aba_lock::lock::holders::{self, Availability};
use aba_lock::lock::kill::{self, KillPlan, ReleaseOutcome};
use aba_lock::lock::{open, release};
use std::time::Duration;

/// The time between the first signal and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &UnlockArgs) -> Result<i32, Error> {
    let target = match &args.file {
        Some(path) => Some(Target::file(path)),
        None => find_target(args.name.as_deref(), args.key.as_deref())?,
    };
    match (args.fd, target) {
        (Some(fd), target) if args.file.is_none() && has_server(args.server.as_deref()) => {
            become_keeper(&["release"], fd, target.as_ref().and_then(Target::name))
        }
        (Some(fd), target) => {
            release::release_descriptor(fd, target.as_ref().map(|target| target.path.as_path()))?;
            Ok(exit::DONE)
        }
        (None, Some(target)) if args.kill.is_some() => kill_holders(args, &target),
        (None, Some(target)) => {
            open::check_lock_file(&target)?;
            let state = holders::observe_lock(&target.path);
            Ok(match (state.availability(), &state.holding) {
                (Availability::Free, _) => exit::DONE,
                (_, Some(holding)) => {
                    report_foreign_lock(&target, holding);
                    exit::BUSY
                }
                (_, None) => {
                    report_unknown_state(&target, &state);
                    exit::FAILED
                }
            })
        }
        (None, None) => Ok(exit::USAGE),
    }
}

fn kill_holders(args: &UnlockArgs, target: &Target) -> Result<i32, Error> {
    let signal = args.kill.unwrap_or(kill::TERM);
    if signal == kill::KILL && args.grace.is_some() {
        stream::print_misuse("unlock", "--grace has no effect with --kill=KILL, which ends a process at once");
        return Ok(exit::USAGE);
    }
    open::check_lock_file(target)?;
    let forced = kill::end_holders(&target.path, &KillPlan { signal, grace: args.grace.unwrap_or(GRACE) });
    if matches!(forced.outcome, ReleaseOutcome::Released) {
        for process in &forced.signalled {
            let event = LockEvent::Released { held: None, cause: Some(ReleaseCause::Kill) };
            events::log_event(&event, target, process.pid, Some(&process.command));
        }
    }
    Ok(report_forced_release(target, &forced, args.quiet))
}
