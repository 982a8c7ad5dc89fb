//! The output of `log`.

use super::stream::{print, print_message};
use super::text::{escape_controls, format_command, format_key};
use aba_lock::base::duration::{format_limit, format_span};
use aba_lock::base::text::format_io_error;
use aba_lock::lock::events::enable_command;
use aba_lock::lock::history::{EndCause, Ending, LoggedEvent, PastHolding, PastOutcome, PastWait};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reports that there is no log. `is_named` is true if the user has named it.
pub(crate) fn report_missing_log(log: &Path, is_named: bool) {
    let text = format!("no event log: {} does not exist", log.display());
    let hint = if is_named { "the first event creates it".to_owned() } else { hint_to_enable() };
    print_message(&text, Some(&hint));
}

/// Reports that the log gets no events any more.
pub(crate) fn report_disabled_log() {
    print_message("the log is turned off", Some(&hint_to_enable()));
}

fn hint_to_enable() -> String {
    format!("turn it on with `{}`", enable_command())
}

/// Reports that the log is a socket or a device, which keeps no lines.
pub(crate) fn report_not_a_file(log: &Path) {
    let text = format!("cannot read the event log {}: it is not a regular file", log.display());
    print_message(&text, Some("name the file that has the events with --log"));
}

/// Prints that the log was turned on or off, and reports the lock files for which that failed.
pub(crate) fn print_switched(log: &Path, on: bool, failed: &[(PathBuf, io::Error)]) {
    let path = escape_controls(&log.to_string_lossy());
    print(&if on {
        format!("events are logged in {path}\n")
    } else {
        format!("events are no longer logged; the earlier ones are in {path}\n")
    });
    if let Some((file, error)) = failed.first() {
        let more = match failed.len() {
            1 => String::new(),
            number => format!(", and {} more files", number - 1),
        };
        let what = if on { "mark" } else { "unmark" };
        let text = format!("cannot {what} {}{more}: {}", file.display(), format_io_error(error));
        print_message(&text, Some("run this command as root, or as the user who owns these files"));
    }
}

/// Prints the holdings as text.
pub(crate) fn print_holdings(holdings: &[PastHolding]) {
    let zone = TimeZone::system();
    for holding in holdings {
        print(&format_holding(holding, &zone));
    }
}

fn format_holding(holding: &PastHolding, zone: &TimeZone) -> String {
    let label = holding.key.as_deref().map_or_else(|| escape_controls(&holding.lock), format_key);
    let process = format_process(holding.pid, &holding.command, &holding.user);
    let mut text = format!("{}  {label}: {process}", format_time(holding.since, zone));
    match holding.slot {
        Some((number, slots)) => _ = write!(text, ", slot {number} of {slots}"),
        None if holding.is_shared => text.push_str(", shared"),
        None => {}
    }
    if holding.waited >= Duration::from_secs(1) {
        let _ = write!(text, ", after a wait of {}", format_span(holding.waited));
    }
    let _ = writeln!(text, "\n  {}", format_ending(holding));
    for wait in &holding.waits {
        let _ = writeln!(text, "  {}", format_wait(wait));
    }
    text
}

fn format_process(pid: u32, command: &str, user: &str) -> String {
    format!("pid {pid} ({}), user {}", format_command(command), escape_controls(user))
}

/// Formats the facts about the end of a holding.
pub(crate) fn format_ending(holding: &PastHolding) -> String {
    let zone = TimeZone::system();
    let time = |at: Timestamp| format_time_after(holding.since, at, &zone);
    let cause = describe_cause(holding);
    match holding.ending {
        Ending::At(end) => {
            let held = format_span(holding.duration().unwrap_or_default());
            format!("held for {held}, until {}{cause}", time(end))
        }
        Ending::Between(after, before) => format!("ended between {} and {}{cause}", time(after), time(before)),
        Ending::StillHeld => {
            let held = format_span(elapsed_since(holding.since));
            match (holding.cause, &holding.heir) {
                (Some(EndCause::Exited(status)), Some((pid, command))) => format!(
                    "still held, for {held}, by pid {pid} ({}); the command exited with status {status}",
                    format_command(command)
                ),
                (Some(EndCause::Exited(status)), None) => format!(
                    "still held, for {held}, by a process that the command started; the command exited with status {status}"
                ),
                _ => format!("still held, for {held}"),
            }
        }
        Ending::After(after) => format!("held at {}; it is unknown whether it has ended{cause}", time(after)),
    }
}

