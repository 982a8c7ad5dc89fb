//! What happens: a line of the log each, and numbers for `/metrics`.

use crate::model::{Lock, Problem};
use crate::report;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The bounds of the histogram, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Who asked, and what.
#[derive(Debug)]
pub(crate) struct Call {
    /// `rest` or `grpc`.
    pub(crate) api: &'static str,
    pub(crate) operation: &'static str,
    /// Where from.
    pub(crate) from: String,
    /// What the token file calls them.
    pub(crate) by: Option<String>,
    /// The name in their certificate.
    pub(crate) certificate: Option<String>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// By api, operation and result.
    calls: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    /// By operation: how many took up to each bound, how many in all, and how long together. Waiting is not in it.
    times: BTreeMap<&'static str, ([u64; BOUNDS.len()], u64, Duration)>,
    expired: u64,
    taken_back: u64,
}

/// The log and the numbers.
#[derive(Debug)]
pub(crate) struct Journal {
    numbers: Mutex<Numbers>,
    /// Whether to log also what changes nothing.
    all: bool,
}

impl Journal {
    pub(crate) fn new(all: bool) -> Self {
        Self { numbers: Mutex::default(), all }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call has been answered. `lock`: what it was about; `took`: how long, if it did not wait for anybody.
    pub(crate) fn answered(&self, call: &Call, result: Result<Option<&Lock>, &Problem>, took: Option<Duration>) {
        let word = match result {
            Ok(_) => "ok",
            Err(problem) => problem.word(),
        };
        let mut numbers = self.numbers();
        *numbers.calls.entry((call.api, call.operation, word)).or_default() += 1;
        if let Some(took) = took {
            let (counts, number, sum) = numbers.times.entry(call.operation).or_default();
            for (bound, count) in BOUNDS.iter().zip(counts) {
                *count += u64::from(took.as_secs_f64() <= *bound);
            }
            *number += 1;
            *sum += took;
        }
        drop(numbers);
        let changes = matches!(call.operation, "create" | "update" | "unlock");
        let grave =
            matches!(result, Err(Problem::Fault(_) | Problem::NotAllowed(_) | Problem::NoToken | Problem::WrongToken));
        if !(self.all || grave || changes && result.is_ok()) {
            return;
        }
        let mut line = Map::new();
        line.insert("event".into(), call.operation.into());
        line.insert("result".into(), word.into());
        line.insert("api".into(), call.api.into());
        line.insert("from".into(), call.from.clone().into());
        if let Some(by) = &call.by {
            line.insert("by".into(), by.clone().into());
        }
        if let Some(certificate) = &call.certificate {
            line.insert("certificate".into(), certificate.clone().into());
        }
        match result {
            Ok(Some(lock)) => about(&mut line, lock),
            Ok(None) => (),
            Err(problem) => drop(line.insert("message".into(), problem.to_string().into())),
        }
        if let Some(took) = took {
            line.insert("seconds".into(), took.as_secs_f64().into());
        }
        report::log(if grave { "error" } else { "info" }, line);
    }

    /// A lock has come to its end by itself.
    pub(crate) fn expired(&self, lock: &Lock) {
        self.numbers().expired += 1;
        Self::of_itself("expired", lock);
    }

    /// A lock was granted to somebody who had gone away.
    pub(crate) fn taken_back(&self, lock: &Lock) {
        self.numbers().taken_back += 1;
        Self::of_itself("taken_back", lock);
    }

    fn of_itself(event: &str, lock: &Lock) {
        let mut line = Map::new();
        line.insert("event".into(), event.into());
        about(&mut line, lock);
        report::log("info", line);
    }

    /// The numbers, for Prometheus. `up`: whether a lock could be granted; `held`: `None` if the store does not say.
    pub(crate) fn metrics(&self, up: bool, held: Option<u64>, waiting: usize) -> String {
        let numbers = self.numbers();
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, String)]| {
            let _ = writeln!(text, "# HELP aba_lockd_{name} {help}\n# TYPE aba_lockd_{name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(text, "aba_lockd_{name}{labels} {value}");
            }
        };
        let one = |number: u64| vec![(String::new(), number.to_string())];
        family(
            "up",
            "gauge",
            "1 if the store works: locks can be read and granted.",
            &one(u64::from(up && held.is_some())),
        );
        if let Some(held) = held {
            family("locks", "gauge", "Locks that are held.", &one(held));
        }
        family("waiting", "gauge", "Callers who wait for a lock.", &one(waiting as u64));
        family("expired_total", "counter", "Locks that came to their end by themselves.", &one(numbers.expired));
        let told = "Locks that were granted to somebody who had gone away, and taken back.";
        family("taken_back_total", "counter", told, &one(numbers.taken_back));
        let calls: Vec<_> = numbers
            .calls
            .iter()
            .map(|((api, operation, result), number)| {
                let labels = format!("{{api=\"{api}\",operation=\"{operation}\",result=\"{result}\"}}");
                (labels, number.to_string())
            })
            .collect();
        family("calls_total", "counter", "Calls that were answered.", &calls);
        let told = "How long calls took that did not wait for a lock.";
        let _ = writeln!(text, "# HELP aba_lockd_seconds {told}\n# TYPE aba_lockd_seconds histogram");
        for (operation, (counts, number, sum)) in &numbers.times {
            for (bound, count) in BOUNDS.iter().zip(counts) {
                let _ = writeln!(text, "aba_lockd_seconds_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "aba_lockd_seconds_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {number}");
            let _ = writeln!(text, "aba_lockd_seconds_sum{{operation=\"{operation}\"}} {}", sum.as_secs_f64());
            let _ = writeln!(text, "aba_lockd_seconds_count{{operation=\"{operation}\"}} {number}");
        }
        text
    }
}

fn about(line: &mut Map<String, Value>, lock: &Lock) {
    line.insert("id".into(), json!(lock.id));
    line.insert("service".into(), json!(lock.key.service));
    line.insert("environment".into(), json!(lock.key.environment));
    line.insert("resource".into(), json!(lock.key.resource));
    line.insert("who".into(), json!(lock.who));
    line.insert("token".into(), json!(lock.token));
    if !lock.event_id.is_empty() {
        line.insert("event_id".into(), json!(lock.event_id));
    }
}
