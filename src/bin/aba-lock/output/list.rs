//! The output of `list`: the locks, then the tasks, then the leases of a server.

use super::hint::hint_for_inherited;
use super::holder::{
    describe_blind, describe_holder, describe_last_taker, describe_problem, describe_process, describe_waiter,
};
use super::lock_json::{OverallState, build_lock, find_age, find_limit, parse_answer};
use super::pieces::PiecePrinter;
use super::table::{Column, format_table};
use super::tasks;
use super::text::{describe_file_type, escape_controls, format_command, format_key};
use super::width::cut_to_columns;
use aba_lock::base::duration::format_span;
use aba_lock::base::environment::wants_colours;
use aba_lock::base::names::LockName;
use aba_lock::lock::holders::{Availability, Belief, Holding, LockState};
use aba_lock::lock::promise::PromisedRun;
use aba_lock::os::{self, Mode};
use aba_lock::store::Store;
use aba_lock::task::Task;
use serde_json::Value;
use std::borrow::Cow;
use std::mem;

/// The locks and tasks to list.
pub(crate) struct Listing<'a> {
    /// The locks of the scope in force, and then those of the other one, if it is shown.
    pub(crate) scopes: Vec<ScopeLocks<'a>>,
    pub(crate) tasks: Vec<Task<'a>>,
}

/// The locks of one scope.
pub(crate) struct ScopeLocks<'a> {
    pub(crate) store: &'a Store,
    pub(crate) locks: Vec<(LockName, LockState)>,
}

impl Listing<'_> {
    /// The locks of all scopes, each with its store.
    pub(crate) fn locks(&self) -> impl Iterator<Item = (&Store, &LockName, &LockState)> {
        self.scopes.iter().flat_map(|scope| scope.locks.iter().map(|(name, state)| (scope.store, name, state)))
    }

    /// Returns true if there are locks of more than one scope.
    fn is_mixed(&self) -> bool {
        self.scopes.iter().filter(|scope| !scope.locks.is_empty()).count() > 1
    }
}

/// Prints `list --json`, and the answer of the lease server.
pub(crate) fn print_list_json(listing: &Listing, elsewhere: Option<&str>) {
    let remote = elsewhere.map(parse_answer);
    let leased: Vec<&str> = remote
        .iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter(|lease| lease["state"] == "held")
        .filter_map(|lease| lease["name"].as_str())
        .collect();
    let build = |(store, name, state): (&Store, &LockName, &LockState)| {
        let overall = match state.availability() {
            Availability::Held => OverallState::Held,
            _ if leased.contains(&name.as_str()) => OverallState::HeldElsewhere,
            Availability::Free if remote.as_ref().is_some_and(Value::is_null) => OverallState::Unknown,
            known => known.into(),
        };
        build_lock(&store.target(name), state, overall)
    };
    let mut printer = PiecePrinter::default();
    printer.put("{");
    printer.put_key("locks");
    printer.put_array(listing.locks().map(build), 1);
    if let Some(remote) = &remote {
        printer.put(",");
        printer.put_key("remote");
        printer.put_value(remote, 1);
    }
    printer.put(",");
    printer.put_key("tasks");
    tasks::put_json(&mut printer, &listing.tasks, 1);
    printer.put("\n}\n");
}

/// Prints `list`, and the answer of the lease server.
pub(crate) fn print_list(listing: &Listing, elsewhere: Option<&str>) {
    let terminal = os::is_terminal(1);
    let (width, colours) = (terminal.then(|| os::terminal_width(1)), wants_colours(terminal));
    let mut printer = PiecePrinter::default();
    let leased = read_lease_names(elsewhere.unwrap_or_default());
    format_lines(listing, Detail::Locks, &leased, |colour, text| {
        printer.put_line(&render_line(text, colour.filter(|_| colours), width));
    });
    if let Some(elsewhere) = elsewhere.filter(|elsewhere| !elsewhere.is_empty()) {
        if !printer.is_empty() {
            printer.put("\n");
        }
        printer.put(elsewhere);
    }
}

