//! What `run-once` prints.

use super::{command, holder, plain, print, print_bytes, say, sentence, span};
use aba_lock::error::quoted;
use aba_lock::lock::holders;
use aba_lock::os;
use aba_lock::task::state::{Look, Running, State, Task};
use aba_lock::task::{self, Ended, Stream, Teller};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often the line on a terminal is drawn.
const REDRAW: Duration = Duration::from_millis(125);

const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// What a task wrote, as it is.
pub(crate) fn log(task: &Task, stream: Stream) {
    if let Some(mut log) = task.log(stream) {
        let mut some = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = log.read(&mut some) {
            print_bytes(&some[..len]);
        }
    }
}

/// A wait has found a failure.
pub(crate) fn failed(task: &Task, ended: &Ended, note: Option<&str>) {
    let id = &task.id;
    let how = match ended.status {
        status if State::of(status) == State::Interrupted => format!("was interrupted (status {status})"),
        status => format!("failed with status {status}"),
    };
    let mut text = format!("aba-lock: task {id} {how}");
    if let Some(saved) = task.saved() {
        let _ = write!(text, ": {}", command(&saved.line()));
    }
    text.push('\n');
    if !ended.told {
        for line in ended.last_lines.lines() {
            let _ = writeln!(text, "  | {}", plain(line));
        }
    }
    let letter = if ended.last_stream == Stream::Out { 'o' } else { 'e' };
    if !task.is_known() {
        // Purged, or reset: there is nothing to see or to forget any more.
    } else if State::of(ended.status) == State::Interrupted {
        let _ = writeln!(text, "hint: the next `--start` or `--wait` runs it again");
    } else {
        let _ = writeln!(
            text,
            "hint: see all of it with `aba-lock run-once -{letter} -i {id}`, run it again after `aba-lock run-once -r -i {id}`"
        );
    }
    if let Some(note) = note {
        let _ = writeln!(text, "{note}");
    }
    say(&text);
}

/// `run-once -G` leaves what is not a task's.
pub(crate) fn left_alone(directory: &Path) {
    sentence(&format!("left {}: there is something in it that is not of a task", directory.display()), None);
}

/// `run-once --list`.
pub(crate) fn list(tasks: &[Task], as_json: bool) {
    if as_json {
        return print(&format!("{:#}\n", Value::Array(objects(tasks))));
    }
    let mut text = String::new();
    for line in lines(tasks) {
        let _ = writeln!(text, "{}", line.text);
    }
    print(&text);
}

/// The tasks as a program reads them.
pub(crate) fn objects(tasks: &[Task]) -> Vec<Value> {
    rows(tasks).iter().map(Row::to_json).collect()
}

/// A line of the table, and whether it is of a task that runs.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) runs: bool,
}

/// The table, its title first; nothing if there are no tasks.
pub(crate) fn lines(tasks: &[Task]) -> Vec<Line> {
    let rows = rows(tasks);
    if rows.is_empty() {
        return Vec::new();
    }
    let width = rows.iter().map(|row| row.task.id.as_str().len()).max().unwrap_or(0).max(2);
    let title = format!("{:width$}  {:<15}  {:>6}  {:>8}  {:>7}  COMMAND", "ID", "STATE", "AGE", "DURATION", "PID");
    let title = Line { text: title, runs: false };
    let line = |row: &Row| Line { text: row.to_line(width), runs: row.running.is_some() };
    [title].into_iter().chain(rows.iter().map(line)).collect()
}

fn rows<'a>(tasks: &'a [Task]) -> Vec<Row<'a>> {
    let known: Vec<&Task> = tasks.iter().filter(|task| task.is_known()).collect();
    known.iter().zip(task::state::looks(&known)).map(|(task, look)| Row::new(task, look)).collect()
}

struct Row<'a> {
    task: &'a Task<'a>,
    state: State,
    running: Option<Running>,
    status: Option<u8>,
    finished: Option<SystemTime>,
    took: Option<Duration>,
}

impl<'a> Row<'a> {
    fn new(task: &'a Task<'a>, look: Look) -> Self {
        let outcome = look.outcome.filter(|_| look.running.is_none());
        Self {
            task,
            state: look.state(),
            running: look.running,
            status: outcome.map(|outcome| outcome.status),
            finished: outcome.map(|outcome| outcome.at),
            took: outcome.and_then(|_| task.duration()),
        }
    }

