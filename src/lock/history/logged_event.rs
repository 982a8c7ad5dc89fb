//! The events in the lines of a log. Another program, or another user, may have written a line, so nothing in it is trusted.

use memchr::memmem;
use serde_json::{Deserializer, Value};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The maximum number of bytes of a line. No event of aba-lock is longer.
const MAX_LINE: u64 = 64 << 10;

/// An upper limit for times in seconds. A line with a longer time was not written by aba-lock.
const CENTURY: f64 = 100.0 * 366.0 * 24.0 * 3600.0;

/// One event of a log.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    pub time: jiff::Timestamp,
    /// The members of the line.
    members: Value,
}

impl LoggedEvent {
    /// Returns the event, if the members have the time, the name of the event, the lock and the process.
    fn from_members(members: Value) -> Option<Self> {
        let time = members["time"].as_str()?.parse().ok()?;
        let event = Self { time, members };
        (event.text("event").is_some() && event.text("lock").is_some() && event.pid("pid").is_some()).then_some(event)
    }

    /// Returns the name of the event, such as `acquired`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("event").unwrap_or_default()
    }

    /// Returns the name of the lock, or the path of its file.
    #[must_use]
    pub fn lock(&self) -> &str {
        self.text("lock").unwrap_or_default()
    }

    #[must_use]
    pub fn path(&self) -> &str {
        self.text("path").unwrap_or_default()
    }

    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        self.members[member].as_str()
    }

    #[must_use]
    pub fn number(&self, member: &str) -> Option<u64> {
        self.members[member].as_u64()
    }

    #[must_use]
    pub fn flag(&self, member: &str) -> Option<bool> {
        self.members[member].as_bool()
    }

    /// Returns a time span, whose member is a number of seconds.
    #[must_use]
    pub fn span(&self, member: &str) -> Option<Duration> {
        let seconds = self.members[member].as_f64().filter(|seconds| (0.0..CENTURY).contains(seconds))?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns the pid in `member`.
    #[must_use]
    pub fn pid(&self, member: &str) -> Option<u32> {
        self.number(member).and_then(|pid| u32::try_from(pid).ok())
    }

    /// Returns the members as JSON.
    #[must_use]
    pub fn members(&self) -> &Value {
        &self.members
    }
}

/// Parses the objects of a line. That is one event, but if a full disk truncated it before its line feed, the line also
/// contains the next event.
pub(crate) fn parse_events(line: &[u8]) -> Vec<Value> {
    let mut whole = Deserializer::from_slice(line).into_iter();
    let mut events: Vec<Value> = whole.by_ref().map_while(Result::ok).collect();
    let rest = line.get(whole.byte_offset() + 1..).unwrap_or_default();
    let last = memmem::rfind(rest, br#"{"time":"#);
    events.extend(last.and_then(|at| serde_json::from_slice(&rest[at..]).ok()));
    events
}

/// Returns the events of a line.
#[must_use]
pub fn read_events(line: &[u8]) -> Vec<LoggedEvent> {
    parse_events(line).into_iter().filter_map(LoggedEvent::from_members).collect()
}

/// Passes each event of a log to `take`, in the order of the lines. Returns false if there is no such file.
pub fn for_each_event(log: &Path, mut take: impl FnMut(LoggedEvent)) -> io::Result<bool> {
    let Some(file) = open_log(log)? else { return Ok(false) };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A longer line is read in parts, none of which is an event.
        if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        for event in read_events(line.strip_suffix(b"\n").unwrap_or(&line)) {
            take(event);
        }
    }
}

/// Opens a log for reading. `None`: there is none. Fails if it is not a regular file.
pub(super) fn open_log(log: &Path) -> io::Result<Option<File>> {
    // Without O_NONBLOCK, opening a FIFO would block.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if file.metadata()?.is_file() {
        return Ok(Some(file));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_event_is_skipped() {
        let wanted = r#"{"time":"2026-11-30T02:10:00.000Z","event":"acquired","lock":"a","path":"/a","pid":7}"#;
        for (line, count) in [
            (wanted.to_owned(), 1),
            (format!("{wanted}{wanted}"), 2),
            (format!(r#"{{"time":"2026-11-30T02:1{wanted}"#), 1),
            (String::new(), 0),
            ("[1]".to_owned(), 0),
            (wanted.replace("02:10", "62:10"), 0),
            (wanted.replace("\"pid\":7", "\"pid\":-7"), 0),
            (wanted.replace("\"a\"", "1"), 0),
        ] {
            assert_eq!(read_events(line.as_bytes()).len(), count, "{line}");
        }
    }
}
