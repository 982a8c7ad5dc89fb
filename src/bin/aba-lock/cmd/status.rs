//! `status`: shows the holder and the waiters of one lock, here and at the lease server.

use super::keeper::{ask, become_keeper, has_server};
use super::list;
use super::target::find_target;
use crate::args::status::{ListArgs, StatusArgs};
use crate::exit;
use crate::output::lock_json::OverallState;
use crate::output::status::{LockView, print_descriptor_status, print_status, print_status_json};
use aba_lock::base::target::{Kind, Target};
use aba_lock::error::Error;
use aba_lock::lock::history::LockPast;
use aba_lock::lock::holders::{self, Availability, FileLease, LockState, ranges};
use aba_lock::lock::log_flag::is_logged;
use aba_lock::lock::{history, keeper, open, promise, release};
use aba_lock::store::Store;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

pub(crate) fn run(args: &StatusArgs) -> Result<i32, Error> {
    let target = match (find_target(args.name.as_deref(), args.key.as_deref())?, &args.file) {
        (Some(target), _) => target,
        (None, Some(path)) => Target::file(path),
        (None, None) => return list_all(args),
    };
    if let Some(fd) = args.fd {
        if args.acquired {
            return Ok(if release::is_acquired_by_script(fd, &target.path) { exit::DONE } else { exit::NO });
        }
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
        match holders::find_availability(&target.path) {
            Availability::Free if find_lease(&target, data.as_ref()).is_some() => Availability::Held,
            known => known,
        }
    } else {
        state = observe(&target, data.as_ref());
        state.availability()
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
        let past = find_past(&target, data.as_ref());
        let view = LockView { target: &target, has_file: data.is_some(), state: &state, overall, past };
        let other = find_other(&target);
        let other = other.as_ref().map(OtherLock::view);
        if args.json {
            print_status_json(&view, elsewhere, other.as_ref());
        } else {
            print_status(&view, elsewhere, other.as_ref());
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

/// Lists all locks and tasks.
fn list_all(args: &StatusArgs) -> Result<i32, Error> {
    let (server, json, system) = (args.server.clone(), args.json, args.system);
    list::run(&ListArgs { held: false, json, server, watch: false, system, color: None })
}

/// Observes a lock, its holders and its waiters. `data` is the metadata of its file.
fn observe(target: &Target, data: Option<&Metadata>) -> LockState {
    let mut state = holders::observe_lock(&target.path);
    if state.holding.is_none() {
        state.lease = find_lease(target, data).map(Box::new);
    }
    let planted = data.and_then(|data| open::find_planted_names(target, data.nlink()));
    state.planted = planted.map(Box::new);
    // The record of a file that cannot be opened is not known.
    if state.record.is_none() && data.is_some() {
        state.denied = open::find_denial(&target.path).map(Box::new);
    }
    state.promised = promise::find_promised_run(&target.path, state.availability() == Availability::Free);
    state
}

/// Returns the lease because of which the lock file, which has this metadata, cannot be opened.
fn find_lease(target: &Target, data: Option<&Metadata>) -> Option<FileLease> {
    // Only the owner of a file can take a lease on it, so that is no problem for a private one.
    data.filter(|data| data.mode() & 0o077 != 0)?;
    // A file of another program is not opened without need, because the attempt is an event for the processes that watch it.
    if target.kind != Kind::Named {
        holders::find_listed_lease(&target.path)?;
    }
    holders::find_lasting_lease(&target.path)
}

/// Returns the past of a lock that is logged. `data` is the metadata of its file.
fn find_past(target: &Target, data: Option<&Metadata>) -> Option<LockPast> {
    let name = target.name().filter(|_| data.is_some_and(|data| is_logged(data.mode())))?;
    Some(history::find_past(&target.path, name))
}

/// The lock with the same name in the scope that is not in force.
struct OtherLock {
    target: Target,
    data: Metadata,
    state: LockState,
}

impl OtherLock {
    fn view(&self) -> LockView<'_> {
        LockView {
            target: &self.target,
            has_file: true,
            state: &self.state,
            overall: self.state.availability().into(),
            past: find_past(&self.target, Some(&self.data)),
        }
    }
}

/// Finds the lock of the other scope, if it has a file there.
fn find_other(target: &Target) -> Option<OtherLock> {
    if target.kind != Kind::Named {
        return None;
    }
    let store = Store::of_other_scope()?;
    let target = Target { path: store.root().join(target.path.file_name()?), ..target.clone() };
    // Any user can put a link there, which is no lock.
    let data = open::check_lock_file(&target).ok()??;
    let state = observe(&target, Some(&data));
    Some(OtherLock { target, data, state })
}
