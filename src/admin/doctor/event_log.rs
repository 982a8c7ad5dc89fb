//! The check of the log of the state root.

use super::finding::{Finding, Report};
use crate::base::environment::event_log;
use crate::base::names::LockName;
use crate::lock::events::{
    LogProblem, RootLogState, describe_unreadable_log, enable_command, find_log_problem, hint_to_mark,
    look_at_root_log, name_rotators, root_log_path,
};
use crate::lock::log_flag::is_logged;
use crate::os;
use crate::store::Store;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

const EVENT_LOG: &str = "event log";

/// Checks that the log of the state root can be used, and counts the lock files without the log flag, whose events are not logged.
pub(super) fn check_root_log(store: &Store, report: Report) {
    let path = root_log_path(store);
    if let Some(LogProblem { text, hint, is_total }) = find_log_problem(&path) {
        let finding = if is_total { Finding::wrong(EVENT_LOG, text) } else { Finding::note(EVENT_LOG, text) };
        return report(Finding { hint, ..finding });
    }
    let size = match look_at_root_log(store) {
        Ok(RootLogState::On { size }) => size,
        Ok(RootLogState::Off) => {
            return report(Finding::fine(EVENT_LOG, format!("{} is turned off", path.display())));
        }
        Ok(RootLogState::Missing) if event_log().is_some() => return,
        Ok(RootLogState::Missing) => {
            let found = format!("no event is logged; `{}` turns the log on", enable_command());
            return report(Finding::fine(EVENT_LOG, found));
        }
        Err(error) => {
            return report(Finding::from_store_error(EVENT_LOG, &describe_unreadable_log(&path, error, true)));
        }
    };
    let look = |name: &LockName| fs::symlink_metadata(store.lock_path(name)).ok();
    let files = store.names().iter().filter_map(look).collect::<Vec<Metadata>>();
    let left_out: Vec<&Metadata> = files.iter().filter(|data| data.is_file() && !is_logged(data.mode())).collect();
    let rotates = name_rotators(&path).map(|names| format!("; only {names} can rotate it")).unwrap_or_default();
    let found = format!("{} has the events, {} KiB with the older file{rotates}", path.display(), size.div_ceil(1024));
    // Only its owner and root can mark a file.
    let is_of_other = |data: &Metadata| data.uid() != os::user_id();
    let unmarked = left_out.iter().find(|data| is_of_other(data)).or(left_out.first());
    report(match unmarked {
        None => Finding::fine(EVENT_LOG, found),
        Some(unmarked) => {
            let number = left_out.len();
            let plural = if number == 1 { "" } else { "s" };
            let found = format!("{found}; the events of {number} lock file{plural} are not logged");
            Finding::note(EVENT_LOG, found).hint(hint_to_mark(&path, unmarked))
        }
    });
}
