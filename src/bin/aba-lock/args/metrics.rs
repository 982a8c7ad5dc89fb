//! The options of `metrics`, and what it prints.

use clap::{Args, ValueHint};
use std::path::PathBuf;

/// What the exit statuses of `metrics` mean.
pub(crate) const METRICS_STATUS: [(&str, &str); 3] =
    [("0", "printed"), ("2", "wrong usage"), ("125", "the state root, the tasks or the event log cannot be read")];

/// The metrics: name, type and help. Those that end in `_total` come from the event log.
pub(crate) const METRICS: [(&str, &str, &str); 11] = [
    ("aba_lock_info", "gauge", "The version of aba-lock."),
    ("aba_lock_held", "gauge", "Whether the lock is held."),
    ("aba_lock_held_seconds", "gauge", "How long the lock has been held, where its holder left a record."),
    ("aba_lock_waiting", "gauge", "How many processes wait for the lock."),
    ("aba_lock_tasks", "gauge", "How many tasks of run-once are in this state."),
    ("aba_lock_acquisitions_total", "counter", "How often the lock was acquired, as the event log says."),
    ("aba_lock_contentions_total", "counter", "How often another had the lock, as the event log says."),
    ("aba_lock_timeouts_total", "counter", "How often the wait for the lock timed out, as the event log says."),
    ("aba_lock_deadlocks_total", "counter", "How often a wait would have had no end, as the event log says."),
    ("aba_lock_replacements_total", "counter", "How often the lock file was found replaced, as the event log says."),
    ("aba_lock_wait_seconds_total", "counter", "How long the lock was waited for, as the event log says."),
];

/// Print what is held and waited for, and what the event log counts, as Prometheus text
///
/// For the textfile collector: `aba-lock metrics | aba-lock write --create DIR/aba_lock.prom`. Held, waiting and age are
/// of the locks in the state root. Counters are those of the event log, whoever wrote it; they begin anew when it is
/// rotated, which Prometheus takes for the restart of a counter.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Count what this event log says [default: `ABA_LOCK_LOG`, if that is a file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,
}
