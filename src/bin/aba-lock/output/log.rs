//! The output of `log`.

use super::stream::{print, print_message};
use super::text::{escape_controls, format_command, format_key};
use aba_lock::base::duration::{format_limit, format_span};
use aba_lock::base::text::format_io_error;
use aba_lock::lock::error::PlantedNames;
use aba_lock::lock::events::{LogProblem, SwitchedLog, enable_command, switch_command};
use aba_lock::lock::history::{EndCause, Ending, Killer, PastHolding, PastOutcome, PastWait, RemainingHolder};
use aba_lock::lock::holders::LeasedFile;
use aba_lock::store::hint_about_mode;
use aba_lock::store::scope::find_scope_of_file;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Reports that there is no log. `is_named` is true if the user has named it.
pub(crate) fn report_missing_log(log: &Path, is_named: bool) {
    print_message(&format!("no event log: {} does not exist", log.display()), Some(&hint_to_create(is_named)));
}

/// Reports that `--follow` waits for a log that does not exist yet.
pub(crate) fn report_awaited_log(log: &Path, is_named: bool) {
    let text = format!("no event log: {} does not exist; waiting until it does", log.display());
    print_message(&text, Some(&hint_to_create(is_named)));
}

fn hint_to_create(is_named: bool) -> String {
    if is_named { "the first event creates it".to_owned() } else { hint_to_enable() }
}

/// The facts about a history in which nothing was found.
#[derive(Debug)]
pub(crate) struct EmptyHistory<'a> {
    /// The lock or the file that the user has named.
    pub(crate) label: Option<&'a str>,
    pub(crate) since: Option<Duration>,
    /// The logs that were read.
    pub(crate) logs: &'a [&'a Path],
    /// The time of their first event.
    pub(crate) beginning: Option<Timestamp>,
    /// The reason why the log may have no event of this lock.
    pub(crate) gap: Option<LogGap>,
}

