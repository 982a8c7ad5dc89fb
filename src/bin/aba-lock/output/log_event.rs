//! The output of `log --follow`: one line for each event.

use super::log::{format_label, format_time};
use super::stream::print;
use super::text::{escape_controls, format_command};
use aba_lock::base::duration::{format_limit, format_span};
use aba_lock::lock::history::{EndCause, LoggedEvent};
use jiff::tz::TimeZone;
use std::path::Path;
use std::time::Duration;

/// Prints an event as a line of JSON.
pub(crate) fn print_event_json(event: &LoggedEvent) {
    print(&format!("{}\n", event.members()));
}

/// Prints an event as a line of text. The scope of the lock is named on request.
pub(crate) fn print_event(event: &LoggedEvent, names_scope: bool) {
    let label = format_label(event.lock(), event.text("key"), Path::new(event.path()), names_scope);
    let time = format_time(event.time, &TimeZone::system());
    print(&format!("{time}  {label}: {}\n", describe_event(event)));
}

fn describe_event(event: &LoggedEvent) -> String {
    let who = format_caller(event);
    match event.name() {
        "acquired" => describe_acquisition(event, &who),
        "contended" => describe_contention(event, &who),
        "covered" => format!("{who}, ended without the lock (--coalesce)"),
        "timed_out" => {
            let skipped = if is_skipped(event) { ", and skips its run (--skip-ok)" } else { "" };
            format!("{who}, gave up{}{skipped}", format_wait(event))
        }
        "superseded" => format!("{who}, gave up for a newer call (--replace){}", format_wait(event)),
        "free" => format!("free{}, for {who}", format_wait(event)),
        "expired" => {
            let limit = event.span("max_seconds").map(format_limit).unwrap_or_default();
            format!("held by {who}, for the maximum time of {limit}")
        }
        "taken_over" => {
            let holder = event.number("holder_pid").map(|pid| format!(", pid {pid}")).unwrap_or_default();
            format!("replaced by {who}, which has signalled the holder{holder}")
        }
        "deadlock" => {
            let circle = escape_controls(event.text("circle").unwrap_or_default());
            format!("deadlock: {who}, would wait forever: {circle}")
        }
        "replaced" => format!("the lock file was replaced; {who}, opens it again"),
        "inherited" => describe_inheritance(event, &who),
        "released" => describe_release(event, &who),
        other => format!("{} by {who}", escape_controls(other)),
    }
}

fn describe_acquisition(event: &LoggedEvent, who: &str) -> String {
    let slot = event.number("slot").zip(event.number("slots"));
    let slot = slot.map(|(number, slots)| format!(", slot {number} of {slots}")).unwrap_or_default();
    let shared = if slot.is_empty() && event.text("mode") == Some("shared") { ", shared" } else { "" };
    let waited = event.span("waited_seconds").filter(|span| *span >= Duration::from_secs(1));
    let waited = waited.map(|span| format!(", after a wait of {}", format_span(span))).unwrap_or_default();
    format!("acquired by {who}{slot}{shared}{waited}")
}

fn describe_contention(event: &LoggedEvent, who: &str) -> String {
    let holder = format_holder(event).map(|holder| format!(" by {holder}")).unwrap_or_default();
    let does = match (event.flag("waits"), is_skipped(event)) {
        (Some(true), _) => "waits",
        (_, true) => "skips its run (--skip-ok)",
        _ => "was refused",
    };
    format!("held{holder}; {who}, {does}")
}

fn describe_inheritance(event: &LoggedEvent, who: &str) -> String {
    let status = event.members()["status"].as_i64().unwrap_or_default();
    let holder = format_holder(event).unwrap_or_else(|| "a process that the command started".to_owned());
    format!("still held by {holder}; the command of {who}, exited with status {status}")
}

fn describe_release(event: &LoggedEvent, who: &str) -> String {
    let cause = match EndCause::from_release(event) {
        Some(EndCause::Exited(status)) => {
            let signal = event.text("signal").map(|signal| format!(", ended by signal {}", escape_controls(signal)));
            format!("{}, exit status {status}", signal.unwrap_or_default())
        }
        Some(EndCause::Killed) => {
            let killer = event.number("killer_pid").zip(event.text("killer_user"));
            let killer = killer.map(|(pid, user)| format!(", pid {pid}, user {}", escape_controls(user)));
            format!(", ended by `unlock --kill`{}", killer.unwrap_or_default())
        }
        _ => String::new(),
    };
    let held = event.span("held_seconds").map(|span| format!(", after {}", format_span(span))).unwrap_or_default();
    format!("released by {who}{held}{cause}")
}

/// Returns true if the caller takes its failure for a success.
fn is_skipped(event: &LoggedEvent) -> bool {
    event.flag("skipped") == Some(true)
}

fn format_wait(event: &LoggedEvent) -> String {
    event.span("waited_seconds").map(|span| format!(" after {}", format_span(span))).unwrap_or_default()
}

/// Formats the process of an event and its user.
fn format_caller(event: &LoggedEvent) -> String {
    let process = format_process(event, "pid", "command").unwrap_or_default();
    format!("{process}, user {}", escape_controls(event.text("user").unwrap_or_default()))
}

fn format_holder(event: &LoggedEvent) -> Option<String> {
    format_process(event, "holder_pid", "holder_command")
}

fn format_process(event: &LoggedEvent, pid: &str, command: &str) -> Option<String> {
    let pid = event.number(pid)?;
    Some(format!("pid {pid} ({})", format_command(event.text(command).unwrap_or_default())))
}
