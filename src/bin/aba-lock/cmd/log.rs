//! `log`: shows the history of locks, and turns the log of the state root on and off.

use super::target::find_target;
use crate::args::log::LogArgs;
use crate::exit;
use crate::output::log::{
    format_event, print_event_json, print_holding_json, print_holdings, print_switched, report_disabled_log,
    report_missing_log, report_not_a_file,
};
use crate::output::stream;
use aba_lock::base::environment::event_log;
use aba_lock::error::Error;
use aba_lock::lock::events::{
    MarkedFiles, RootLogState, TASK_PREFIX, disable_root_log, enable_root_log, look_at_root_log, older_log_path,
    root_log_path,
};
use aba_lock::lock::history::{
    Chronicle, LogFollower, LoggedEvent, for_each_event, reopen_inherited_holdings, settle_open_holdings,
};
use aba_lock::store::Store;
use aba_lock::store::error::StoreError;
use jiff::Timestamp;
use std::fs;
use std::io;
use std::path::Path;

/// The number of events that `--follow` prints first.
const LAST_EVENTS: usize = 10;

pub(crate) fn run(args: &LogArgs) -> Result<i32, Error> {
    if args.enable || args.disable {
        return switch(args.enable);
    }
    let store = Store::from_env()?;
    let target = find_target(args.name.as_deref(), args.key.as_deref())?;
    let name = target.as_ref().and_then(|target| target.name());
    let named = args.log.clone().or_else(|| event_log().map(|log| log.path));
    let log = named.clone().unwrap_or_else(|| root_log_path(&store));
    if named.is_some() && fs::metadata(&log).is_ok_and(|data| !data.is_file()) {
        report_not_a_file(&log);
        return Ok(exit::FAILED);
    }
    let from = args.since.and_then(|span| Timestamp::now().checked_sub(span).ok());
    let is_of = |name: &str, lock: &str| lock == name || lock.strip_prefix(TASK_PREFIX) == Some(name);
    let is_wanted = |event: &LoggedEvent| name.is_none_or(|name| is_of(name, event.lock()));
    if args.follow {
        return follow(&log, args.json, from, &is_wanted);
    }
    let mut chronicle = Chronicle::default();
    let mut take = |event: LoggedEvent| {
        if is_wanted(&event) {
            chronicle.add(&event);
        }
    };
    let mut found = false;
    for log in [older_log_path(&log), log.clone()] {
        found |= read_log(&log, &mut take)?;
    }
    if !found {
        report_missing_log(&log, named.is_some());
        return Ok(exit::NO);
    }
    let mut holdings = chronicle.into_holdings();
    settle_open_holdings(&mut holdings);
    reopen_inherited_holdings(&mut holdings);
    holdings.retain(|holding| from.is_none_or(|from| holding.latest_end().is_none_or(|end| end >= from)));
    if args.json {
        holdings.iter().for_each(print_holding_json);
    } else {
        print_holdings(&holdings);
    }
    if named.is_none() && look_at_root_log(&store).is_ok_and(|state| state == RootLogState::Off) {
        report_disabled_log();
    }
    Ok(exit::DONE)
}

fn read_log(log: &Path, take: impl FnMut(LoggedEvent)) -> Result<bool, Error> {
    let fail = |source| StoreError::EventLog { path: log.to_owned(), source };
    Ok(for_each_event(log, take).map_err(fail)?)
}

/// Turns the log of the state root on or off.
fn switch(on: bool) -> Result<i32, Error> {
    let store = Store::from_env()?;
    let switched = if on { Some(enable_root_log(&store)?) } else { disable_root_log(&store)? };
    let Some(MarkedFiles { log, failed }) = switched else {
        report_missing_log(&root_log_path(&store), false);
        return Ok(exit::NO);
    };
    print_switched(&log, on, &failed);
    // A member of a group turns the log on, although only their owners can mark the files of others.
    let is_minor = on && failed.iter().all(|(_, error)| error.kind() == io::ErrorKind::PermissionDenied);
    Ok(if failed.is_empty() || is_minor { exit::DONE } else { exit::FAILED })
}

/// Prints the last events of a log, and those that are added to it.
fn follow(
    log: &Path,
    json: bool,
    from: Option<Timestamp>,
    is_wanted: &dyn Fn(&LoggedEvent) -> bool,
) -> Result<i32, Error> {
    let fail = |source| StoreError::EventLog { path: log.to_owned(), source };
    let mut follower = LogFollower::new(log.to_owned());
    let mut is_first = true;
    loop {
        let mut events = follower.read_new_events().map_err(fail)?;
        events.retain(|event| is_wanted(event) && from.is_none_or(|from| event.time >= from));
        if is_first && from.is_none() {
            events.drain(..events.len().saturating_sub(LAST_EVENTS));
        }
        is_first = false;
        for event in &events {
            if json {
                print_event_json(event);
            } else {
                stream::print(&format_event(event));
            }
        }
        if !stream::can_print() {
            return Ok(exit::DONE);
        }
        follower.wait();
    }
}
