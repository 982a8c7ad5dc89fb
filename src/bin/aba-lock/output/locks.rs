//! What `status` and `list` print.

use super::{bytes, command, elsewhere, last_taken, plain, print, span, tasks, why};
use aba_lock::base::names::LockName;
use aba_lock::base::target::Target;
use aba_lock::lock::holders::{self, Belief, Blind, Holder, Holding, Kin, Known, State, Waiter};
use aba_lock::lock::record::Record;
use aba_lock::os::{self, Mode};
use aba_lock::store::{self, Store};
use aba_lock::task::state::Task;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// The state of a lock on this machine and at the lease server together, on which the exit status of `status` depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overall {
    /// Held on this machine.
    Held,
    /// Its lease is held at the server, and no holder is known on this machine.
    HeldElsewhere,
    /// Held neither here nor there.
    Free,
    /// It may be held, here or there.
    Unknown,
}

impl Overall {
    fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::HeldElsewhere => "held-elsewhere",
            Self::Free => "free",
            Self::Unknown => "unknown",
        }
    }
}

/// Prints `status NAME`, and the answer of the lease server.
pub(crate) fn status(target: &Target, state: &State, overall: Overall, elsewhere: Option<&str>) {
    let label = &plain(&target.label);
    let mut text = match (&state.holding, state.known(), state.blind) {
        (Some(holding), _, _) => held(label, holding),
        (None, Known::Held, _) => format!("{label}: free for flock(2), held by fcntl(2)\n"),
        (None, Known::Free, _) if overall == Overall::HeldElsewhere => {
            format!("{label}: held elsewhere, free on this machine\n")
        }
        (None, Known::Free, _) if overall == Overall::Unknown => {
            format!("{label}: free on this machine; whether its lease is held is unknown\n")
        }
        (None, Known::Free, _) => format!("{label}: free\n"),
        (None, _, Some(blind)) => format!("{label}: whether it is held cannot be known from here: {}\n", why(blind)),
        (None, _, None) => format!("{label}: held by nobody that can be seen from here\n"),
    };
    if let Some((record, belief)) = &state.beyond {
        let _ = writeln!(text, "  {}, which may have it still", last_taken(record, *belief));
    }
    if let Some(range) = &state.range {
        let _ = writeln!(text, "  fcntl(2) lock, {}{}:", range.range.mode, bytes(&range.range));
        for holder in &range.holders {
            let _ = writeln!(text, "  {}", person(holder));
        }
        if range.holders.is_empty() {
            text.push_str("  by a process that cannot be seen from here\n");
        }
    }
    for holder in &state.removed {
        let _ = writeln!(text, "  removed file: still locked by {}: it does not shut others out", person(holder));
    }
    for (at, waiter) in state.waiters().iter().enumerate() {
        let _ = writeln!(text, "  {}. waits: {}", at + 1, waits(waiter));
    }
    if let Some(remedy) = remedy(target, state) {
        let _ = writeln!(text, "  remedy: {remedy}");
    }
    let _ = writeln!(text, "  file: {}", plain(&target.path.to_string_lossy()));
    text.push_str(elsewhere.unwrap_or_default());
    print(&text);
}

/// Prints `status --json`.
pub(crate) fn status_json(target: &Target, state: &State, overall: Overall, elsewhere: Option<&str>) {
    let mut object = object(target, state);
    object["state"] = overall.as_str().into();
    if let Some(text) = elsewhere {
        object["remote"] = as_json(text);
    }
    print(&format!("{object:#}\n"));
}

