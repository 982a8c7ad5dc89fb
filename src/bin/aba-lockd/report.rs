//! All output of the service: the help, a new token, and on standard error usage errors, the message of a failed start, and the log,
//! which has one line of JSON for each event.
//!
//! A thread of its own writes the log, so that a reader which stops reading delays no call. No other module prints.

use crate::error::StartError;
use crate::misuse;
use aba_lock::base::text::format_io_error;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum number of log lines that wait to be written. Further lines are dropped.
const MAX_PENDING: usize = 10_000;

/// Maximum time that the end of the service waits for pending lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between attempts to queue the end of the log while the queue is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

static LINES: OnceLock<SyncSender<Option<String>>> = OnceLock::new();

pub(crate) fn print_start_error(error: &StartError) {
    let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    let _ = io::stderr().write_all(format!("aba-lockd: {}\n{hint}", error.message).as_bytes());
}

/// Prints a usage error, or the help that was asked for.
pub(crate) fn print_clap_error(error: &clap::Error) {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion) {
        let _ = error.print();
        return;
    }
    let is_about_tokens = error.render().to_string().contains("Usage: aba-lockd token");
    let command = if is_about_tokens { "token new" } else { "serve" };
    let hint = misuse::find_similar(error).unwrap_or_else(|| format!("see `aba-lockd {command} --help`"));
    let text = misuse::describe(error);
    let _ = io::stderr().write_all(format!("aba-lockd: {text}\nhint: {hint}\n").as_bytes());
}

/// Prints a new token and its line for the token file to standard output, and what to do with them to standard error.
pub(crate) fn print_token(token: &str, line: &str) -> Result<(), StartError> {
    let written = writeln!(io::stdout(), "{token}\n{line}");
    written.map_err(|error| StartError::new(format!("cannot print the token: {}", format_io_error(&error))))?;
    let note = "the first line is the token, which is shown only now; add the second line to the token file, and \
                reload the service";
    let _ = io::stderr().write_all(format!("aba-lockd: {note}\n").as_bytes());
    Ok(())
}

/// The thread that writes the log.
pub(crate) struct LogWriter {
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl LogWriter {
    /// Starts the thread. Log lines before this call are dropped.
    pub(crate) fn start() -> io::Result<Self> {
        let (lines, pending) = mpsc::sync_channel(MAX_PENDING);
        let _ = LINES.set(lines);
        let (ends, ended) = mpsc::channel();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_lines(&pending);
            drop(ends);
        })?;
        Ok(Self { ended })
    }

    /// Waits until all lines are written, for at most a second.
    pub(crate) fn finish(self) {
        let Some(lines) = LINES.get() else { return };
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while let Err(TrySendError::Full(_)) = lines.try_send(None)
            && Instant::now() < deadline
        {
            thread::sleep(RETRY_INTERVAL);
        }
        let _ = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_lines(pending: &Receiver<Option<String>>) {
    while let Ok(Some(line)) = pending.recv() {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Logs a setting that works but should be changed.
pub(crate) fn log_warning(message: &str) {
    log_message("warning", "warning", message);
}

/// Logs an event that a sentence describes.
pub(crate) fn log_message(level: &str, event: &str, message: &str) {
    log_event(level, event, [("message", message.into())]);
}

/// Logs an event with these members.
pub(crate) fn log_event<'a>(level: &str, event: &str, members: impl IntoIterator<Item = (&'a str, Value)>) {
    let Some(lines) = LINES.get() else { return };
    let mut line = Map::new();
    line.insert("time".into(), Timestamp::now().to_string().into());
    line.insert("level".into(), level.into());
    line.insert("event".into(), event.into());
    line.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let _ = lines.try_send(Some(format!("{}\n", Value::Object(line))));
}
