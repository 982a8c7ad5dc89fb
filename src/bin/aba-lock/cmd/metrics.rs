//! `metrics`: prints the state of the locks and the counts of the event log for Prometheus.

use super::task_root::find_task_root;
use crate::args::metrics::MetricsArgs;
use crate::exit;
use crate::output::metrics::print_metrics;
use aba_lock::admin::metrics::{LockCounts, count_events, measure_locks};
use aba_lock::base::environment::event_log;
use aba_lock::error::Error;
use aba_lock::lock::events::find_trusted_log;
use aba_lock::lock::history::LogSource;
use aba_lock::store::Store;
use aba_lock::task::Task;
use std::fs;

pub(crate) fn run(args: &MetricsArgs) -> Result<i32, Error> {
    let store = Store::from_env()?;
    let other = Store::of_other_scope();
    let mut locks = measure_locks(&store)?;
    if let Some(other) = &other {
        locks.extend(measure_locks(other)?);
    }
    let logs = find_logs(args, &store, other.as_ref());
    let mut counts = (!logs.is_empty()).then(LockCounts::default);
    for log in logs {
        count_events(&log, counts.get_or_insert_default())?;
    }
    let root = find_task_root()?;
    let tasks = root.as_ref().map_or_else(|| Ok(Vec::new()), Task::all)?;
    print_metrics(&locks, counts.as_ref(), &tasks);
    Ok(exit::DONE)
}

/// Returns the logs whose events are counted: one that the user has named, otherwise those of both scopes.
fn find_logs(args: &MetricsArgs, store: &Store, other: Option<&Store>) -> Vec<LogSource> {
    if let Some(log) = &args.log {
        return vec![LogSource::Named(log.clone())];
    }
    if let Some(log) = event_log() {
        // Only a file keeps the events: a socket or a terminal has none to count.
        let is_file = fs::metadata(&log.path).map_or(true, |data| data.is_file());
        return Some(LogSource::Named(log.path)).filter(|_| is_file).into_iter().collect();
    }
    [Some(store), other].into_iter().flatten().filter_map(find_trusted_log).map(LogSource::OfRoot).collect()
}
