//! `metrics`: prints the state of the locks and the counts of the event log for Prometheus.

use crate::args::metrics::MetricsArgs;
use crate::exit;
use crate::output::metrics::print_metrics;
use aba_lock::admin::metrics::{count_events, measure_locks};
use aba_lock::base::environment::event_log;
use aba_lock::error::Error;
use aba_lock::lock::events::root_log_path;
use aba_lock::store::{Store, TaskRoot};
use aba_lock::task::Task;
use std::fs;

pub(crate) fn run(args: &MetricsArgs) -> Result<i32, Error> {
    let store = Store::from_env()?;
    let locks = measure_locks(&store)?;
    // Only a file keeps the events: a socket or a terminal has none to count.
    let own = || event_log().map(|log| log.path).filter(|log| fs::metadata(log).map_or(true, |data| data.is_file()));
    let in_root = || Some(root_log_path(&store)).filter(|log| log.is_file());
    let events = args
        .log
        .clone()
        .or_else(|| if event_log().is_some() { own() } else { in_root() })
        .map(|log| count_events(&log))
        .transpose()?;
    let root = TaskRoot::from_env()?;
    print_metrics(&locks, events.as_ref(), &Task::all(&root)?);
    Ok(exit::DONE)
}
