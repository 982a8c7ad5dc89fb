//! Every sentence that a user can read, and all data. The only file that prints.

use crate::server::{Entry, Fault, Lease, Owner};
use crate::settings::Settings;
use crate::sys::Theirs;
use aba_lock::base::duration::format_span;
use aba_lock::base::text::shorten;

use aba_lock::os;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The most characters of a command line that a sentence shows.
const MAX_COMMAND: usize = 120;

/// Data, to stdout.
pub(crate) fn print(text: &str) {
    os::write_until_signal(1, text.as_bytes());
}

/// How long a reader of sentences may take until he has read what came before.
const PATIENCE: Duration = Duration::from_secs(5);

fn sentence(text: &str, hint: Option<&str>) {
    // In one call, so that the sentences of several processes do not mix; and not for ever to one who does not read.
    if os::can_be_written(2, PATIENCE) {
        os::write_until_signal(2, lines(text, hint).as_bytes());
    }
}

fn lines(text: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("hint: {}\n", plain(hint))).unwrap_or_default();
    format!("aba-lock: {}\n{hint}", plain(text))
}

/// To somebody else's stderr, if it can be written at once.
pub(crate) fn tell(stderr: &Theirs, text: &str) -> io::Result<()> {
    stderr.write_at_once(lines(text, None).as_bytes())
}

/// The same where that was opened anew.
pub(crate) fn tell_by(mut stderr: &File, text: &str) -> io::Result<()> {
    stderr.write_all(lines(text, None).as_bytes())
}

/// To the system's log, as an error of a program of the user's. Nobody waits for its reader.
pub(crate) fn log(pid: u32, text: &str) {
    if let Ok(socket) = UnixDatagram::unbound()
        && socket.set_nonblocking(true).is_ok()
    {
        let _ = socket.send_to(format!("<11>aba-lock[{pid}]: {}", plain(text)).as_bytes(), "/dev/log");
    }
}

/// Reports once that the event log could not be written to.
pub(crate) fn unlogged() {
    if let Some((log, reason)) = aba_lock::lock::events::take_failure() {
        let (log, reason) = (log.display(), aba_lock::base::text::format_io_error(&reason));
        let text = format!("could not write to the event log {log}: {reason}; nothing else depends on it");
        sentence(&text, Some("set ABA_LOCK_LOG to a file that you may write to, or unset it"));
    }
}

/// Warns if other users can learn a secret.
pub(crate) fn exposed(settings: &Settings) {
    for (text, hint) in settings.exposures() {
        sentence(&text, Some(hint));
    }
}

/// Reports the failure. `wait` is the text of the hint on how to make the caller wait; `None`: the caller never waits.
pub(crate) fn failure(fault: &Fault, wait: Option<&str>) {
    let (text, hint) = match fault {
        Fault::Busy { name, holder } => {
            let wait = wait.map(|wait| format!("wait for it with {wait}, or ")).unwrap_or_default();
            let see = format!("{wait}see it with `aba-lock lease show {name}`");
            match holder {
                Some(holder) => (refusal(holder), Some(see)),
                None => (format!("{name} was held a moment ago by a holder that has let go since"), Some(see)),
            }
        }
        Fault::TimedOut { name, holder } => {
            let held = holder.as_ref().map(|holder| format!(", held by {}", person(holder))).unwrap_or_default();
            (format!("timed out waiting for {name}{held}"), Some(format!("see it with `aba-lock lease show {name}`")))
        }
        Fault::Unreachable { what } => {
            let hint = "nothing is locked without an answer: see that the server runs, and can be reached from here";
            (format!("no server of leases answers: {what}"), Some(hint.to_owned()))
        }
        Fault::Gone { name } => {
            (format!("the lease on {name} is lost: it was not renewed in time, or somebody ended it"), None)
        }
        Fault::NotRun { command, found: true, reason } => (format!("could not run {command}: {reason}"), None),
        Fault::NotRun { command, .. } => (format!("{command}: command not found"), None),
        Fault::Failed { what, hint } => (what.clone(), hint.clone()),
        Fault::Misused { what, hint } => (what.clone(), Some(hint.clone())),
    };
    sentence(&text, hint.as_deref());
}

/// The same for one who runs another command then.
pub(crate) fn busy_instead(fault: &Fault, instead: &str) {
    let text = match fault {
        Fault::Busy { holder: Some(holder), .. } => refusal(holder),
        Fault::Busy { name, .. } | Fault::TimedOut { name, .. } => format!("{name} is held"),
        _ => return failure(fault, None),
    };
    sentence(&format!("{text}; running `{instead}`"), None);
}

/// A wait begins.
pub(crate) fn waiting(server: &str, holder: &Entry) {
    sentence(&format!("waiting for {} at {server}, held by {}", holder.name, person(holder)), None);
}

/// Nobody answers, and we try again.
pub(crate) fn unanswered(name: &str, what: &str) {
    sentence(&format!("waiting for a server of leases to answer, for {name}: {what}"), None);
}

/// `--verbose`.
pub(crate) fn acquired(server: &str, lease: &Lease, took: Duration) {
    let Lease { name, token, .. } = lease;
    sentence(&format!("acquired {name} at {server} after {:.3} s, token {token}", took.as_secs_f64()), None);
}

