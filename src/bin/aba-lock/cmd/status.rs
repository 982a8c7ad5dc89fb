//! `status`: shows the holder and the waiters of one lock, here and at the lease server.

use super::keeper::{ask, become_keeper, has_server};
use super::target::find_target;
use crate::args::status::StatusArgs;
use crate::exit;
use crate::output::lock_json::OverallState;
use crate::output::status::{print_descriptor_status, print_status, print_status_json};
use aba_lock::base::target::Target;
use aba_lock::error::Error;
use aba_lock::lock::holders::{self, Availability, LockState, ranges};
use aba_lock::lock::mark::is_marked;
use aba_lock::lock::{history, keeper, open, promise, release};
use std::os::unix::fs::MetadataExt;

pub(crate) fn run(args: &StatusArgs) -> Result<i32, Error> {
    let target = match (find_target(args.name.as_deref(), args.key.as_deref())?, &args.file) {
        (Some(target), _) => target,
        (None, Some(path)) => Target::file(path),
        (None, None) => return Ok(exit::USAGE),
    };
    if let Some(fd) = args.fd {
        let held = release::read_held_mode(fd, &target.path)?;
        if args.lease && held.is_some() && keeper::has_lease(fd) {
            return become_keeper(&["lease", "check"], fd, target.name());
        }
        if !args.quiet {
            print_descriptor_status(&target, fd, held);
        }
        return Ok(if held.is_some() { exit::DONE } else { exit::NO });
    }
    let data = open::check_lock_file(&target)?;
    let mut state = LockState::default();
    let mut here = if args.quiet {
        holders::find_availability(&target.path)
    } else {
        state = holders::observe_lock(&target.path);
        let here = state.availability();
        state.promised = promise::find_promised_run(&target.path, here == Availability::Free);
        here
    };
    let is_decided = args.quiet && here == Availability::Held;
    if args.file.is_some() && !is_decided {
        state.range = ranges::find_range_lock(&target.path);
        here = if state.range.is_some() { Availability::Held } else { here };
    }
    let mut elsewhere = None;
    if args.file.is_none() && !is_decided && has_server(args.server.as_deref()) {
        elsewhere = Some(ask("show", target.name(), args.server.as_deref(), args.json)?);
    }
    let at_server = elsewhere.as_ref().map_or(exit::NO, |answer| answer.status);
    let overall = match (here, at_server) {
        (Availability::Held, _) => OverallState::Held,
        (_, exit::DONE) => OverallState::HeldElsewhere,
        (Availability::Free, exit::NO) => OverallState::Free,
        _ => OverallState::Unknown,
    };
    if !args.quiet {
        let elsewhere = elsewhere.as_ref().map(|answer| answer.text.as_str());
        let is_logged = data.as_ref().is_some_and(|data| is_marked(data.mode()));
        let past = target.name().filter(|_| is_logged).map(|name| history::find_past(&target.path, name));
        if args.json {
            print_status_json(&target, &state, overall, past.as_ref(), elsewhere);
        } else {
            print_status(&target, data.is_some(), &state, overall, past.as_ref(), elsewhere);
        }
    }
    Ok(match overall {
        OverallState::Held | OverallState::HeldElsewhere => exit::DONE,
        OverallState::Free => exit::NO,
        // The server did not answer.
        OverallState::Unknown if here == Availability::Free => at_server,
        OverallState::Unknown => exit::FAILED,
    })
}
