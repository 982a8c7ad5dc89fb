//! The options of `metrics`, the meaning of its exit statuses, and the names and help of the metrics that it prints.

use clap::{Args, ValueHint};
use std::path::PathBuf;

pub(crate) const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "the metrics were printed"),
    ("2", "wrong usage"),
    ("125", "the state root, the tasks or the event log cannot be read"),
];

/// The metrics and their help. Those whose names end in `_total` are counters, read from the event log; the others are gauges.
pub(crate) const METRICS: [(&str, &str); 16] = [
    ("aba_lock_info", "The version of aba-lock."),
    ("aba_lock_held", "1 if the lock is held, 0 if it is free."),
    ("aba_lock_held_seconds", "Seconds since the lock was acquired, if its holder left a record."),
    ("aba_lock_slots", "Number of slots of the lock, if it is held with --slots."),
    ("aba_lock_slots_held", "Number of slots of the lock that are held."),
    ("aba_lock_waiting", "Number of processes that wait for the lock."),
    ("aba_lock_tasks", "Number of tasks of run-once in this state."),
    ("aba_lock_acquisitions_total", "Number of times that the lock was acquired, from the event log."),
    ("aba_lock_contentions_total", "Number of calls that found the lock held by another process, from the event log."),
    (
        "aba_lock_covered_total",
        "Number of calls with --coalesce that ended without the lock, because a run came after them, from the event log.",
    ),
    ("aba_lock_timeouts_total", "Number of waits for the lock that timed out, from the event log."),
    (
        "aba_lock_expirations_total",
        "Number of times that the holders of the lock were ended by --max-time, from the event log.",
    ),
    ("aba_lock_takeovers_total", "Number of processes that --replace has signalled, from the event log."),
    ("aba_lock_deadlocks_total", "Number of waits that would have been a deadlock, from the event log."),
    ("aba_lock_replacements_total", "Number of times that the lock file was found replaced, from the event log."),
    ("aba_lock_wait_seconds_total", "Seconds spent waiting for the lock, from the event log."),
];

/// Print locks, waiters and event counts as Prometheus metrics
///
/// The output is made for the textfile collector: `aba-lock metrics | aba-lock write --create DIR/aba_lock.prom`.
///
/// The gauges (held, waiting, age) describe the locks in the state root. The counters count the lines of the event log,
/// whichever process wrote them. The label `scope` is user; system (--system); or directory (that of `ABA_LOCK_DIR`);
/// locks of files and tasks have none. The locks that all users of this machine share are measured in addition to those of the user,
/// unless `ABA_LOCK_DIR` or `ABA_LOCK_SCOPE` is set. When the log is rotated, they start again from zero, which Prometheus treats as a restart of
/// the counter.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Count the events in this log [default: `ABA_LOCK_LOG`, if that is a file, otherwise the log of `log --enable`]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,

    /// Measure only the locks that all users of this machine share: see aba-lock-lock(1)
    #[arg(long)]
    pub(crate) system: bool,
}