/// What the keeper printed. Null, if it failed.
fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn held(label: &str, holding: &Holding) -> String {
    let mut text = format!("{label}: held, {}", holding.mode);
    if holding.passing {
        return text + "\n  a moment ago, by a process that has let go since\n";
    }
    if let Some(age) = age(holding) {
        let _ = write!(text, ", for {}", span(age));
    }
    text.push('\n');
    if let Some((record, belief)) = &holding.record {
        if let Some(who) = &record.who {
            let _ = writeln!(text, "  who: {}", plain(who));
        }
        if let Some(path) = &record.pid_file {
            let _ = writeln!(text, "  pid file: {}", plain(path));
        }
        let what = command(&record.command);
        let taken = format!("taken by pid {}, {}, {what}", record.pid, plain(&record.user));
        let _ = match belief {
            Belief::Alive if holding.unseen_taker().is_some() => {
                writeln!(text, "  pid {}, {}, {what}", record.pid, plain(&record.user))
            }
            Belief::Alive => Ok(()),
            Belief::Closed => writeln!(text, "  {taken}, which has closed it"),
            Belief::Ended => writeln!(text, "  {taken}, which has ended"),
            Belief::Perhaps => {
                writeln!(text, "  last taken, as the record says, by pid {}, {what}, which has ended", record.pid)
            }
            Belief::OtherNamespace | Belief::OtherHost | Belief::Unchecked => {
                writeln!(text, "  {}", elsewhere(record, *belief))
            }
        };
    }
    for holder in &holding.holders {
        let inherited = if holder.inherited == Some(true) { " (inherited)" } else { "" };
        let _ = writeln!(text, "  {}{inherited}", person(holder));
    }
    if holding.holders.is_empty() && holding.record.is_none() {
        text.push_str("  by a process that cannot be seen from here\n");
    }
    text
}

/// A process that has a lock.
fn person(holder: &Holder) -> String {
    let mut text = format!("pid {}, {}, {}", holder.pid, holder.user, command(&holder.command));
    if let Some(terminal) = &holder.terminal {
        let _ = write!(text, ", on {terminal}");
    }
    if let Some(namespace) = holder.namespace {
        let _ = write!(text, ", in pid namespace {namespace}");
    }
    text
}

/// A process that waits: the script, if it is one that does.
fn waits(waiter: &Waiter) -> String {
    let mut text = match (&waiter.script, waiter.pid) {
        (None, 0) => "a process that cannot be seen from here".to_owned(),
        (None, pid) => format!("pid {pid}, {}, {}", waiter.user, command(&waiter.command)),
        (Some((script, what)), pid) => {
            format!("pid {script}, {}, {}, by its helper {pid}", waiter.user, command(what))
        }
    };
    if let Some(terminal) = &waiter.terminal {
        let _ = write!(text, ", on {terminal}");
    }
    if waiter.mode == Mode::Shared {
        text.push_str(", to share it");
    }
    if let Some(age) = waiter.age {
        let _ = write!(text, ", for {}", span(age));
    }
    text
}

/// How long it is held, where that is known.
fn age(holding: &Holding) -> Option<Duration> {
    let (record, belief) = holding.record.as_ref()?;
    // Of several who share it the record is of the last one.
    if *belief == Belief::Perhaps { None } else { record.age() }
}

/// What can be done to have it free, or to know more.
pub(super) fn remedy(target: &Target, state: &State) -> Option<String> {
    if let Some(kind) = state.odd {
        return Some(format!("{}: see whose it is with `ls -l`", odd(kind)));
    }
    Some(match (&state.holding, &state.beyond) {
        (Some(holding), _) if holding.passing => "it goes from one process to the next: look again".to_owned(),
        (Some(holding), _) if holding.kin().is_some() => match holding.kin() {
            Some(Kin::Ancestor(pid)) => {
                format!("pid {pid} started this command: the lock is free when that process releases it, or ends")
            }
            _ => "this command holds the lock itself: it is free when this command ends".to_owned(),
        },
        (Some(holding), _) if holding.holders.is_empty() => match holding.unseen_taker() {
            Some(record) => {
                let user = if record.user == "root" { String::new() } else { format!("{}, or ", plain(&record.user)) };
                format!("it is free when it ends; its descriptors may not be looked into from here: ask {user}root")
            }
            None => "it cannot be seen from here who has it: ask as root, or outside of this container".to_owned(),
        },
        (Some(holding), _) => match super::remedy(holding) {
            Some(remedy) => remedy,
            None => ending(target, &holding.holders),
        },
        (None, Some((record, Belief::OtherHost))) => format!("ask on host {}", plain(&record.host)),
        (None, _) if state.blind == Some(Blind::Proc) => "ask where /proc is mounted".to_owned(),
        (None, _) if state.blind == Some(Blind::List) => "ask as root, or where /proc/locks can be read".to_owned(),
        (None, _) if state.blind.is_some() => "ask again".to_owned(),
        (None, Some(_)) => "ask outside of this container, or in that of the holder".to_owned(),
        (None, None) if state.range.is_some() => {
            "the two kinds do not exclude each other: `aba-lock lock` gets it at once, `aba-lock flock --fcntl` waits"
                .to_owned()
        }
        (None, None) if !state.removed.is_empty() => {
            "somebody removed the file under its holder: a second one can have the lock before that one ends".to_owned()
        }
        (None, None) => return None,
    })
}

