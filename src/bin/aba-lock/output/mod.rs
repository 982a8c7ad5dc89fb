//! Every sentence that a user can read. The only file that prints: data to stdout, sentences to stderr.
//!
//! A sentence never claims more than is known: who took a lock, who inherited it, and what only a record says
//! are told apart.

pub(crate) mod clean;
pub(crate) mod findings;
pub(crate) mod flock;
pub(crate) mod force;
pub(crate) mod locks;
pub(crate) mod metrics;
pub(crate) mod numbers;
pub(crate) mod tasks;
pub(crate) mod updates;
pub(crate) mod watch;

use aba_lock::base::target::{Kind, Target};
use aba_lock::error::{self, Error, quoted, span};
use aba_lock::lock::events;
use aba_lock::lock::holders::ranges::{self, RangeHolding};
use aba_lock::lock::holders::{self, Belief, Blind, Holder, Holding, Kin, State};
use aba_lock::lock::record::Record;
use aba_lock::lock::request::Acquired;
use aba_lock::lock::wait::{Contention, Waiting};
use aba_lock::os::proc::process;
use aba_lock::os::{self, Mode, Range};
use std::cell::OnceCell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The most characters of a command line that a sentence shows.
const MAX_COMMAND: usize = 120;

/// The first error of standard output: its `errno`, 0 as long as there is none. (A number, and that number, as each call looks
/// there: it lies among what is zero, which costs no page of its own.)
static UNPRINTED: AtomicI32 = AtomicI32::new(0);

/// Data, to stdout.
pub(crate) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

fn print_bytes(mut rest: &[u8]) {
    while !rest.is_empty() && UNPRINTED.load(Ordering::Relaxed) == 0 {
        match os::write_some(1, rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) => not_printed(&error),
        }
    }
}

fn not_printed(error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let _ = UNPRINTED.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
}

/// Says by this name that not all could be printed, if it could not. A reader that has gone away is no fault.
pub(crate) fn is_printed(name: &str) -> bool {
    match UNPRINTED.load(Ordering::Relaxed) {
        0 | libc::EPIPE => true,
        errno => {
            let reason = error::reason(&io::Error::from_raw_os_error(errno));
            say(&format!("{name}: could not write to standard output: {reason}\n"));
            false
        }
    }
}

/// How long a reader of sentences may take until he has read what came before.
const PATIENCE: Duration = Duration::from_secs(5);

/// In one call, so that the sentences of several processes do not mix.
fn say(text: &str) {
    // Not for ever to one who does not read: a wait that is over is to end, and so does a signal.
    if os::can_be_written(2, PATIENCE) {
        os::write_until_signal(2, text.as_bytes());
    }
}

fn sentence(text: &str, hint: Option<&str>) {
    let hint = hint.map(|hint| format!("hint: {}\n", plain(hint))).unwrap_or_default();
    say(&format!("aba-lock: {}\n{hint}", plain(text)));
}

/// What clap has to say: help, the version, or what is wrong with the arguments.
pub(crate) fn usage(error: &clap::Error) {
    // What is wrong goes to stderr: nothing can be said of it there.
    let printed = error.print().and_then(|()| io::stdout().flush());
    if let (Err(reason), false) = (printed, error.use_stderr()) {
        not_printed(&reason);
    }
}

/// What others printed: without the runtime of `fn main`, nobody does this at the end.
pub(crate) fn flush() {
    let _ = io::stdout().flush();
}

/// Arguments that do not go together.
pub(crate) fn misused(command: &str, what: &str) {
    sentence(what, Some(&format!("see `aba-lock {command} --help`")));
}

/// Why a command failed.
pub(crate) fn failure(error: &Error) {
    sentence(&error.to_string(), error.hint().as_deref());
}

