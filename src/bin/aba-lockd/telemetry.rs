//! The log lines and the metrics of calls and locks. `lock_manager` and the two APIs record calls, the stores record
//! the locks that end without a call.

use crate::error::CallError;
use crate::model::Lock;
use crate::permission::Caller;
use crate::report;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The upper bounds of the histogram buckets, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The operation of a call, and its caller.
#[derive(Debug)]
pub(crate) struct CallInfo {
    /// `rest`, `terraform` or `grpc`.
    pub(crate) api: &'static str,
    pub(crate) operation: &'static str,
    /// The address of the client.
    pub(crate) from: String,
    /// `None`: the service has no token file, or the caller is not identified yet.
    pub(crate) caller: Option<Caller>,
    /// The name in the caller's certificate.
    pub(crate) certificate: Option<String>,
}

#[derive(Debug, Default)]
struct Histogram {
    /// For each bound, the number of calls that took at most as long.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

#[derive(Debug, Default)]
struct Counters {
    /// By API, operation and result.
    calls: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    /// By operation. Calls that wait for a lock are not included.
    durations: BTreeMap<&'static str, Histogram>,
    expired: u64,
    taken_back: u64,
}

#[derive(Debug)]
pub(crate) struct Telemetry {
    counters: Mutex<Counters>,
    /// True if calls that change nothing are logged as well.
    logs_all: bool,
}

impl Telemetry {
    pub(crate) fn new(logs_all: bool) -> Self {
        Self { counters: Mutex::default(), logs_all }
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the answer to a call, with the lock that it is about. `duration` is `None` if the call waited for a
    /// lock, or was refused before it reached the store.
    pub(crate) fn record_call(
        &self,
        call: &CallInfo,
        result: Result<Option<&Lock>, &CallError>,
        duration: Option<Duration>,
    ) {
        let label = match result {
            Ok(_) => "ok",
            Err(error) => error.label(),
        };
        let mut counters = self.counters();
        *counters.calls.entry((call.api, call.operation, label)).or_default() += 1;
        if let Some(duration) = duration {
            let histogram = counters.durations.entry(call.operation).or_default();
            for (bound, count) in BOUNDS.iter().zip(&mut histogram.buckets) {
                *count += u64::from(duration.as_secs_f64() <= *bound);
            }
            histogram.count += 1;
            histogram.sum += duration;
        }
        drop(counters);
        let changes_locks = matches!(call.operation, "create" | "update" | "unlock");
        let is_error = matches!(
            result,
            Err(CallError::Fault(_)
                | CallError::NotAllowed(_)
                | CallError::NoToken
                | CallError::WrongToken
                | CallError::BadCredential(_))
        );
        if !(self.logs_all || is_error || changes_locks && result.is_ok()) {
            return;
        }
        let mut members: Vec<(&str, Value)> =
            vec![("result", label.into()), ("api", call.api.into()), ("from", call.from.clone().into())];
        members.extend(call.caller.as_ref().map(|caller| ("by", (*caller.name).into())));
        members.extend(call.certificate.as_ref().map(|name| ("certificate", name.clone().into())));
        match result {
            Ok(Some(lock)) => members.extend(describe_lock(lock)),
            Ok(None) => (),
            Err(error) => members.push(("message", error.to_string().into())),
        }
        members.extend(duration.map(|duration| ("seconds", duration.as_secs_f64().into())));
        report::log_event(if is_error { "error" } else { "info" }, call.operation, members);
    }

    pub(crate) fn record_expiry(&self, lock: &Lock) {
        self.counters().expired += 1;
        report::log_event("info", "expired", describe_lock(lock));
    }

    /// Records that a lock was granted to a caller that had gone away, and is being taken back.
    pub(crate) fn record_take_back(&self, lock: &Lock) {
        self.counters().taken_back += 1;
        report::log_event("info", "taken_back", describe_lock(lock));
    }

    /// Formats the metrics for Prometheus. `held`, the number of locks, is `None` if the store could not be read. `waiting` is the
    /// number of waiters, and `clients` that of the clients that read events.
    pub(crate) fn format_metrics(&self, is_up: bool, held: Option<u64>, waiting: usize, clients: usize) -> String {
        let counters = self.counters();
        let mut text = String::new();
        let mut add_family = |name: &str, kind: &str, help: &str, rows: &[(String, String)]| {
            let _ = writeln!(text, "# HELP aba_lockd_{name} {help}\n# TYPE aba_lockd_{name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(text, "aba_lockd_{name}{labels} {value}");
            }
        };
        let one = |number: u64| vec![(String::new(), number.to_string())];
        add_family(
            "up",
            "gauge",
            "1 if the store works: locks can be read and granted.",
            &one(u64::from(is_up && held.is_some())),
        );
        if let Some(held) = held {
            add_family("locks", "gauge", "Locks that are held.", &one(held));
        }
        add_family("waiting", "gauge", "Callers that wait for a lock.", &one(waiting as u64));
        let about = "Clients that read the stream of events.";
        add_family("event_clients", "gauge", about, &one(clients as u64));
        add_family("expired_total", "counter", "Locks that expired.", &one(counters.expired));
        let about = "Locks that were granted to a caller that had disconnected, and were released again.";
        add_family("taken_back_total", "counter", about, &one(counters.taken_back));
        let calls: Vec<_> = counters
            .calls
            .iter()
            .map(|((api, operation, result), number)| {
                let labels = format!("{{api=\"{api}\",operation=\"{operation}\",result=\"{result}\"}}");
                (labels, number.to_string())
            })
            .collect();
        add_family("calls_total", "counter", "Calls that were answered.", &calls);
        let about = "Duration of calls that did not wait for a lock, in seconds.";
        let _ = writeln!(text, "# HELP aba_lockd_seconds {about}\n# TYPE aba_lockd_seconds histogram");
        for (operation, Histogram { buckets, count, sum }) in &counters.durations {
            for (bound, bucket) in BOUNDS.iter().zip(buckets) {
                let _ = writeln!(text, "aba_lockd_seconds_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {bucket}");
            }
            let _ = writeln!(text, "aba_lockd_seconds_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "aba_lockd_seconds_sum{{operation=\"{operation}\"}} {}", sum.as_secs_f64());
            let _ = writeln!(text, "aba_lockd_seconds_count{{operation=\"{operation}\"}} {count}");
        }
        text
    }
}

fn describe_lock(lock: &Lock) -> Vec<(&'static str, Value)> {
    let mut members = vec![
        ("id", json!(lock.id)),
        ("service", json!(lock.key.service)),
        ("environment", json!(lock.key.environment)),
        ("resource", json!(lock.key.resource)),
        ("who", json!(lock.who)),
        ("token", json!(lock.token)),
    ];
    if !lock.event_id.is_empty() {
        members.push(("event_id", json!(lock.event_id)));
    }
    if !lock.origin.name.is_empty() {
        members.push(("owner", json!(lock.origin.name)));
    }
    members
}