/// That the holders end, and how to have them do that.
pub(super) fn ending(target: &Target, holders: &[Holder]) -> String {
    let (who, them, verb) = if holders.len() == 1 { ("it", "it", "ends") } else { ("they", "them", "end") };
    if let Some(name) = target.name() {
        return format!("it is free when {who} {verb}; `aba-lock unlock {name} --kill` ends {them}");
    }
    format!("it is free when {who} {verb}; `kill {}` asks {them} to", holders::numbers(holders))
}

/// A lock, as a program reads it.
fn object(target: &Target, state: &State) -> Value {
    let holding = state.holding.as_ref();
    let believed = holding.and_then(|holding| holding.record.as_ref()).or(state.beyond.as_ref());
    json!({
        "name": target.label,
        "path": target.path.to_string_lossy(),
        "state": word(state),
        "mode": holding.map(|holding| holding.mode.as_str()),
        "pid_file": believed.and_then(|(record, _)| record.pid_file.as_ref()),
        "since": believed.filter(|(_, belief)| *belief != Belief::Perhaps).map(|(record, _)| &record.since),
        "age_seconds": holding.and_then(age).map(|age| age.as_secs()),
        "holders": holding.map_or(&[][..], |holding| &holding.holders).iter().map(holder_object).collect::<Vec<_>>(),
        "waiters": state.waiters().iter().map(waiter_object).collect::<Vec<_>>(),
        "removed": state.removed.iter().map(holder_object).collect::<Vec<_>>(),
        "record": state.record.as_ref().map(|record| record_object(record, believed.map(|(_, belief)| *belief))),
        "hidden": state.hidden,
        "fcntl": state.range.as_ref().map(|range| json!({
            "mode": range.range.mode.as_str(),
            "start": range.range.start,
            "length": range.range.len,
            "holders": range.holders.iter().map(holder_object).collect::<Vec<_>>(),
        })),
        "remedy": remedy(target, state),
    })
}

pub(crate) fn word(state: &State) -> &'static str {
    match state.known() {
        Known::Held => "held",
        Known::Free => "free",
        Known::Unknown => "unknown",
    }
}

fn holder_object(holder: &Holder) -> Value {
    json!({
        "pid": holder.pid,
        "user": holder.user,
        "command": holder.command,
        "inherited": holder.inherited,
        "terminal": holder.terminal,
        "running_seconds": holder.age.map(|age| age.as_secs()),
        "namespace": holder.namespace,
    })
}

fn waiter_object(waiter: &Waiter) -> Value {
    let script = waiter.script.as_ref().map(|(pid, command)| json!({ "pid": pid, "command": command }));
    json!({
        "pid": if waiter.pid == 0 { None } else { Some(waiter.pid) },
        "user": waiter.user,
        "command": waiter.command,
        "script": script,
        "mode": waiter.mode.as_str(),
        "terminal": waiter.terminal,
        "waiting_seconds": waiter.age.map(|age| (age.as_secs_f64() * 100.0).round() / 100.0),
    })
}

