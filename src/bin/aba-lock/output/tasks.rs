//! The output of `run-once`: logs, the list of tasks, the failure of a task with the end of its log, and the progress
//! of a wait.

use super::holder::describe_holder;
use super::pieces::PiecePrinter;
use super::stream::{clear_line, print_bytes, print_message, redraw_line, write_stderr};
use super::table::{Column, format_table};
use super::text::{escape_controls, format_command, format_key};
use aba_lock::base::duration::{format_limit, format_span};
use aba_lock::base::text::quote_path;
use aba_lock::lock::holders;
use aba_lock::lock::record::{self, Content};
use aba_lock::os;
use aba_lock::task::Task;
use aba_lock::task::follow::TaskWaitObserver;
use aba_lock::task::foreign::look_at_known;
use aba_lock::task::saved::SavedCommand;
use aba_lock::task::state::{Outcome, Running, TaskLook, TaskState};
use aba_lock::task::stream::Stream;
use aba_lock::task::wait::WaitResult;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Prints a log as the task wrote it. Returns false if there is none.
pub(crate) fn print_log(task: &Task, stream: Stream) -> bool {
    let Some(mut log) = task.log(stream) else { return false };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = log.read(&mut buffer) {
        print_bytes(&buffer[..len]);
    }
    true
}

/// Reports the failure of a task, with the end of its log.
pub(crate) fn report_failure(task: &Task, result: &WaitResult, note: Option<&str>) {
    let (id, status) = (&task.id, result.run.status);
    let is_interrupted = result.run.state() == TaskState::Interrupted;
    let how = match result.run.time_over.or_else(|| task.read_time_over(status)) {
        Some(time) => format!("was ended after its maximum time of {} (status {status})", format_limit(time)),
        None if is_interrupted => format!("was interrupted (status {status})"),
        None => format!("failed with status {status}"),
    };
    let mut text = format!("aba-lock: task {id} {how}");
    if let Some(saved) = task.saved_command() {
        let _ = write!(text, ": {}", format_command(&saved.to_line()));
    }
    text.push('\n');
    if !result.was_shown {
        for line in result.last_lines.lines() {
            let _ = writeln!(text, "  | {}", escape_controls(line));
        }
    }
    let letter = if result.last_stream == Stream::Out { 'o' } else { 'e' };
    if !task.is_known() {
        // The task was purged or reset: no log is left.
    } else if is_interrupted {
        text.push_str("hint: the next `--start` or `--wait` runs it again\n");
    } else {
        let _ = writeln!(
            text,
            "hint: print the whole log with `aba-lock run-once -{letter} -i {id}`; to run the task again, first forget its result with `aba-lock run-once -r -i {id}`"
        );
    }
    if let Some(note) = note {
        let _ = writeln!(text, "{note}");
    }
    write_stderr(&text);
}

/// Reports that the task has another command than the call, in one line.
pub(crate) fn report_other_command(task: &Task, saved: &SavedCommand) {
    let (id, command) = (&task.id, format_command(&saved.to_line()));
    let text = format!(
        "task {id} keeps its first command ({command}), and this one is ignored: forget it with `aba-lock run-once -r -i {id}`"
    );
    print_message(&text, None);
}

/// Reports a directory that `run-once -G` did not remove.
pub(crate) fn report_left_directory(directory: &Path) {
    print_message(&format!("did not remove {}: it has files that run-once did not write", directory.display()), None);
}

/// Prints `run-once --list`.
pub(crate) fn print_list(tasks: &[Task], as_json: bool) {
    let mut printer = PiecePrinter::default();
    if as_json {
        put_json(&mut printer, tasks, 0);
        printer.put("\n");
    } else {
        format_lines(tasks, |line, _| printer.put_line(line));
    }
}

/// Puts the array of the JSON objects of the tasks.
pub(crate) fn put_json(printer: &mut PiecePrinter, tasks: &[Task], depth: usize) {
    printer.put_array(read_rows(tasks).iter().map(TaskRow::to_json), depth);
}