/// The lock is held. Silence, unless there is something to say.
pub(crate) fn acquired(acquired: &Acquired, progress: &Progress, quiet: bool, verbose: bool) {
    if let Some((path, reason)) = &acquired.unrecorded {
        let reason = error::reason(reason);
        sentence(
            &format!("could not write who holds the lock into {}: {reason}; it is held all the same", path.display()),
            None,
        );
    }
    unlogged();
    // Between the grant and the command: only where the user named a file, which others may lock in the other way.
    for guard in acquired.guards.iter().filter(|guard| !quiet && guard.target.kind == Kind::Users) {
        if let Some(other) = ranges::of_file(guard.file(), &guard.target.path, Mode::Exclusive, 0, 0) {
            let label = &guard.target.label;
            sentence(&format!("{label} is also locked {}, which this lock does not exclude", other_kind(&other)), None);
        }
    }
    if verbose {
        let labels: Vec<&str> = acquired.guards.iter().map(|guard| guard.target.label.as_str()).collect();
        let took = progress.started.elapsed().as_secs_f64();
        sentence(&format!("acquired {} after {took:.3} s", labels.join(", ")), None);
    }
}

/// An fcntl(2) lock, to follow "locked".
fn other_kind(other: &RangeHolding) -> String {
    let by = if other.holders.is_empty() {
        "a process that cannot be seen from here".to_owned()
    } else {
        people(&other.holders)
    };
    format!("by fcntl(2){}: {by}", bytes(&other.range))
}

/// The part of a file that a lock covers, if that is not all of it.
fn bytes(range: &Range) -> String {
    match (range.start, range.len) {
        (0, 0) => String::new(),
        (start, 0) => format!(" from byte {start}"),
        (start, len) => format!(" at bytes {start} to {}", start.saturating_add(len - 1)),
    }
}

/// Reports once that the event log could not be written to. `--quiet` is about contention and does not suppress this.
pub(crate) fn unlogged() {
    if let Some((log, reason)) = events::take_failure() {
        let reason = error::reason(&reason);
        let text = format!("could not write to the event log {}: {reason}; nothing else depends on it", log.display());
        sentence(&text, Some("set ABA_LOCK_LOG to a file that you may write to, or unset it"));
    }
}

/// The reader of a hint about a lock that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The user of the helper.
    User,
    /// The user of a script. Such a user cannot give options to the helper.
    Script,
    /// The user of a script that never waits (`--nonblock`), whatever its environment says.
    ImpatientScript,
}

/// Another has it, and we do not wait, or not any longer.
///
/// `caller` is the reader of the hint.
pub(crate) fn contended(error: &Error, instead: Option<&str>, caller: Caller) {
    let (Error::Busy { label, path, kind } | Error::TimedOut { label, path, kind, .. }) = error else {
        let Some(instead) = instead else { return failure(error) };
        return sentence(&format!("{error}; running `{}`", plain(instead)), None);
    };
    let state = holders::briefly(path);
    let see = format!("see it with `aba-lock status {}`", argument(*kind, label, path));
    let mut hint = match error {
        Error::TimedOut { .. } => see,
        _ if caller == Caller::ImpatientScript => see,
        _ if caller == Caller::Script => format!("wait for it with {}, or {see}", script_that_waits()),
        _ => format!("wait for it with `--wait`, or {see}"),
    };
    let mut text = match (&state.holding, error) {
        (Some(holding), Error::TimedOut { .. }) => format!("{error}, held by {}", holder(holding)),
        (Some(holding), _) => {
            if let Some(remedy) = remedy(holding) {
                hint = remedy;
            }
            refusal(label, holding)
        }
        (None, Error::TimedOut { .. }) => format!("{error}, held by {}", unseen(&state)),
        (None, _) if state.blind.is_some() => format!("{label} is held by {}", unseen(&state)),
        (None, _) => format!("{label} was held a moment ago by {}", unseen(&state)),
    };
    if let Some(kin) = state.holding.as_ref().and_then(Holding::kin) {
        hint = kinship(kin, true);
    }
    if let Some(instead) = instead {
        let _ = write!(text, "; running `{}`", plain(instead));
        return sentence(&text, None);
    }
    sentence(&text, Some(&hint));
}