    /// Since it ended, or since it began if it has not.
    fn age(&self) -> Option<Duration> {
        let since = self.running.map(|running| running.since).or(self.finished)?;
        Some(since.elapsed().unwrap_or_default())
    }

    fn command(&self) -> String {
        self.task.saved().map(|saved| command(&saved.line())).unwrap_or_default()
    }

    fn to_line(&self, width: usize) -> String {
        let state = match self.status {
            Some(status) if status != 0 => format!("{} ({status})", self.state.as_str()),
            _ => self.state.as_str().to_owned(),
        };
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let line = format!(
            "{:width$}  {state:<15}  {:>6}  {:>8}  {:>7}  {}",
            self.task.id.as_str(),
            or_dash(self.age().map(span)),
            or_dash(self.took.map(short)),
            or_dash(self.running.map(|running| running.pid.to_string())),
            self.command()
        );
        line.trim_end().to_owned()
    }

    fn to_json(&self) -> Value {
        let saved = self.task.saved();
        let time = |at: SystemTime| Timestamp::try_from(at).map(|at| format!("{at:.3}")).ok();
        let seconds = |span: Duration| (span.as_secs_f64() * 1000.0).round() / 1000.0;
        json!({
            "id": self.task.id.as_str(),
            "state": self.state.as_str(),
            "pid": self.running.map(|running| running.pid),
            "exit_status": self.status,
            "started": self.running.and_then(|running| time(running.since)),
            "finished": self.finished.and_then(time),
            "age_seconds": self.age().map(seconds),
            "duration_seconds": self.took.map(seconds),
            "command": saved.as_ref().map(|saved| saved.words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()),
            "directory": saved.map(|saved| saved.directory.to_string_lossy().into_owned()),
        })
    }
}

/// A duration: with tenths where it is short.
fn short(took: Duration) -> String {
    if took < Duration::from_secs(60) { format!("{:.1}s", took.as_secs_f64()) } else { span(took) }
}

/// Tells of a wait for a task: a message at its beginning, or on a terminal a line that is kept up to date.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    message: Option<&'a str>,
    quiet: bool,
    live: bool,
    shown: bool,
    turn: usize,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(message: Option<&'a str>, quiet: bool) -> Self {
        let quiet = quiet || message == Some("");
        Self { message, quiet, live: !quiet && os::is_terminal(2), shown: false, turn: 0 }
    }

    fn text(&self, task: &Task, running: Running) -> String {
        let message = self.message.map_or_else(|| format!("Waiting for task: {}", task.id), str::to_owned);
        format!("{message} (PID: {})", running.pid)
    }

    fn draw(&mut self, task: &Task, running: Running) {
        let spinner = SPINNER[self.turn % SPINNER.len()];
        self.turn += 1;
        let waited = span(running.since.elapsed().unwrap_or_default());
        let mut text = format!("{spinner} {} {waited}", self.text(task, running));
        let last = task.last_line();
        if !last.is_empty() {
            let _ = write!(text, ": {}", last.trim());
        }
        // One that wraps could not be drawn over.
        let text: String = plain(&text).chars().take(os::terminal_width(2).saturating_sub(1)).collect();
        say(&format!("\r{text}\x1b[K"));
        self.shown = true;
    }
}

impl Teller for Progress<'_> {
    fn interval(&self) -> Option<Duration> {
        self.live.then_some(REDRAW)
    }

    fn begins(&mut self, task: &Task, running: Running) {
        if self.live {
            self.draw(task, running);
        } else if !self.quiet {
            say(&format!("{}\n", self.text(task, running)));
        }
    }

    fn tick(&mut self, task: &Task, running: Running) {
        if self.live {
            self.draw(task, running);
        }
    }

    fn ends(&mut self) {
        if self.shown {
            say("\r\x1b[K");
            self.shown = false;
        }
    }

    fn is_blocked(&mut self, task: &Task) {
        if !self.quiet {
            let path = task.directory().join("lock");
            let who = holders::briefly(&path).holding.map(|holding| format!(", held by {}", holder(&holding)));
            let hint = format!("see it with `aba-lock status --file {}`", quoted(&path));
            let who = who.unwrap_or_default();
            sentence(&format!("waiting for the lock of task {}{who}, which does not run it", task.id), Some(&hint));
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> usize {
        // A reader that has gone away is no fault of the task's, which goes on.
        os::write_some(if stream == Stream::Out { 1 } else { 2 }, bytes).unwrap_or(bytes.len())
    }
}