/// Formats the usual time for which a lock is held, from this number of runs.
pub(crate) fn format_usual_time(time: Duration, runs: usize) -> String {
    match runs {
        1 => format!("usually held for {} (the last run)", format_span(time)),
        runs => format!("usually held for {} (the median of the last {runs} runs)", format_span(time)),
    }
}

fn describe_cause(holding: &PastHolding) -> String {
    if let (Some(EndCause::Exited(status)), Some((pid, command))) = (holding.cause, &holding.heir) {
        let command = format_command(command);
        return format!("; held by pid {pid} ({command}) after the command exited with status {status}");
    }
    match holding.cause {
        None => String::new(),
        Some(EndCause::Released) => "; released".to_owned(),
        Some(EndCause::Exited(status)) => format!("; exit status {status}"),
        Some(EndCause::Killed) => "; ended by `unlock --kill`".to_owned(),
        Some(EndCause::Expired) => "; ended by --max-time".to_owned(),
        Some(EndCause::Replaced(pid)) => format!("; replaced by pid {pid}"),
    }
}

fn format_wait(wait: &PastWait) -> String {
    let process = format_process(wait.pid, &wait.command, &wait.user);
    match wait.outcome {
        PastOutcome::Refused => format!("refused: {process}"),
        PastOutcome::Acquired(span) => format!("waited: {process}, for {}", format_span(span)),
        PastOutcome::TimedOut(span) => format!("waited: {process}, for {}, and gave up", format_span(span)),
        PastOutcome::GaveUp => format!("waited: {process}, and gave up"),
        PastOutcome::Covered => format!("covered: {process}, ended without the lock (--coalesce)"),
        PastOutcome::Unknown => format!("waited: {process}"),
    }
}

