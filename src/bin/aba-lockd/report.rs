//! The only prints: sentences for who starts the service, and the log, a line of JSON for each event. Both to stderr.

use jiff::Timestamp;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

/// So many lines wait for whoever reads them. More are lost: who does not read the log does not hold up the locks.
const MOST: usize = 10_000;

/// So long they are waited for at the end: whoever reads them may have stopped reading.
const AT_THE_END: Duration = Duration::from_secs(1);

/// How soon to try again to say that it is the end, where there is no room to say so.
const AGAIN: Duration = Duration::from_millis(5);

static LINES: OnceLock<SyncSender<Option<String>>> = OnceLock::new();

/// A sentence, and its remedy.
pub(crate) fn failure(sentence: &str, hint: Option<&str>) {
    let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    let _ = io::stderr().write_all(format!("aba-lockd: {sentence}\n{hint}").as_bytes());
}

/// What clap says.
pub(crate) fn usage(error: &clap::Error) {
    let _ = error.print();
}

/// The thread that writes lines. What ends is dropped by it.
pub(crate) struct Writer {
    ended: Receiver<()>,
}

/// Lines are written from now on, by a thread of their own.
pub(crate) fn start() -> io::Result<Writer> {
    let (lines, written) = mpsc::sync_channel(MOST);
    let _ = LINES.set(lines);
    let (ends, ended) = mpsc::channel();
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        write(&written);
        drop(ends);
    })?;
    Ok(Writer { ended })
}

fn write(lines: &Receiver<Option<String>>) {
    while let Ok(Some(line)) = lines.recv() {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Waits until all lines are written, or nobody seems to read them.
pub(crate) fn finish(writer: &Writer) {
    let Some(lines) = LINES.get() else { return };
    let until = Instant::now() + AT_THE_END;
    while let Err(TrySendError::Full(_)) = lines.try_send(None)
        && Instant::now() < until
    {
        thread::sleep(AGAIN);
    }
    let _ = writer.ended.recv_timeout(until.saturating_duration_since(Instant::now()));
}

/// Logs a state that works but should be changed.
pub(crate) fn warn(sentence: &str) {
    message("warning", "warning", sentence);
}

/// A line of the log with a sentence.
pub(crate) fn message(level: &str, event: &str, sentence: &str) {
    let mut line = Map::new();
    line.insert("event".into(), event.into());
    line.insert("message".into(), sentence.into());
    log(level, line);
}

/// A line of the log.
pub(crate) fn log(level: &str, event: Map<String, Value>) {
    let mut line = Map::new();
    line.insert("time".into(), Timestamp::now().to_string().into());
    line.insert("level".into(), level.into());
    line.extend(event);
    if let Some(lines) = LINES.get() {
        let _ = lines.try_send(Some(format!("{}\n", Value::Object(line))));
    }
}