/// The reason why a log has no event of a lock.
#[derive(Debug)]
pub(crate) enum LogGap {
    /// There is no lock file of this name.
    NoLockFile,
    /// The lock is held by a process that has acquired it before the log was turned on, or that does not log.
    HeldNow,
    /// The log was turned on before a shell created the lock file. This is the hint.
    NotLogged(String),
    /// The name leads to a file of this type. The hint removes it.
    NotAFile(&'static str, String),
    /// Only the log of `ABA_LOCK_LOG` has locks of files.
    OfFile,
}

/// Reports that no holding was found.
pub(crate) fn report_empty_history(empty: &EmptyHistory) {
    let what = empty.label.map_or_else(|| "no holder".to_owned(), |label| format!("{label}: no holder"));
    let paths: Vec<String> = empty.logs.iter().map(|log| log.display().to_string()).collect();
    let is_one = paths.len() == 1;
    let logs = format!("{} {}", if is_one { "the log" } else { "the logs" }, paths.join(" and "));
    let within = empty.since.map(|since| format!(" within the last {}", format_limit(since)));
    let text = match empty.beginning.map(|time| format_time(time, &TimeZone::system())) {
        None => format!("{what} in {logs}, which {} no events yet", if is_one { "has" } else { "have" }),
        Some(beginning) => {
            let verb = if is_one { "begins" } else { "begin" };
            format!("{what}{} in {logs}, which {verb} at {beginning}", within.unwrap_or_default())
        }
    };
    let hint = empty.gap.as_ref().map(|gap| match gap {
        LogGap::NoLockFile => "no lock file has this name: `aba-lock list` shows all locks".to_owned(),
        LogGap::HeldNow => {
            "the lock is held now: `aba-lock status` shows the holder, which has not logged that".to_owned()
        }
        LogGap::NotLogged(hint) => format!("the events of this lock are not logged: {hint}"),
        LogGap::NotAFile(kind, hint) => format!("a {kind} is in the place of its lock file: {hint}"),
        LogGap::OfFile => "locks of files are only in the log of ABA_LOCK_LOG".to_owned(),
    });
    print_message(&text, hint.as_deref());
}

/// Reports that the log gets no events any more.
pub(crate) fn report_disabled_log() {
    print_message("the log is turned off", Some(&hint_to_enable()));
}

/// Reports that events are not logged, or will not be.
pub(crate) fn report_log_problem(problem: &LogProblem) {
    print_message(&problem.text, problem.hint.as_deref());
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
pub(crate) fn print_switched(switched: &SwitchedLog, on: bool) {
    let path = escape_controls(&switched.log.to_string_lossy());
    print(&match switched.obstacle {
        _ if on => format!("events are logged in {path}\n"),
        Some(kind) => format!("events are no longer logged; {path} is a {kind}, and is left as it is\n"),
        None => format!("events are no longer logged; the earlier ones are in {path}\n"),
    });
    let failed = &switched.failed;
    if let Some((file, error)) = failed.first() {
        let more = match failed.len() {
            1 => String::new(),
            number => format!(", and {} more files", number - 1),
        };
        let what = if on { "on" } else { "off" };
        let text = format!("cannot turn logging {what} for {}{more}: {}", file.display(), format_io_error(error));
        let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
        let hint = is_refused.then(|| format!("run as root: `{}`", switch_command(&switched.log, on)));
        let again = |hint: String| format!("{hint}; then run `{}`", switch_command(&switched.log, on));
        let first = LeasedFile::find_in(error).map(LeasedFile::hint).or_else(|| hint_about_mode(file)).map(again);
        let planted = PlantedNames::find_in(error).map(PlantedNames::hint);
        print_message(&text, first.or(planted).or(hint).as_deref());
    }
}

/// Prints the holdings as text. If there are locks of two scopes, each label names its scope.
pub(crate) fn print_holdings(holdings: &[PastHolding]) {
    let zone = TimeZone::system();
    let is_of_system = |holding: &PastHolding| holding.scope().map(|scope| scope == "system");
    let has = |wanted: bool| holdings.iter().any(|holding| is_of_system(holding) == Some(wanted));
    let names_scope = has(true) && has(false);
    for holding in holdings {
        print(&format_holding(holding, &zone, names_scope));
    }
}

/// Formats the name of a lock, or the text of its key. The scope is named on request.
pub(super) fn format_label(lock: &str, key: Option<&str>, path: &Path, names_scope: bool) -> String {
    let label = key.map_or_else(|| escape_controls(lock), format_key);
    match find_scope_of_file(path).filter(|_| names_scope) {
        Some(scope) => format!("{label} (scope {scope})"),
        None => label,
    }
}

fn format_holding(holding: &PastHolding, zone: &TimeZone, names_scope: bool) -> String {
    let label = format_label(&holding.lock, holding.key.as_deref(), &holding.path, names_scope);
    let process = format_process(holding.pid, &holding.command, holding.user.as_deref());
    let mut text = format!("{}  {label}: {process}", format_time(holding.since, zone));
    match holding.slot {
        Some((number, slots)) => _ = write!(text, ", slot {number} of {slots}"),
        None if holding.is_shared => text.push_str(", shared"),
        None => {}
    }
    if holding.is_late {
        text.push_str(", which had acquired the lock before");
    }
    if holding.waited >= Duration::from_secs(1) {
        let _ = write!(text, ", after a wait of {}", format_span(holding.waited));
    }
    let _ = writeln!(text, "\n  {}", format_ending(holding));
    for waits in holding.waits.chunk_by(is_repetition) {
        let time = |wait: &PastWait| format_time_after(holding.since, wait.since, zone);
        let _ = writeln!(
            text,
            "  {}",
            match waits {
                [wait] => format_wait(wait, &time(wait)),
                [first, .., last] => format_waits(last, waits.len(), &time(first), &time(last)),
                [] => String::new(),
            }
        );
    }
    text
}

fn format_process(pid: u32, command: &str, user: Option<&str>) -> String {
    let user = user.map(|user| format!(", user {}", escape_controls(user))).unwrap_or_default();
    format!("pid {pid} ({}){user}", format_command(command))
}

/// Formats the facts about the end of a holding.
pub(crate) fn format_ending(holding: &PastHolding) -> String {
    let zone = TimeZone::system();
    let time = |at: Timestamp| format_time_after(holding.since, at, &zone);
    let cause = describe_cause(holding);
    match holding.ending {
        Ending::At(end) => {
            let held = holding.duration().map(|held| format!(" for {},", format_span(held))).unwrap_or_default();
            format!("held{held} until {}{cause}", time(end))
        }
        Ending::Between(after, before) => format!("ended between {} and {}{cause}", time(after), time(before)),
        Ending::StillHeld => {
            let more = if holding.is_late { "more than " } else { "" };
            let held = format!("{more}{}", format_span(elapsed_since(holding.since)));
            match (holding.cause, &holding.remaining_holder) {
                (Some(EndCause::Exited(status)), Some(holder)) => format!(
                    "still held, for {held}, by {}; the command exited with status {status}",
                    describe_remaining_holder(holder)
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

fn describe_remaining_holder(holder: &RemainingHolder) -> String {
    match holder {
        RemainingHolder::Seen(pid, command) => format!("pid {pid} ({})", format_command(command)),
        RemainingHolder::Unseen => "a process that the command started".to_owned(),
    }
}

fn describe_cause(holding: &PastHolding) -> String {
    if let (Some(EndCause::Exited(status)), Some(holder)) = (holding.cause, &holding.remaining_holder) {
        return format!(
            "; held by {} after the command exited with status {status}",
            describe_remaining_holder(holder)
        );
    }
    match holding.cause {
        None => String::new(),
        Some(EndCause::Released) => "; released".to_owned(),
        Some(EndCause::Exited(status)) => match &holding.signal {
            Some(signal) => format!("; ended by signal {}, exit status {status}", escape_controls(signal)),
            None => format!("; exit status {status}"),
        },
        Some(EndCause::Killed) => match &holding.killer {
            Some(Killer { pid, user, .. }) => {
                format!("; ended by `unlock --kill`, pid {pid}, user {}", escape_controls(user))
            }
            None => "; ended by `unlock --kill`".to_owned(),
        },
        Some(EndCause::Expired) => "; ended by --max-time".to_owned(),
        Some(EndCause::Replaced(pid)) => match &holding.killer {
            Some(Killer { user, .. }) => format!("; replaced by pid {pid}, user {}", escape_controls(user)),
            None => format!("; replaced by pid {pid}"),
        },
    }
}

/// Returns true if both calls are of one job, and were refused or skipped, as those of cron during a run that hangs.
fn is_repetition(one: &PastWait, other: &PastWait) -> bool {
    let ends_at_once = matches!(one.outcome, PastOutcome::Refused | PastOutcome::Skipped(None));
    ends_at_once && one.outcome == other.outcome && (&one.command, &one.user) == (&other.command, &other.user)
}

/// Formats several such calls, of which `last` is the last one.
fn format_waits(last: &PastWait, number: usize, from: &str, to: &str) -> String {
    let what = if last.outcome == PastOutcome::Refused { "refused" } else { "skipped" };
    let (command, user) = (format_command(&last.command), escape_controls(&last.user));
    format!("{what}: {number} calls ({command}), user {user}, from {from} to {to}")
}

fn format_wait(wait: &PastWait, time: &str) -> String {
    let process = format_process(wait.pid, &wait.command, Some(&wait.user));
    match wait.outcome {
        PastOutcome::Refused => format!("refused: {process}, at {time}"),
        PastOutcome::Skipped(None) => format!("skipped: {process}, at {time}"),
        PastOutcome::Skipped(Some(span)) => {
            format!("skipped: {process}, from {time}, after a wait of {}", format_span(span))
        }
        PastOutcome::Acquired(span) => format!("waited: {process}, from {time}, for {}", format_span(span)),
        PastOutcome::TimedOut(span) => {
            format!("waited: {process}, from {time}, for {}, and gave up", format_span(span))
        }
        PastOutcome::GaveUp => format!("waited: {process}, from {time}, and gave up"),
        PastOutcome::Covered => format!("covered: {process}, at {time}, ended without the lock (--coalesce)"),
        PastOutcome::Unknown => format!("waited: {process}, from {time}; it still waits, or was ended"),
    }
}

/// Formats a time in the zone of the user.
pub(super) fn format_time(time: Timestamp, zone: &TimeZone) -> String {
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
    let child = match &holding.remaining_holder {
        Some(RemainingHolder::Seen(pid, command)) => Some((pid, command)),
        Some(RemainingHolder::Unseen) | None => None,
    };
    let object = json!({
        "lock": holding.lock,
        "scope": holding.scope(),
        "key": holding.key,
        "path": holding.path.to_string_lossy(),
        "pid": holding.pid,
        "user": holding.user,
        "command": holding.command,
        "mode": if holding.is_shared { "shared" } else { "exclusive" },
        "token": holding.token,
        "slot": holding.slot.map(|(number, _)| number),
        "slots": holding.slot.map(|(_, slots)| slots),
        "since": (!holding.is_late).then(|| format_json_time(holding.since)),
        "waited_seconds": round_seconds(holding.waited),
        "state": state,
        "ended_after": after.map(format_json_time),
        "ended_before": before.map(format_json_time),
        "held_seconds": holding.duration().map(round_seconds),
        "cause": cause,
        "status": status,
        "signal": holding.signal.as_ref().filter(|_| status.is_some()),
        "killer_pid": holding.killer.as_ref().map(|killer| killer.pid),
        "killer_user": holding.killer.as_ref().map(|killer| &killer.user),
        "killer_command": holding.killer.as_ref().map(|killer| &killer.command),
        "child_pid": child.map(|(pid, _)| pid),
        "child_command": child.map(|(_, command)| command),
        "waits": holding.waits.iter().map(build_wait).collect::<Vec<_>>(),
    });
    print(&format!("{object}\n"));
}

fn build_wait(wait: &PastWait) -> Value {
    let (outcome, waited) = match wait.outcome {
        PastOutcome::Refused => ("refused", None),
        PastOutcome::Skipped(span) => ("skipped", span),
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