/// Reads the names in the table of the keeper. After a line of titles, each line begins with a name without spaces.
fn read_lease_names(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split(' ').next()).collect()
}

/// The colour of a line, as a parameter of the escape sequence. Most lines have none.
type Colour = Option<&'static str>;

const BOLD: Colour = Some("1");
const YELLOW: Colour = Some("33");
const RED: Colour = Some("31");

/// A line of the list.
pub(crate) struct ListLine {
    colour: Colour,
    text: String,
}

impl ListLine {
    /// Cuts the line to a width in columns, and colours it.
    pub(crate) fn render(&self, width: usize, colours: bool) -> String {
        render_line(&self.text, self.colour.filter(|_| colours), Some(width)).into_owned()
    }
}

/// Cuts a line to a width in columns, and colours it.
fn render_line(text: &str, colour: Colour, width: Option<usize>) -> Cow<'_, str> {
    let text = match width {
        Some(width) => Cow::Borrowed(cut_to_columns(text, width)),
        None => Cow::Borrowed(text),
    };
    match colour {
        Some(colour) => Cow::Owned(format!("\x1b[{colour}m{text}\x1b[0m")),
        None => text,
    }
}

/// The detail of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// One line for each lock.
    Locks,
    /// In addition, one line for each further holder and for each waiter.
    Processes,
}

/// The columns of the list. That of the scope follows the first one, if there are locks of two scopes.
const COLUMNS: [Column; 7] = [
    Column::Fit("LOCK"),
    Column::Left("STATE", 8),
    Column::Right("FOR", 6),
    Column::Right("WAITING", 7),
    Column::Right("PID", 7),
    Column::Left("USER", 8),
    Column::Left("COMMAND", 0),
];

const SCOPE: Column = Column::Left("SCOPE", 6);

/// Returns the lines of the list, with one line for each holder and waiter.
pub(crate) fn collect_lines(listing: &Listing) -> Vec<ListLine> {
    let mut lines = Vec::new();
    format_lines(listing, Detail::Processes, &[], |colour, text| {
        lines.push(ListLine { colour, text: text.to_owned() });
    });
    lines
}

/// Passes the lines of the list to `put`. The held locks come first. `leased` are the names whose leases are held at a server.
fn format_lines(listing: &Listing, detail: Detail, leased: &[&str], mut put: impl FnMut(Colour, &str)) {
    let rank = |state: &LockState| match state.availability() {
        Availability::Held => 0,
        Availability::Unknown => 1,
        Availability::Free if !state.removed.is_empty() || is_unusable(state) => 2,
        Availability::Free => 3,
    };
    let mut locks: Vec<_> = listing.locks().collect();
    locks.sort_by_key(|(_, _, state)| rank(state));
    let is_mixed = listing.is_mixed();
    let mut columns = COLUMNS.to_vec();
    if is_mixed {
        columns.insert(1, SCOPE);
    }
    let rows = locks.iter().map(|(store, name, state)| {
        let mut row = format_row(name, state, leased.contains(&name.as_str()));
        if is_mixed {
            row.insert(1, if store.is_system() { "system" } else { "user" }.into());
        }
        row
    });
    let mut put = |colour, text: &str| put(colour, text.trim_end());
    let (mut shown, mut has_titles) = (locks.iter(), false);
    format_table(&columns, rows, |text| {
        if !mem::replace(&mut has_titles, true) {
            return put(BOLD, text);
        }
        let Some((_, _, state)) = shown.next() else { return };
        put(choose_colour(state), text);
        if detail == Detail::Processes {
            for holder in state.holding.iter().flat_map(|holding| holding.holders.iter().skip(1)) {
                put(YELLOW, &format!("    and {}", describe_process(holder)));
            }
            for (at, waiter) in state.waiters().iter().enumerate() {
                put(None, &format!("    {}. waits: {}", at + 1, describe_waiter(waiter)));
            }
        }
    });
    let mut has_titles = false;
    tasks::format_lines(&listing.tasks, |text, runs| {
        let is_first = !mem::replace(&mut has_titles, true);
        if is_first && !locks.is_empty() {
            put(None, "");
        }
        let colour = match (is_first, runs) {
            (true, _) => BOLD,
            (_, true) => YELLOW,
            (_, false) => None,
        };
        put(colour, text);
    });
}