/// The advice if the lock is held by the process that asks, or by one that started it.
fn kinship(kin: Kin, waits: bool) -> String {
    let instead = if waits { " instead of waiting for it" } else { "" };
    match kin {
        Kin::Itself => {
            format!("this process holds the lock already, through another descriptor: release that one{instead}")
        }
        Kin::Ancestor(pid) => format!(
            "pid {pid} started this command and holds the lock already: run this without the lock, or release it there{instead}"
        ),
    }
}

/// The most characters of a script's command line that a hint shows.
const MAX_SCRIPT: usize = 120;

/// The text that a user types to make the calling script wait for its locks.
fn script_that_waits() -> String {
    let words = process::words_of_ours(os::parent_id());
    let called = match words.as_slice() {
        // An interactive shell: the user typed the call.
        [] | [_] => return "`--wait`".to_owned(),
        [_, option, ..] if option.starts_with('-') => None,
        // A script that can be executed was called by its own name.
        [_, script, ..] if script.contains('/') && os::may(os::Right::Execute, Path::new(script)).is_ok() => {
            Some(&words[1..])
        }
        words => Some(words),
    };
    let called =
        called.map(shell_words::join).filter(|line| line.chars().count() <= MAX_SCRIPT && plain(line) == *line);
    called.map_or_else(|| "ABA_LOCK_TIMEOUT=60".to_owned(), |line| format!("`ABA_LOCK_TIMEOUT=60 {line}`"))
}

/// Who held it, when nobody can be seen that does.
fn unseen(state: &State) -> String {
    match (&state.beyond, state.blind) {
        (record, Some(blind)) => {
            let record = record.as_ref().map(|(record, belief)| format!("; {}", last_taken(record, *belief)));
            format!("a process that cannot be known from here: {}{}", why(blind), record.unwrap_or_default())
        }
        (Some((record, belief)), None) => elsewhere(record, *belief) + ", as the record says",
        (None, None) => "a process that has let go since, or cannot be seen from here".to_owned(),
    }
}

/// `unlock NAME`: it is not ours to release.
pub(crate) fn not_ours(target: &Target, holding: &Holding) {
    let hint = match (holding.kin(), holding.holders.as_slice()) {
        (Some(kin), _) => kinship(kin, false),
        (None, []) => "it is released when its holder ends".to_owned(),
        (None, holders) => locks::ending(target, holders),
    };
    sentence(&format!("{} cannot be released from here: held by {}", target.label, holder(holding)), Some(&hint));
}

/// `unlock NAME`: nobody can be seen who has it, and somebody may.
pub(crate) fn not_known(target: &Target, state: &State) {
    sentence(&format!("{}: {}", target.label, unknown(state)), locks::remedy(target, state).as_deref());
}

/// Why it cannot be said whether a lock is held, and by whom it may be.
fn unknown(state: &State) -> String {
    let last = state.beyond.as_ref().map(|(record, belief)| last_taken(record, *belief));
    match (state.blind, last) {
        (Some(blind), None) => format!("whether it is held cannot be known from here: {}", why(blind)),
        (Some(blind), Some(last)) => format!("whether it is held cannot be known from here: {}; {last}", why(blind)),
        (None, Some(last)) => format!("held by nobody that can be seen from here; {last}, which may have it still"),
        (None, None) => "whether it is held cannot be known".to_owned(),
    }
}

/// Why nothing can be known of the holders.
fn why(blind: Blind) -> &'static str {
    match blind {
        Blind::Proc if cfg!(target_os = "linux") => "/proc cannot be read",
        Blind::Proc => "this system does not tell, and a record alone proves nothing",
        Blind::List => "/proc/locks cannot be read, nor may all processes be looked into",
        Blind::File => "its lock file could not be looked at",
    }
}

/// `status --fd N NAME`.
pub(crate) fn descriptor_status(target: &Target, fd: i32, held: Option<Mode>) {
    let label = plain(&target.label);
    print(&match held {
        Some(mode) => format!("{label}: held, {mode}, through descriptor {fd}\n"),
        None => format!("{label}: not held through descriptor {fd}\n"),
    });
}

