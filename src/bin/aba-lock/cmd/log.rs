//! `log`: shows the history of locks, and turns the log of the state root on and off.

use crate::args::log::LogArgs;
use crate::exit;
use crate::output::log::{
    EmptyHistory, LogGap, print_holding_json, print_holdings, print_switched, report_awaited_log, report_disabled_log,
    report_empty_history, report_log_problem, report_missing_log, report_not_a_file,
};
use crate::output::log_event::{print_event, print_event_json};
use crate::output::stream;
use aba_lock::base::environment::event_log;
use aba_lock::base::key::LockKey;
use aba_lock::base::names::LockName;
use aba_lock::base::target::Target;
use aba_lock::error::Error;
use aba_lock::lock::events::{
    RootLogState, TASK_PREFIX, describe_unreadable_log, disable_root_log, enable_root_log, find_log_problem,
    find_trusted_log, hint_to_mark, hint_to_remove, look_at_root_log, root_log_path,
};
use aba_lock::lock::history::{
    Chronicle, LogFollower, LogSource, LoggedEvent, for_each_event, reopen_inherited_holdings, settle_open_holdings,
};
use aba_lock::lock::holders::{self, Availability};
use aba_lock::lock::log_flag::is_logged;
use aba_lock::os::word_for;
use aba_lock::store::Store;
use jiff::Timestamp;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The number of events that `--follow` prints first.
const LAST_EVENTS: usize = 10;

/// The number of events above which those that `--follow` does not print first are dropped.
const MAX_FIRST_EVENTS: usize = 1000;

pub(crate) fn run(args: &LogArgs) -> Result<i32, Error> {
    if args.enable || args.disable {
        return switch(args.enable);
    }
    let wanted = WantedLock::from_args(args)?;
    let logs = Logs::find(args)?;
    if let Some(LogSource::Named(log)) = logs.sources.first().filter(|log| is_no_file(log.path())) {
        report_not_a_file(log);
        return Ok(exit::FAILED);
    }
    let from = args.since.and_then(|span| Timestamp::now().checked_sub(span).ok());
    if args.follow { follow(&logs, args.json, from, &wanted) } else { print_history(args, &logs, from, &wanted) }
}

/// The lock whose history is wanted.
enum WantedLock {
    All,
    /// The lock and the task with this name. `label` is the text that the user has given.
    Named {
        name: String,
        label: String,
    },
    /// The lock of the file at this path.
    File(PathBuf),
}

impl WantedLock {
    fn from_args(args: &LogArgs) -> Result<Self, Error> {
        Ok(match (&args.name, &args.key, &args.file) {
            (Some(name), _, _) => Self::Named { name: LockName::parse(name)?.to_string(), label: name.clone() },
            (_, Some(key), _) => {
                let key = LockKey::parse(key)?;
                Self::Named { name: key.name().to_string(), label: key.text().to_owned() }
            }
            (_, _, Some(path)) => Self::File(Target::file(path).path),
            (None, None, None) => Self::All,
        })
    }

    fn has(&self, event: &LoggedEvent) -> bool {
        match self {
            Self::All => true,
            Self::Named { name, .. } => {
                event.lock() == name || event.lock().strip_prefix(TASK_PREFIX) == Some(name.as_str())
            }
            Self::File(path) => Path::new(event.path()) == path,
        }
    }

    /// Returns the reason why the logs of these stores may have no event of the lock.
    fn find_gap(&self, stores: &[Store]) -> Option<LogGap> {
        match self {
            Self::File(_) if !stores.is_empty() => Some(LogGap::OfFile),
            Self::Named { name, .. } if !stores.is_empty() => {
                let name = LockName::parse(name).ok()?;
                let paths = stores.iter().map(|store| store.lock_path(&name));
                let look = |path: PathBuf| fs::symlink_metadata(&path).ok().map(|data| (path, data));
                let files: Vec<(PathBuf, Metadata)> = paths.filter_map(look).collect();
                let Some((path, data)) = files.first() else { return Some(LogGap::NoLockFile) };
                if let Some((path, data)) = files.iter().find(|(_, data)| !data.is_file()) {
                    return Some(LogGap::NotAFile(word_for(data.file_type()), hint_to_remove(path)));
                }
                if files.iter().any(|(path, _)| holders::find_availability(path) == Availability::Held) {
                    return Some(LogGap::HeldNow);
                }
                let is_logged = files.iter().any(|(_, data)| is_logged(data.mode()));
                (!is_logged).then(|| LogGap::NotLogged(hint_to_mark(path, data)))
            }
            _ => None,
        }
    }
}

/// The logs to read.
struct Logs {
    sources: Vec<LogSource>,
    /// The stores whose logs they are: that of the scope in force, and then that of the system. Empty if the user has named the log.
    stores: Vec<Store>,
}

