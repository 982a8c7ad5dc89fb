//! The options of `metrics`, and the metrics.

use clap::{Args, ValueHint};
use std::path::PathBuf;

pub(crate) const EXIT_STATUS: [(&str, &str); 3] =
    [("0", "printed"), ("2", "wrong usage"), ("125", "the state root, the tasks or the event log cannot be read")];

/// The metrics and their help. Those whose names end in `_total` are counters, read from the event log; the others are gauges.
pub(crate) const METRICS: [(&str, &str); 11] = [
    ("aba_lock_info", "The version of aba-lock."),
    ("aba_lock_held", "Whether the lock is held."),
    ("aba_lock_held_seconds", "How long the lock has been held, where its holder left a record."),
    ("aba_lock_waiting", "How many processes wait for the lock."),
    ("aba_lock_tasks", "How many tasks of run-once are in this state."),
    ("aba_lock_acquisitions_total", "How often the lock was acquired, as the event log says."),
    ("aba_lock_contentions_total", "How often another had the lock, as the event log says."),
    ("aba_lock_timeouts_total", "How often the wait for the lock timed out, as the event log says."),
    ("aba_lock_deadlocks_total", "How often a wait would have had no end, as the event log says."),
    ("aba_lock_replacements_total", "How often the lock file was found replaced, as the event log says."),
    ("aba_lock_wait_seconds_total", "How long the lock was waited for, as the event log says."),
];

/// Print what is held and waited for, and what the event log counts, as Prometheus text
///
/// For the textfile collector: `aba-lock metrics | aba-lock write --create DIR/aba_lock.prom`. Held, waiting and age are
/// of the locks in the state root. Counters are those of the event log, whoever wrote it; they begin anew when it is
/// rotated, which Prometheus takes for the restart of a counter.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Count what this event log says [default: `ABA_LOCK_LOG`, if that is a file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,
}
