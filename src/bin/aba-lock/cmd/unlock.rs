//! `unlock`: releases a lock of the calling script, or ends the holders with `--kill`.

use super::keeper::{become_keeper, has_server};
use super::target::find_target;
use crate::args::lock::UnlockArgs;
use crate::exit;
use crate::output::contention::{report_foreign_lock, report_remaining_lease, report_unknown_state};
use crate::output::force::report_forced_release;
use crate::output::stream;
use aba_lock::base::key::LockKey;
use aba_lock::base::names::LockName;
use aba_lock::base::target::Target;
use aba_lock::error::Error;
use aba_lock::lock::events::{self, LockEvent, ReleaseCause};
use aba_lock::lock::holders::{self, Availability, ranges};
use aba_lock::lock::kill::{self, KillPlan, ReleaseOutcome};
use aba_lock::lock::{keeper, open, release};
use std::time::Duration;

/// The time between the first signal and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &UnlockArgs) -> Result<i32, Error> {
    if let Some(fd) = args.fd {
        return release_for_script(args, fd);
    }
    let target = match &args.file {
        Some(path) => Some(Target::file(path)),
        None => find_target(args.name.as_deref(), args.key.as_deref())?,
    };
    match target {
        Some(target) if args.kill.is_some() => kill_holders(args, &target),
        Some(target) => {
            open::check_lock_file(&target)?;
            let mut state = holders::observe_lock(&target.path);
            if args.file.is_some() {
                state.range = ranges::find_range_lock(&target.path);
            }
            if state.holding.is_none() {
                state.lease = holders::find_lasting_lease(&target.path).map(Box::new);
            }
            Ok(match (state.availability(), &state.holding) {
                (Availability::Free, _) => exit::DONE,
                (Availability::Held, _) => {
                    report_foreign_lock(&target, &state);
                    exit::BUSY
                }
                _ => {
                    report_unknown_state(&target, &state);
                    exit::FAILED
                }
            })
        }
        None => Ok(exit::USAGE),
    }
}

/// Releases the lock that the calling script holds on descriptor `fd`.
fn release_for_script(args: &UnlockArgs, fd: i32) -> Result<i32, Error> {
    if let Some(path) = &args.file {
        release::release_descriptor(fd, Some(&Target::file(path).path))?;
        return Ok(exit::DONE);
    }
    let name = match (&args.name, &args.key) {
        (Some(name), _) => Some(LockName::parse(name)?),
        (None, Some(key)) => Some(LockKey::parse(key)?.name().clone()),
        (None, None) => None,
    };
    // The variable may have been set after the acquisition of a lock that has no lease.
    let mut missing = None;
    if has_server(args.server.as_deref()) && (args.server.is_some() || keeper::has_lease(fd)) {
        // Returns only if the program cannot be run. The lock must not stay held for that.
        let has_lease = keeper::has_lease(fd);
        let failure = become_keeper(&["release"], fd, name.as_ref().map(LockName::as_str)).err();
        missing = failure.filter(|_| has_lease && !keeper::return_lease(fd));
    }
    match &name {
        Some(name) => release::release_named(fd, name)?,
        None => release::release_descriptor(fd, None)?,
    }
    if let Some(error) = missing {
        report_remaining_lease(name.as_ref(), &error);
    }
    Ok(exit::DONE)
}

fn kill_holders(args: &UnlockArgs, target: &Target) -> Result<i32, Error> {
    let signal = args.kill.unwrap_or(kill::TERM);
    if signal == kill::KILL && args.grace.is_some() {
        stream::print_misuse("unlock", "--grace has no effect with --kill=KILL, which ends a process at once");
        return Ok(exit::USAGE);
    }
    open::check_lock_file(target)?;
    let plan = KillPlan { signal, grace: args.grace.unwrap_or(GRACE) };
    let end = if args.file.is_some() { kill::end_holders_of_file } else { kill::end_holders };
    let forced = end(&target.path, &plan);
    if matches!(forced.outcome, ReleaseOutcome::Released) {
        for process in &forced.signalled {
            let event = LockEvent::Released { held: None, cause: Some(ReleaseCause::Kill { user: &process.user }) };
            events::log_event(&event, target, process.pid, Some(&process.command));
        }
    }
    Ok(report_forced_release(target, &forced, args.quiet))
}
