//! The output of `metrics`, in the text format of Prometheus, version 0.0.4.

use super::stream::print;
use crate::args::metrics::METRICS;
use aba_lock::admin::metrics::{EventCounts, LockCounts, LockMetrics, LoggedLock};
use aba_lock::task::Task;
use aba_lock::task::state::TaskState;
use std::fmt::Write as _;

pub(crate) fn print_metrics(locks: &[LockMetrics], counts: Option<&LockCounts>, tasks: &[Task]) {
    // A lock without events has counters, too: Prometheus sees the first event as an increase only after a zero.
    let events = counts.map(|counts| {
        let logged = |lock: &LockMetrics| LoggedLock { lock: lock.name.clone(), scope: Some(lock.scope) };
        let mut all: LockCounts = locks.iter().map(|lock| (logged(lock), EventCounts::default())).collect();
        all.extend(counts.iter().map(|(lock, counts)| (lock.clone(), *counts)));
        all
    });
    let sample_locks = |value: &dyn Fn(&LockMetrics) -> Option<String>| -> Vec<(String, String)> {
        locks.iter().filter_map(|lock| Some((format_labels(&lock.name, Some(lock.scope)), value(lock)?))).collect()
    };
    let sample_events = |value: &dyn Fn(&EventCounts) -> String| -> Vec<(String, String)> {
        let samples = events.iter().flatten();
        samples.map(|(logged, counts)| (format_labels(&logged.lock, logged.scope), value(counts))).collect()
    };
    let mut text = String::new();
    for (name, help) in METRICS {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let samples = match name {
            "aba_lock_info" => vec![(format_label("version", env!("CARGO_PKG_VERSION")), "1".to_owned())],
            "aba_lock_held" => sample_locks(&|lock| lock.held.map(|held| u8::from(held).to_string())),
            "aba_lock_held_seconds" => sample_locks(&|lock| lock.age.map(|age| age.as_secs().to_string())),
            "aba_lock_slots" => sample_locks(&|lock| lock.slots.map(|(_, all)| all.to_string())),
            "aba_lock_slots_held" => sample_locks(&|lock| lock.slots.map(|(held, _)| held.to_string())),
            "aba_lock_waiting" => sample_locks(&|lock| lock.waiting.map(|number| number.to_string())),
            "aba_lock_tasks" => count_tasks(tasks),
            "aba_lock_acquisitions_total" => sample_events(&|counts| counts.acquired.to_string()),
            "aba_lock_contentions_total" => sample_events(&|counts| counts.contended.to_string()),
            "aba_lock_covered_total" => sample_events(&|counts| counts.covered.to_string()),
            "aba_lock_timeouts_total" => sample_events(&|counts| counts.timed_out.to_string()),
            "aba_lock_expirations_total" => sample_events(&|counts| counts.expired.to_string()),
            "aba_lock_takeovers_total" => sample_events(&|counts| counts.taken_over.to_string()),
            "aba_lock_deadlocks_total" => sample_events(&|counts| counts.deadlocks.to_string()),
            "aba_lock_replacements_total" => sample_events(&|counts| counts.replaced.to_string()),
            "aba_lock_wait_seconds_total" => sample_events(&|counts| format!("{:.3}", counts.waited)),
            _ => Vec::new(),
        };
        if samples.is_empty() {
            continue;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    print(&text);
}

fn count_tasks(tasks: &[Task]) -> Vec<(String, String)> {
    let states: Vec<TaskState> = tasks.iter().filter(|task| task.is_known()).map(|task| task.look().state()).collect();
    let all = [TaskState::New, TaskState::Running, TaskState::Succeeded, TaskState::Failed, TaskState::Interrupted];
    let count = |state: TaskState| states.iter().filter(|other| **other == state).count().to_string();
    all.into_iter().map(|state| (format_label("state", state.as_str()), count(state))).collect()
}

/// Formats the labels of a lock. A lock of a file has no scope.
fn format_labels(lock: &str, scope: Option<&str>) -> String {
    let scope = scope.map(|scope| format!(",{}", format_label("scope", scope))).unwrap_or_default();
    format!("{}{scope}", format_label("lock", lock))
}

fn format_label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}