/// Tells of a wait: one line at its beginning, or on a terminal a line that is kept up to date.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    /// Whether a line on a terminal is kept up to date. Not asked before it matters.
    live: OnceCell<bool>,
    shown: bool,
    /// True if an earlier process has reported that this call waits.
    resumes: bool,
    started: Instant,
}

/// After this time, a waiting process has reported its wait.
const SAID_BY_THEN: Duration = Duration::from_millis(150);

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self::resume(quiet, Duration::ZERO)
    }

    /// For a call that continues the wait of an earlier process, which lasted this long.
    pub(crate) fn resume(quiet: bool, waited: Duration) -> Self {
        let now = Instant::now();
        let started = now.checked_sub(waited).unwrap_or(now);
        Self { quiet, live: OnceCell::new(), shown: false, resumes: waited >= SAID_BY_THEN, started }
    }

    fn live(&self) -> bool {
        *self.live.get_or_init(|| !self.quiet && os::is_terminal(2))
    }

    /// How long it is since the command began.
    pub(crate) fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    fn show(&mut self, waiting: &Waiting) {
        let label = &waiting.target.label;
        let who = waiting.state().holding.map(|holding| holder(&holding));
        let held = who.map(|who| format!(", held by {who}")).unwrap_or_default();
        let place = waiting.place().map(|(at, of)| format!(" ({} of {})", ordinal(at), number(of))).unwrap_or_default();
        // What was seen meanwhile may be the end of it.
        if waiting.is_over() {
            return;
        }
        if self.live() {
            // What changes stands in front: the end may be cut, as a line that wraps could not be drawn over.
            let waited = span(self.started.elapsed());
            let text = format!("aba-lock: waiting {waited} for {label}{place}{held}");
            let text: String = text.chars().take(os::terminal_width(2).saturating_sub(1)).collect();
            say(&format!("\r{text}\x1b[K"));
            self.shown = true;
        } else {
            sentence(&format!("waiting for {label}{place}{held}"), None);
        }
    }
}

impl Contention for Progress {
    fn interval(&self) -> Option<Duration> {
        self.live().then_some(Duration::from_secs(1))
    }

    fn begins(&mut self, waiting: &Waiting) {
        if !self.quiet && (!self.resumes || self.live()) {
            self.show(waiting);
        }
    }

    fn tick(&mut self, waiting: &Waiting) {
        if self.live() {
            self.show(waiting);
        }
    }

    fn ends(&mut self) {
        if self.shown {
            say("\r\x1b[K");
        }
    }
}

fn refusal(label: &str, holding: &Holding) -> String {
    match &holding.record {
        _ if holding.passing => format!("{label} was held a moment ago by {}", holder(holding)),
        Some((_, Belief::Alive)) if holding.mode == Mode::Exclusive => {
            format!("{label} is already running: {}", holder(holding))
        }
        Some((record, belief @ (Belief::Ended | Belief::Closed))) if !holding.holders.is_empty() => {
            let end = if *belief == Belief::Ended { "ended" } else { "closed it" };
            let verb = if holding.mode == Mode::Exclusive { "which inherited it" } else { "which shares it" };
            format!(
                "{label} was taken by pid {} ({}), which has {end}; still held by {}, {verb}",
                record.pid,
                command(&record.command),
                people(&holding.holders)
            )
        }
        _ => format!("{label} is held by {}", holder(holding)),
    }
}

/// How to mend it, where that is not by waiting.
fn remedy(holding: &Holding) -> Option<String> {
    match (&holding.record, holding.holders.as_slice()) {
        (Some((_, Belief::Ended | Belief::Closed)), [_, ..]) if holding.mode == Mode::Exclusive => Some(format!(
            "start it with `aba_lock_detach` so that it does not keep the lock, or end it: `kill {}`",
            holders::numbers(&holding.holders)
        )),
        _ => None,
    }
}

