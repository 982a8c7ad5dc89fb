use crate::args::Unlock;
use crate::exit;
use crate::report;
use aba_lock::error::Error;
use aba_lock::events::{self, Event};
use aba_lock::force::{self, End, How};
use aba_lock::lock::Target;
use aba_lock::store::Store;
use aba_lock::{holders, lock};
use std::time::Duration;

/// How long the holders have after the first signal, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &Unlock) -> Result<i32, Error> {
    let target = match &args.name {
        Some(name) => Some(super::named(&Store::from_env()?, name)?),
        None => None,
    };
    match (args.fd, target) {
        (Some(fd), target) => {
            lock::release(fd, target.as_ref().map(|target| target.path.as_path()))?;
            Ok(exit::DONE)
        }
        (None, Some(target)) if args.kill.is_some() => kill(args, &target),
        (None, Some(target)) => {
            holders::can_be_known(&target.path)?;
            let Some(holding) = holders::of(&target.path).holding else { return Ok(exit::DONE) };
            report::not_ours(&target, &holding);
            Ok(exit::BUSY)
        }
        (None, None) => Ok(exit::USAGE),
    }
}

fn kill(args: &Unlock, target: &Target) -> Result<i32, Error> {
    let signal = args.kill.unwrap_or(force::TERM);
    if signal == force::KILL && args.grace.is_some() {
        report::misused("unlock", "there is no --grace after --kill=KILL");
        return Ok(exit::USAGE);
    }
    holders::can_be_known(&target.path)?;
    let forced = force::release(&target.path, &How { signal, grace: args.grace.unwrap_or(GRACE) });
    if matches!(forced.end, End::Released) {
        for process in &forced.signalled {
            events::note(&Event::Released { held: None }, target, process.pid, Some(&process.command));
        }
    }
    Ok(report::force::told(target, &forced))
}