const COLUMNS: [Column; 6] = [
    Column::Fit("ID"),
    Column::Left("STATE", 15),
    Column::Right("AGE", 6),
    Column::Right("DURATION", 8),
    Column::Right("PID", 7),
    Column::Left("COMMAND", 0),
];

/// Passes the lines of the list to `put`, the titles first. The flag is true if the task of the line is running.
pub(crate) fn format_lines(tasks: &[Task], mut put: impl FnMut(&str, bool)) {
    let rows = read_rows(tasks);
    let mut runs = std::iter::once(false).chain(rows.iter().map(|row| row.running.is_some()));
    format_table(&COLUMNS, rows.iter().map(TaskRow::to_cells), |line| put(line, runs.next().unwrap_or_default()));
}

fn read_rows<'a>(tasks: &'a [Task]) -> Vec<TaskRow<'a>> {
    let read_row = |(task, look): (&'a Task<'a>, TaskLook)| {
        let outcome = look.outcome.filter(|_| look.running.is_none());
        TaskRow { task, state: look.state(), running: look.running, outcome }
    };
    look_at_known(tasks).into_iter().map(read_row).collect()
}

struct TaskRow<'a> {
    task: &'a Task<'a>,
    state: TaskState,
    running: Option<Running>,
    outcome: Option<Outcome>,
}

impl TaskRow<'_> {
    /// The time since the task ended, or since it began if it has not ended.
    fn age(&self) -> Option<Duration> {
        let since = self.running.map(|running| running.since).or(self.outcome.map(|outcome| outcome.at))?;
        Some(since.elapsed().unwrap_or_default())
    }

    fn duration(&self) -> Option<Duration> {
        self.outcome.and_then(|_| self.task.duration())
    }

    fn to_cells(&self) -> Vec<String> {
        let state = match self.outcome {
            Some(Outcome { result, .. }) if result.status != 0 => {
                format!("{} ({})", self.state.as_str(), result.status)
            }
            _ => self.state.as_str().to_owned(),
        };
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            self.task.find_key().map_or_else(|| self.task.id.to_string(), |key| format_key(&key)),
            state,
            or_dash(self.age().map(format_span)),
            or_dash(self.duration().map(format_duration)),
            or_dash(self.running.map(|running| running.pid.to_string())),
            self.describe_command(),
        ]
    }

    /// The command, and the remaining time of a run with a maximum time, or the maximum time that ended the last run.
    fn describe_command(&self) -> String {
        let command = self.task.saved_command().map(|saved| format_command(&saved.to_line())).unwrap_or_default();
        match (self.read_limit(), self.read_time_over()) {
            (Some((_, Some(left))), _) => format!("{command}, {} left", format_span(left)),
            (_, Some(time)) => format!("{command}, ended after its maximum time of {}", format_limit(time)),
            _ => command,
        }
    }

    /// The maximum time that ended the last run.
    fn read_time_over(&self) -> Option<Duration> {
        self.task.read_time_over(self.outcome?.result.status)
    }

    /// The maximum time of the present run, and the remaining time.
    fn read_limit(&self) -> Option<(Duration, Option<Duration>)> {
        let running = self.running?;
        match record::read_path(&self.task.directory().join("lock")) {
            Content::Record(record) if record.pid == running.pid => Some((record.max_time?, record.remaining_time())),
            _ => None,
        }
    }

    fn to_json(&self) -> Value {
        let (saved, limit, time_over) = (self.task.saved_command(), self.read_limit(), self.read_time_over());
        let time = |at: SystemTime| Timestamp::try_from(at).map(|at| format!("{at:.3}")).ok();
        let seconds = |span: Duration| (span.as_secs_f64() * 1000.0).round() / 1000.0;
        json!({
            "id": self.task.id.as_str(),
            "key": self.task.find_key(),
            "state": self.state.as_str(),
            "pid": self.running.map(|running| running.pid),
            "exit_status": self.outcome.map(|outcome| outcome.result.status),
            "started": self.running.and_then(|running| time(running.since)),
            "finished": self.outcome.and_then(|outcome| time(outcome.at)),
            "age_seconds": self.age().map(seconds),
            "max_time_seconds": limit.map(|(time, _)| time).or(time_over).map(seconds),
            "max_time_over": self.outcome.map(|_| time_over.is_some()),
            "remaining_seconds": limit.and_then(|(_, left)| left).map(|left| left.as_secs()),
            "duration_seconds": self.duration().map(seconds),
            "command": saved.as_ref().map(|saved| saved.words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()),
            "directory": saved.map(|saved| saved.directory.to_string_lossy().into_owned()),
        })
    }
}