/// A keeper is there no more.
pub(crate) fn not_kept(name: &str) {
    let hint = "end what it does: another may have the lease by now";
    sentence(&format!("nobody keeps the lease on {name} any more"), Some(hint));
}

/// The lease is there, and another has it.
pub(crate) fn not_first(name: &str, holder: Option<&Entry>) {
    let held = holder.map_or_else(|| "nobody has it".to_owned(), |holder| format!("held by {}", person(holder)));
    sentence(&format!("the lease on {name} is lost: {held}"), None);
}

fn refusal(holder: &Entry) -> String {
    let Entry { name, owner, .. } = holder;
    match owner {
        Some(owner) => format!("{name} is already running: {}", process(owner)),
        None => format!("{name} is held by {}", person(holder)),
    }
}

/// Who stands in a queue, to stand behind "held by".
fn person(entry: &Entry) -> String {
    match &entry.owner {
        Some(owner) => process(owner),
        None => match &entry.said {
            Some(said) => plain(said),
            None => format!("{}, whose program left no word", plain(&entry.id)),
        },
    }
}

fn process(owner: &Owner) -> String {
    let who = owner.who.as_ref().map(|who| format!(" ({})", plain(who))).unwrap_or_default();
    let age = age(owner).map(|age| format!(", for {}", format_span(age))).unwrap_or_default();
    let command = shorten(&plain(&owner.command), MAX_COMMAND);
    format!("pid {} on host {} ({command}), by {}{who}{age}", owner.pid, plain(&owner.host), plain(&owner.user))
}

fn age(owner: &Owner) -> Option<Duration> {
    let since: jiff::Timestamp = owner.since.parse().ok()?;
    Duration::try_from(jiff::Timestamp::now().duration_since(since)).ok()
}

/// Text that others chose, without what would steer the reader's terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `lease acquire`. An error, if nobody can have read it.
pub(crate) fn lease(server: &str, lease: &Lease, as_json: bool) -> io::Result<()> {
    let Lease { name, id, token, ttl, .. } = lease;
    if !as_json {
        return crate::sys::write_all_to_stdout(&format!("{id}\n"));
    }
    let object = json!({ "lease": id, "name": name, "token": token, "ttl_seconds": ttl.as_secs(), "server": server });
    crate::sys::write_all_to_stdout(&format!("{object:#}\n"))
}

/// `lease show`.
pub(crate) fn show(server: &str, name: &str, queue: &[Entry], as_json: bool) {
    if as_json {
        return print(&format!("{:#}\n", name_object(server, name, queue)));
    }
    let Some((holder, waiters)) = queue.split_first() else {
        return print(&format!("{name}: free at {server}\n"));
    };
    let mut text = format!("{name}: held at {server}\n  {}\n", plain(&person(holder)));
    let left =
        holder.left.map(|left| format!(", ends in {} unless it is renewed", format_span(left))).unwrap_or_default();
    let _ = writeln!(text, "  token {}{left}", holder.token);
    for (at, waiter) in waiters.iter().enumerate() {
        let _ = writeln!(text, "  {}. waits: {}", at + 1, person(waiter));
    }
    let _ = writeln!(text, "  lease: {}", plain(&holder.id));
    print(&text);
}

/// `lease list`.
pub(crate) fn list(server: &str, entries: &[Entry], as_json: bool) {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let queue = |name: &str| -> Vec<Entry> { entries.iter().filter(|entry| entry.name == name).cloned().collect() };
    if as_json {
        let objects: Vec<Value> = names.iter().map(|name| name_object(server, name, &queue(name))).collect();
        return print(&format!("{:#}\n", Value::from(objects)));
    }
    let Some(width) = names.iter().map(|name| name.len().max(5)).max() else { return };
    let mut text = format!(
        "{:width$}  {:>6}  {:>7}  {:<16}  {:>7}  {:<8}  COMMAND\n",
        "LEASE", "FOR", "WAITING", "HOST", "PID", "USER"
    );
    for name in names {
        let queue = queue(name);
        let Some((holder, waiters)) = queue.split_first() else { continue };
        let waiting = if waiters.is_empty() { "-".to_owned() } else { waiters.len().to_string() };
        let dash = || "-".to_owned();
        let (since, host, pid, user, command) = match &holder.owner {
            Some(owner) => (
                age(owner).map_or_else(dash, format_span),
                plain(&owner.host),
                owner.pid.to_string(),
                plain(&owner.user),
                shorten(&plain(&owner.command), MAX_COMMAND),
            ),
            None => (dash(), dash(), dash(), dash(), plain(holder.said.as_ref().unwrap_or(&holder.id))),
        };
        let _ = writeln!(text, "{name:width$}  {since:>6}  {waiting:>7}  {host:<16}  {pid:>7}  {user:<8}  {command}");
    }
    print(&text);
}

fn name_object(server: &str, name: &str, queue: &[Entry]) -> Value {
    let mut entries = queue.iter().map(|entry| {
        let owner = entry.owner.as_ref().map(Owner::to_json);
        json!({ "lease": entry.id, "token": entry.token, "owner": owner, "who": entry.said, "ends_in_seconds": entry.left.map(|left| left.as_secs()) })
    });
    let holder = entries.next();
    let state = if holder.is_some() { "held" } else { "free" };
    json!({ "name": name, "server": server, "state": state, "holder": holder, "waiters": entries.collect::<Vec<_>>() })
}