fn record_object(record: &Record, belief: Option<Belief>) -> Value {
    json!({
        "holder": match belief {
            Some(Belief::Alive) => "alive",
            Some(Belief::Ended) => "ended",
            Some(Belief::Closed) => "closed",
            Some(Belief::Perhaps) => "perhaps",
            Some(Belief::OtherNamespace) => "other-namespace",
            Some(Belief::OtherHost) => "other-host",
            Some(Belief::Unchecked) => "unchecked",
            None => "stale",
        },
        "pid": record.pid,
        "user": record.user,
        "host": record.host,
        "namespace": record.ns,
        "since": record.since,
        "command": record.command,
        "who": record.who,
        "pid_file": record.pid_file,
        "mode": record.mode.as_str(),
        "token": record.token,
    })
}

/// What `list` shows.
pub(crate) struct Listing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) locks: Vec<(LockName, State)>,
    pub(crate) tasks: Vec<Task<'a>>,
}

/// `list --json`.
pub(crate) fn list_json(listing: &Listing, elsewhere: Option<&str>) {
    let remote = elsewhere.map(as_json);
    let leased: Vec<&str> = remote
        .iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter(|lease| lease["state"] == "held")
        .filter_map(|lease| lease["name"].as_str())
        .collect();
    let lock = |(name, state): &(LockName, State)| {
        let mut object = object(&listing.store.target(name), state);
        let overall = match state.known() {
            Known::Held => return object,
            _ if leased.contains(&name.as_str()) => Overall::HeldElsewhere,
            Known::Free if remote.as_ref().is_some_and(Value::is_null) => Overall::Unknown,
            _ => return object,
        };
        object["state"] = overall.as_str().into();
        object
    };
    let locks: Vec<Value> = listing.locks.iter().map(lock).collect();
    let mut all = json!({ "locks": locks, "tasks": tasks::objects(&listing.tasks) });
    if let Some(remote) = remote {
        all["remote"] = remote;
    }
    print(&format!("{all:#}\n"));
}

/// `list`.
pub(crate) fn list(listing: &Listing, elsewhere: Option<&str>) {
    let terminal = os::is_terminal(1);
    let (width, colours) = (terminal.then(|| os::terminal_width(1)), store::wants_colours(terminal));
    let mut text = String::new();
    // The keeper prints a title, and then a line that begins with the name for each lease.
    let leased: Vec<&str> =
        elsewhere.unwrap_or_default().lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    for line in lines(listing, Detail::Locks, &leased) {
        let _ = writeln!(text, "{}", line.shown(width, colours));
    }
    if let Some(elsewhere) = elsewhere.filter(|elsewhere| !elsewhere.is_empty()) {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{gap}{elsewhere}");
    }
    print(&text);
}

/// How a line of the table is to stand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A title.
    Title,
    /// What is held, or runs.
    Busy,
    /// What needs a look.
    Odd,
    /// What is free, or has ended.
    Quiet,
}

/// A line of the table.
pub(crate) struct Line {
    tone: Tone,
    text: String,
}

impl Line {
    /// Cut to so many columns, and with colours, if there are to be any.
    pub(crate) fn shown(&self, width: Option<usize>, colours: bool) -> String {
        let text = match width {
            Some(width) => self.text.chars().take(width).collect(),
            None => self.text.clone(),
        };
        let colour = match self.tone {
            _ if !colours => return text,
            Tone::Title => "1",
            Tone::Busy => "33",
            Tone::Odd => "31",
            Tone::Quiet => return text,
        };
        format!("\x1b[{colour}m{text}\x1b[0m")
    }
}

/// How much the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// A line a lock.
    Locks,
    /// And a line for each further holder, and each waiter.
    People,
}