impl Logs {
    fn find(args: &LogArgs) -> Result<Self, Error> {
        if let Some(log) = args.log.clone().or_else(|| event_log().map(|log| log.path)) {
            return Ok(Self { sources: vec![LogSource::Named(log)], stores: Vec::new() });
        }
        let store = Store::from_env()?;
        let mut logs = Self { sources: vec![LogSource::OfRoot(root_log_path(&store))], stores: vec![store] };
        // In a directory that all users share, any of them can create a file in the place of the log.
        if let Some(other) = Store::of_other_scope()
            && let Some(log) = find_trusted_log(&other)
        {
            logs.sources.push(LogSource::OfRoot(log));
            logs.stores.push(other);
        }
        Ok(logs)
    }
}

fn is_no_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| !data.is_file())
}

impl Logs {
    fn cannot_read(&self, (log, source): (PathBuf, io::Error)) -> Error {
        describe_unreadable_log(&log, source, !self.stores.is_empty()).into()
    }
}

fn print_history(args: &LogArgs, logs: &Logs, from: Option<Timestamp>, wanted: &WantedLock) -> Result<i32, Error> {
    let (mut chronicle, mut beginning) = (Chronicle::default(), None);
    let mut take = |event: LoggedEvent| {
        beginning = beginning.map_or(Some(event.time), |first: Timestamp| Some(first.min(event.time)));
        if wanted.has(&event) {
            chronicle.add(&event);
        }
    };
    let mut found = Vec::new();
    for log in &logs.sources {
        if for_each_event(log, &mut take).map_err(|failure| logs.cannot_read(failure))? {
            found.push(log.path());
        }
    }
    if found.is_empty() {
        report_missing_log(logs.sources[0].path(), logs.stores.is_empty());
        return Ok(exit::NO);
    }
    let mut holdings = chronicle.into_holdings();
    settle_open_holdings(&mut holdings);
    reopen_inherited_holdings(&mut holdings);
    holdings.retain(|holding| from.is_none_or(|from| holding.latest_end().is_none_or(|end| end >= from)));
    if holdings.is_empty() {
        let file = args.file.as_ref().map(|path| path.display().to_string());
        let label = if let WantedLock::Named { label, .. } = wanted { Some(label.as_str()) } else { file.as_deref() };
        let gap = wanted.find_gap(&logs.stores);
        report_empty_history(&EmptyHistory { label, since: args.since, logs: &found, beginning, gap });
    } else if args.json {
        holdings.iter().for_each(print_holding_json);
    } else {
        print_holdings(&holdings);
    }
    report_problems(logs);
    Ok(if holdings.is_empty() { exit::NO } else { exit::DONE })
}

/// Reports that the log gets no events, or not all of them, or that it is not read as a whole.
fn report_problems(logs: &Logs) {
    let is_off = |store: &Store| look_at_root_log(store).is_ok_and(|state| state == RootLogState::Off);
    if logs.stores.first().is_some_and(is_off) {
        report_disabled_log();
    }
    for problem in logs.stores.iter().filter_map(|store| find_log_problem(&root_log_path(store))) {
        report_log_problem(&problem);
    }
}

/// Turns the log of the state root on or off.
fn switch(on: bool) -> Result<i32, Error> {
    let store = Store::from_env()?;
    let switched = if on { Some(enable_root_log(&store)?) } else { disable_root_log(&store)? };
    let Some(switched) = switched else {
        report_missing_log(&root_log_path(&store), false);
        return Ok(exit::NO);
    };
    print_switched(&switched, on);
    Ok(if switched.failed.is_empty() { exit::DONE } else { exit::FAILED })
}

/// Prints the last events of the logs, and those that are added to them.
fn follow(logs: &Logs, json: bool, from: Option<Timestamp>, wanted: &WantedLock) -> Result<i32, Error> {
    let names_scope = logs.stores.len() > 1;
    let mut follower = LogFollower::new(logs.sources.iter().cloned());
    let mut is_first = true;
    loop {
        let mut events: Vec<LoggedEvent> = Vec::new();
        let keep_last = |events: &mut Vec<LoggedEvent>| {
            events.sort_by_key(|event| event.time);
            events.drain(..events.len().saturating_sub(LAST_EVENTS));
        };
        let is_wanted = |event: &LoggedEvent| wanted.has(event) && from.is_none_or(|from| event.time >= from);
        let read = follower.read_new_events(|event| {
            events.extend(Some(event).filter(is_wanted));
            if is_first && from.is_none() && events.len() > MAX_FIRST_EVENTS {
                keep_last(&mut events);
            }
        });
        read.map_err(|failure| logs.cannot_read(failure))?;
        if is_first && from.is_none() {
            keep_last(&mut events);
        }
        if is_first {
            if !follower.has_log() {
                report_awaited_log(logs.sources[0].path(), logs.stores.is_empty());
            }
            report_problems(logs);
        }
        is_first = false;
        events.sort_by_key(|event| event.time);
        for event in &events {
            if json {
                print_event_json(event);
            } else {
                print_event(event, names_scope);
            }
        }
        if !stream::can_print() {
            return Ok(exit::DONE);
        }
        follower.wait();
    }
}