/// Who has it, to stand behind "held by".
fn holder(holding: &Holding) -> String {
    if holding.passing {
        return "a process that has let go since".to_owned();
    }
    let Some((record, belief)) = &holding.record else {
        return if holding.holders.is_empty() {
            "a process that cannot be seen from here (another user's, or in another pid namespace)".to_owned()
        } else {
            people(&holding.holders)
        };
    };
    let rest = holding.holders.len().saturating_sub(1);
    let others = if holding.mode == Mode::Shared && rest > 0 { format!(", and {rest} more") } else { String::new() };
    match belief {
        Belief::Alive => format!("pid {} {}{others}", record.pid, recorded(record)),
        Belief::OtherHost | Belief::OtherNamespace | Belief::Unchecked => elsewhere(record, *belief),
        Belief::Ended if holding.holders.is_empty() => {
            let age = record.age().map(|age| format!(" {} ago", span(age))).unwrap_or_default();
            format!(
                "a process that cannot be seen from here: pid {} {}, took it{age} and has ended",
                record.pid,
                taker(record)
            )
        }
        Belief::Perhaps if holding.holders.is_empty() => "a process that cannot be seen from here".to_owned(),
        Belief::Ended | Belief::Closed | Belief::Perhaps => people(&holding.holders),
    }
}

/// The holder that a record names, where its pid means nothing here.
fn elsewhere(record: &Record, belief: Belief) -> String {
    format!("pid {}{} {}", record.pid, place(record, belief), recorded(record))
}

fn place(record: &Record, belief: Belief) -> String {
    match belief {
        Belief::OtherHost => format!(" on host {}", plain(&record.host)),
        Belief::OtherNamespace => " of another pid namespace".to_owned(),
        _ => String::new(),
    }
}

/// The one who took a lock last, where it is not known whether that has let go since.
fn last_taken(record: &Record, belief: Belief) -> String {
    let place = place(record, belief);
    let age = record.age().map(|age| format!(", {} ago", span(age))).unwrap_or_default();
    format!("last taken by pid {}{place} {}{age}, as the record says", record.pid, taker(record))
}

/// What a record says beside the pid.
fn recorded(record: &Record) -> String {
    let age = record.age().map(|age| format!(", for {}", span(age))).unwrap_or_default();
    taker(record) + &age
}

fn taker(record: &Record) -> String {
    let who = record.who.as_ref().map(|who| format!(" ({})", plain(who))).unwrap_or_default();
    format!("({}), by {}{who}", command(&record.command), plain(&record.user))
}

/// The first of several processes, and how many there are beside it.
fn people(holders: &[Holder]) -> String {
    let Some(first) = holders.first() else { return "nobody".to_owned() };
    let more = match holders.len() {
        1 => String::new(),
        number => format!(", and {} more", number - 1),
    };
    // Since when it has the lock is not known: not longer than this.
    let age = first.age.map(|age| format!(", running for {}", span(age))).unwrap_or_default();
    format!("pid {} ({}), by {}{age}{more}", first.pid, command(&first.command), plain(&first.user))
}

/// A command line as a sentence shows it: not longer than a line or two.
fn command(text: &str) -> String {
    if text.is_empty() {
        return "command unknown".to_owned();
    }
    error::shortened(&plain(text), MAX_COMMAND)
}

/// Text that others chose, without what would steer the reader's terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A number as a sentence says it.
fn number(number: usize) -> String {
    const WORDS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let word = number.checked_sub(1).and_then(|at| WORDS.get(at));
    word.map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// A place in a queue.
fn ordinal(place: usize) -> String {
    const WORDS: [&str; 10] =
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
    if let Some(word) = place.checked_sub(1).and_then(|at| WORDS.get(at)) {
        return (*word).to_owned();
    }
    let end = match (place % 10, place % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{place}{end}")
}

/// The argument that leads to this lock: its name, or its file. A file may be called as a lock is.
fn argument(kind: Kind, label: &str, path: &Path) -> String {
    match kind {
        Kind::Named => label.to_owned(),
        // As the user called it, if that can be said on a line.
        Kind::Users if !label.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) => {
            format!("--file {}", quoted(Path::new(label)))
        }
        Kind::Users | Kind::Beside => format!("--file {}", quoted(path)),
    }
}
