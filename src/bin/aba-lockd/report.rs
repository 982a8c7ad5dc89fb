//! The only prints: sentences for who starts the service, and the log, a line of JSON for each event. Both to stderr.

use jiff::Timestamp;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

/// So many lines wait for whoever reads them. More are lost: who does not read the log does not hold up the locks.
const MOST: usize = 10_000;

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

/// Lines are written from now on, by a thread of their own.
pub(crate) fn start() -> JoinHandle<()> {
    let (lines, written) = mpsc::sync_channel(MOST);
    let _ = LINES.set(lines);
    thread::spawn(move || write(&written))
}

fn write(lines: &Receiver<Option<String>>) {
    while let Ok(Some(line)) = lines.recv() {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Waits until all lines are written.
pub(crate) fn finish(writer: JoinHandle<()>) {
    if let Some(lines) = LINES.get()
        && lines.send(None).is_ok()
    {
        let _ = writer.join();
    }
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