/// Formats a time in the zone of the user.
fn format_time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Formats a time in the zone of the user, without the date if it is that of `first`.
fn format_time_after(first: Timestamp, time: Timestamp, zone: &TimeZone) -> String {
    let (first, time) = (first.to_zoned(zone.clone()), time.to_zoned(zone.clone()));
    let format = if first.date() == time.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

fn elapsed_since(time: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default()
}

/// Prints a holding as a line of JSON.
pub(crate) fn print_holding_json(holding: &PastHolding) {
    let (state, after, before) = match holding.ending {
        Ending::At(end) => ("ended", Some(end), Some(end)),
        Ending::Between(after, before) => ("ended", Some(after), Some(before)),
        Ending::StillHeld => ("held", None, None),
        Ending::After(after) => ("unknown", Some(after), None),
    };
    let (cause, status) = match holding.cause {
        None => (None, None),
        Some(EndCause::Released) => (Some("release"), None),
        Some(EndCause::Exited(status)) => (Some("exit"), Some(status)),
        Some(EndCause::Killed) => (Some("kill"), None),
        Some(EndCause::Expired) => (Some("max-time"), None),
        Some(EndCause::Replaced(_)) => (Some("replace"), None),
    };
    let object = json!({
        "lock": holding.lock,
        "key": holding.key,
        "path": holding.path.to_string_lossy(),
        "pid": holding.pid,
        "user": holding.user,
        "command": holding.command,
        "mode": if holding.is_shared { "shared" } else { "exclusive" },
        "token": holding.token,
        "slot": holding.slot.map(|(number, _)| number),
        "slots": holding.slot.map(|(_, slots)| slots),
        "since": format_json_time(holding.since),
        "waited_seconds": round_seconds(holding.waited),
        "state": state,
        "ended_after": after.map(format_json_time),
        "ended_before": before.map(format_json_time),
        "held_seconds": holding.duration().map(round_seconds),
        "cause": cause,
        "status": status,
        "child_pid": holding.heir.as_ref().map(|(pid, _)| pid),
        "child_command": holding.heir.as_ref().map(|(_, command)| command),
        "waits": holding.waits.iter().map(build_wait).collect::<Vec<_>>(),
    });
    print(&format!("{object}\n"));
}

fn build_wait(wait: &PastWait) -> Value {
    let (outcome, waited) = match wait.outcome {
        PastOutcome::Refused => ("refused", None),
        PastOutcome::Acquired(span) => ("acquired", Some(span)),
        PastOutcome::TimedOut(span) => ("timed-out", Some(span)),
        PastOutcome::GaveUp => ("gave-up", None),
        PastOutcome::Covered => ("covered", None),
        PastOutcome::Unknown => ("unknown", None),
    };
    json!({
        "pid": wait.pid,
        "user": wait.user,
        "command": wait.command,
        "since": format_json_time(wait.since),
        "outcome": outcome,
        "waited_seconds": waited.map(round_seconds),
    })
}

fn format_json_time(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn round_seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Prints an event as a line of JSON.
pub(crate) fn print_event_json(event: &LoggedEvent) {
    print(&format!("{}\n", event.members()));
}

/// Formats an event as a line of text.
pub(crate) fn format_event(event: &LoggedEvent) -> String {
    let label = event.text("key").map_or_else(|| escape_controls(event.lock()), format_key);
    let process = |pid: &str, command: &str| {
        let pid = event.number(pid)?;
        Some(format!("pid {pid} ({})", format_command(event.text(command).unwrap_or_default())))
    };
    let who = format!(
        "{}, user {}",
        process("pid", "command").unwrap_or_default(),
        escape_controls(event.text("user").unwrap_or_default())
    );
    let holder = process("holder_pid", "holder_command").map(|holder| format!(" by {holder}")).unwrap_or_default();
    let after =
        |member: &str| event.span(member).map(|span| format!(" after {}", format_span(span))).unwrap_or_default();
    let what = match event.name() {
        "acquired" => {
            let slot = event.number("slot").zip(event.number("slots"));
            let slot = slot.map(|(number, slots)| format!(", slot {number} of {slots}")).unwrap_or_default();
            let shared = if slot.is_empty() && event.text("mode") == Some("shared") { ", shared" } else { "" };
            let waited = event.span("waited_seconds").filter(|span| *span >= Duration::from_secs(1));
            let waited = waited.map(|span| format!(", after a wait of {}", format_span(span))).unwrap_or_default();
            format!("acquired by {who}{slot}{shared}{waited}")
        }
        "contended" if event.flag("waits") == Some(true) => format!("held{holder}; {who}, waits"),
        "contended" => format!("held{holder}; {who}, was refused"),
        "covered" => format!("{who}, ended without the lock (--coalesce)"),
        "timed_out" => format!("{who}, gave up{}", after("waited_seconds")),
        "superseded" => format!("{who}, gave up for a newer call (--replace){}", after("waited_seconds")),
        "free" => format!("free{}, for {who}", after("waited_seconds")),
        "expired" => {
            let limit = event.span("max_seconds").map(format_limit).unwrap_or_default();
            format!("held by {who}, for the maximum time of {limit}")
        }
        "taken_over" => format!("replaced by {who}, which has signalled the holder{}", format_signalled(event)),
        "deadlock" => {
            let circle = escape_controls(event.text("circle").unwrap_or_default());
            format!("deadlock: {who}, would wait forever: {circle}")
        }
        "replaced" => format!("the lock file was replaced; {who}, opens it again"),
        "inherited" => {
            let status = event.members()["status"].as_i64().unwrap_or_default();
            format!("still held{holder}; the command of {who}, exited with status {status}")
        }
        "released" => {
            let cause = match EndCause::from_release(event) {
                Some(EndCause::Exited(status)) => format!(", exit status {status}"),
                Some(EndCause::Killed) => ", ended by `unlock --kill`".to_owned(),
                _ => String::new(),
            };
            let held =
                event.span("held_seconds").map(|span| format!(", after {}", format_span(span))).unwrap_or_default();
            format!("released by {who}{held}{cause}")
        }
        other => format!("{} by {who}", escape_controls(other)),
    };
    format!("{}  {label}: {what}\n", format_time(event.time, &TimeZone::system()))
}

fn format_signalled(event: &LoggedEvent) -> String {
    event.number("holder_pid").map(|pid| format!(", pid {pid}")).unwrap_or_default()
}