/// The table: locks, those that are held first, and tasks. `leased` are the names whose lease is held at a server.
pub(crate) fn lines(listing: &Listing, detail: Detail, leased: &[&str]) -> Vec<Line> {
    let mut lines = Vec::new();
    let rank = |state: &State| match word(state) {
        "held" => 0,
        "unknown" => 1,
        _ if !state.removed.is_empty() => 2,
        _ => 3,
    };
    let mut locks: Vec<&(LockName, State)> = listing.locks.iter().collect();
    locks.sort_by_key(|(_, state)| rank(state));
    let width = locks.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0).max(4);
    let mut put = |tone, text: &str| lines.push(Line { tone, text: text.trim_end().to_owned() });
    if !locks.is_empty() {
        let row = format!(
            "{:width$}  {:<8}  {:>6}  {:>7}  {:>7}  {:<8}  COMMAND",
            "LOCK", "STATE", "FOR", "WAITING", "PID", "USER"
        );
        put(Tone::Title, &row);
    }
    for (name, state) in locks {
        let columns = columns(state, leased.contains(&name.as_str()));
        put(tone(state), &format!("{:width$}  {columns}", name.as_str()));
        if detail == Detail::People {
            for holder in state.holding.iter().flat_map(|holding| holding.holders.iter().skip(1)) {
                put(Tone::Busy, &format!("    and {}", person(holder)));
            }
            for (at, waiter) in state.waiters().iter().enumerate() {
                put(Tone::Quiet, &format!("    {}. waits: {}", at + 1, waits(waiter)));
            }
        }
    }
    let tasks = tasks::lines(&listing.tasks);
    if !tasks.is_empty() && !listing.locks.is_empty() {
        put(Tone::Quiet, "");
    }
    for (at, line) in tasks.iter().enumerate() {
        let tone = match (at, line.runs) {
            (0, _) => Tone::Title,
            (_, true) => Tone::Busy,
            (_, false) => Tone::Quiet,
        };
        put(tone, &line.text);
    }
    lines
}

fn tone(state: &State) -> Tone {
    match word(state) {
        "held" if state.holding.as_ref().is_some_and(|holding| super::remedy(holding).is_some()) => Tone::Odd,
        "held" => Tone::Busy,
        "free" if state.removed.is_empty() => Tone::Quiet,
        _ => Tone::Odd,
    }
}

fn odd(kind: &str) -> String {
    format!("it is a {kind}, not a regular file")
}

/// The columns after the name.
fn columns(state: &State, is_leased: bool) -> String {
    let holder = state.holding.as_ref().and_then(|holding| holding.holders.first()).or(state.removed.first());
    let record = state.holding.as_ref().and_then(|holding| holding.record.as_ref()).or(state.beyond.as_ref());
    let shown = match word(state) {
        "free" | "unknown" if is_leased => "leased",
        "free" if !state.removed.is_empty() => "removed",
        "held" if state.holding.as_ref().is_some_and(|holding| holding.mode == Mode::Shared) => "shared",
        word => word,
    };
    let age = state.holding.as_ref().and_then(age).map_or_else(|| "-".to_owned(), span);
    let waiting = if state.queue.is_empty() { "-".to_owned() } else { state.queue.len().to_string() };
    let nobody = |what: String| ("-".to_owned(), "-".to_owned(), what);
    let (pid, user, what) = match (holder, record) {
        (None, _) if state.odd.is_some() => nobody(state.odd.map(odd).unwrap_or_default()),
        (None, Some((record, Belief::Alive))) => {
            (record.pid.to_string(), plain(&record.user), command(&record.command))
        }
        (Some(holder), _) => {
            let more = state.holding.as_ref().map_or(0, |holding| holding.holders.len().saturating_sub(1));
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            (holder.pid.to_string(), holder.user.clone(), format!("{}{more}", command(&holder.command)))
        }
        (None, _) => nobody(match (&state.holding, &state.beyond, state.blind) {
            (Some(holding), _, _) => super::holder(holding),
            (None, _, Some(blind)) => format!("cannot be known from here: {}", why(blind)),
            (None, Some((record, belief)), None) => last_taken(record, *belief),
            (None, None, None) => String::new(),
        }),
    };
    format!("{shown:<8}  {age:>6}  {waiting:>7}  {pid:>7}  {user:<8}  {what}")
}