/// Formats a duration, with tenths of seconds if it is below a minute.
fn format_duration(took: Duration) -> String {
    if took < Duration::from_secs(60) { format!("{:.1}s", took.as_secs_f64()) } else { format_span(took) }
}

/// The interval at which the line on a terminal is redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(125);

const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// Reports a wait for a task: with one message at its beginning, or on a terminal with a line that is redrawn.
#[derive(Debug)]
pub(crate) struct TaskProgress<'a> {
    message: Option<&'a str>,
    quiet: bool,
    live: bool,
    shown: bool,
    turn: usize,
}

impl<'a> TaskProgress<'a> {
    pub(crate) fn new(message: Option<&'a str>, quiet: bool) -> Self {
        let quiet = quiet || message == Some("");
        Self { message, quiet, live: !quiet && os::is_terminal(2), shown: false, turn: 0 }
    }

    fn format_message(&self, task: &Task, running: Running) -> String {
        let message = self.message.map_or_else(|| format!("Waiting for task: {}", task.id), str::to_owned);
        format!("{message} (PID: {})", running.pid)
    }

    fn redraw(&mut self, task: &Task, running: Running) {
        let spinner = SPINNER[self.turn % SPINNER.len()];
        self.turn += 1;
        let waited = format_span(running.since.elapsed().unwrap_or_default());
        let mut text = format!("{spinner} {} {waited}", self.format_message(task, running));
        let last = task.last_line();
        if !last.is_empty() {
            let _ = write!(text, ": {}", last.trim());
        }
        redraw_line(&text);
        self.shown = true;
    }
}

impl TaskWaitObserver for TaskProgress<'_> {
    fn tick_interval(&self) -> Option<Duration> {
        self.live.then_some(REDRAW_INTERVAL)
    }

    fn on_begin(&mut self, task: &Task, running: Running) {
        if self.live {
            self.redraw(task, running);
        } else if !self.quiet {
            write_stderr(&format!("{}\n", self.format_message(task, running)));
        }
    }

    fn on_tick(&mut self, task: &Task, running: Running) {
        if self.live {
            self.redraw(task, running);
        }
    }

    fn on_end(&mut self) {
        if self.shown {
            clear_line();
            self.shown = false;
        }
    }

    fn on_blocked(&mut self, task: &Task) {
        if !self.quiet {
            let path = task.directory().join("lock");
            let who =
                holders::observe_briefly(&path).holding.map(|holding| format!("{}, which", describe_holder(&holding)));
            let who = who.as_deref().unwrap_or("a process that");
            let text = format!("waiting for the lock of task {}, held by {who} does not run the task", task.id);
            print_message(&text, Some(&format!("show its holder with `aba-lock status --file {}`", quote_path(&path))));
        }
    }

    fn write_output(&mut self, stream: Stream, bytes: &[u8]) -> usize {
        // If the reader of the output has ended, the task continues nevertheless.
        os::write_some(if stream == Stream::Out { 1 } else { 2 }, bytes).unwrap_or(bytes.len())
    }
}