/// Returns true if this user cannot acquire the lock, although it may be free.
fn is_unusable(state: &LockState) -> bool {
    state.planted.is_some() || state.denied.is_some()
}

fn choose_colour(state: &LockState) -> Colour {
    match state.availability() {
        Availability::Held if state.holding.as_ref().is_some_and(|holding| hint_for_inherited(holding).is_some()) => {
            RED
        }
        Availability::Held => YELLOW,
        Availability::Free if state.removed.is_empty() && !is_unusable(state) => None,
        _ => RED,
    }
}

fn format_row<'a>(name: &'a LockName, state: &LockState, is_leased: bool) -> Vec<Cow<'a, str>> {
    let holding = state.holding.as_ref();
    let leaseholder = state.lease.as_ref().and_then(|lease| lease.taker.as_ref());
    let holder = holding.and_then(|holding| holding.holders.first()).or(leaseholder).or(state.removed.first());
    let record = holding.and_then(|holding| holding.record.as_ref()).or(state.unseen.as_ref());
    let slots = holding.and_then(Holding::slots).map(|(held, capacity)| format!("{held} of {capacity}"));
    let shown = match state.availability() {
        Availability::Free | Availability::Unknown if is_leased => "leased",
        Availability::Free if state.planted.is_some() => "refused",
        Availability::Free if !state.removed.is_empty() => "removed",
        Availability::Free if state.denied.is_some() => "denied",
        Availability::Held if holding.is_some_and(|holding| holding.mode == Mode::Shared) => "shared",
        known => OverallState::from(known).as_str(),
    };
    let shown = slots.unwrap_or_else(|| shown.to_owned());
    let dash = || Cow::Borrowed("-");
    let age = holding.and_then(find_age).map_or_else(dash, |age| format_span(age).into());
    let waiting = if state.queue.is_empty() { dash() } else { state.queue.len().to_string().into() };
    let without_process = |what: String| (dash(), dash(), what);
    let (pid, user, what) = match (holder, record) {
        (None, _) if state.wrong_type.is_some() => {
            without_process(state.wrong_type.map(describe_file_type).unwrap_or_default())
        }
        (None, Some((record, Belief::Alive))) => {
            (record.pid.to_string().into(), escape_controls(&record.user).into(), format_command(&record.command))
        }
        (Some(holder), _) => {
            let more = holding.map_or(0, Holding::count_others);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let more = if holding.is_none() && state.lease.is_some() { " (file lease)" } else { &more };
            (
                holder.pid.to_string().into(),
                escape_controls(&holder.user).into(),
                format!("{}{more}", format_command(&holder.command)),
            )
        }
        (None, _) => without_process(match (holding, &state.unseen, state.blind_spot) {
            (Some(holding), _, _) => describe_holder(holding),
            (None, _, Some(blind)) => format!("unknown: {}", describe_blind(blind)),
            (None, Some((record, belief)), None) => describe_last_taker(record, *belief),
            (None, None, None) => describe_problem(state).unwrap_or_default(),
        }),
    };
    let what = match state.promised {
        Some(PromisedRun::Owed) if what.is_empty() => "a run is owed".to_owned(),
        Some(PromisedRun::Owed) => format!("{what}, a run is owed"),
        _ => what,
    };
    let left = holding.and_then(find_limit).and_then(|(_, left)| left);
    let what = left.map_or(what.clone(), |left| format!("{what}, {} left", format_span(left)));
    vec![format_name(name, state), shown.into(), age, waiting, pid, user, what.into()]
}

/// Returns the text of the key of a lock, otherwise its name.
fn format_name<'a>(name: &'a LockName, state: &LockState) -> Cow<'a, str> {
    match state.record.as_ref().and_then(|record| record.key.as_ref()) {
        Some(key) => format_key(key).into(),
        None => name.as_str().into(),
    }
}
