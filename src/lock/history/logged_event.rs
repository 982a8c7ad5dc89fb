//! The events in the lines of a log. Another program, or another user, may have written a line, so nothing in it is trusted.

use crate::lock::events::{MAX_SIZE, older_log_path, open_root_log};
use memchr::{memchr, memmem};
use serde_json::{Deserializer, Value};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The maximum number of bytes of a line. No event of aba-lock is longer.
const MAX_LINE: usize = 64 << 10;

/// The number of bytes that are read at once.
const CHUNK: usize = 16 << 10;

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

/// A log to read.
#[derive(Debug, Clone)]
pub enum LogSource {
    /// One that the user has named.
    Named(PathBuf),
    /// The log of a state root. In a directory that several users share, another user may have put a file in its place, or in that of
    /// the log before it. Such a file is not read.
    OfRoot(PathBuf),
}

impl LogSource {
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::OfRoot(path) => path,
        }
    }

    /// Opens the log. `None`: there is none. Fails if it is not a regular file.
    pub(super) fn open(&self) -> io::Result<Option<File>> {
        match self {
            Self::Named(path) => open_named_log(path),
            Self::OfRoot(path) => open_root_log(path),
        }
    }

    /// Opens the log before the last rotation. Any other file at its path is ignored.
    fn open_older(&self) -> io::Result<Option<File>> {
        let older = older_log_path(self.path());
        match self {
            Self::Named(_) => match open_named_log(&older) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
                opened => opened,
            },
            Self::OfRoot(_) => Ok(open_root_log(&older).unwrap_or_default()),
        }
    }

    /// Returns the maximum number of bytes that are read of the log at once: its last ones. All users of a directory may write to its
    /// log, and so give it any size. A log that the user has named is read from its beginning.
    pub(super) fn max_read(&self) -> u64 {
        match self {
            Self::Named(_) => u64::MAX,
            Self::OfRoot(_) => MAX_SIZE,
        }
    }

    /// Passes each line of the log, which is open as `file`, to `take`, without its line feed. The last line may have none.
    pub(crate) fn for_each_line(&self, file: &File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut lines = LineBuffer::default();
        lines.read_new_lines(file, self.max_read(), &mut take)?;
        lines.end_line(&mut take);
        Ok(())
    }
}

/// Passes each event of a log and of the one before it to `take`, in the order of the lines. Returns false if there is neither. Fails with
/// the path of the file that cannot be read.
pub fn for_each_event(log: &LogSource, mut take: impl FnMut(LoggedEvent)) -> Result<bool, (PathBuf, io::Error)> {
    let (path, older_path) = (log.path().to_owned(), older_log_path(log.path()));
    // The newer one is opened first. After a rotation in between, the older one is the same file.
    let newer = log.open().map_err(|error| (path.clone(), error))?;
    let older = log.open_older().map_err(|error| (older_path.clone(), error))?;
    let identify = |file: &File| file.metadata().ok().map(|data| (data.dev(), data.ino()));
    let newer_id = newer.as_ref().and_then(identify);
    let older = older.filter(|older| newer_id.is_none() || identify(older) != newer_id);
    let is_there = newer.is_some() || older.is_some();
    for (file, path) in [(older, older_path), (newer, path)] {
        if let Some(file) = file {
            let read = log.for_each_line(&file, |line| read_events(line).into_iter().for_each(&mut take));
            read.map_err(|error| (path, error))?;
        }
    }
    Ok(is_there)
}

/// Passes each line of a text to `take`, without its line feed. The last line may have none.
#[cfg(any(test, fuzzing))]
pub(crate) fn for_each_line(log: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut lines = LineBuffer::default();
    lines.read_lines(log, &mut take)?;
    lines.end_line(&mut take);
    Ok(())
}

/// Splits a log into lines. A line that is longer than [`MAX_LINE`] is skipped, because its writer decides about its length.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    /// The beginning of a line whose end is not there yet.
    part: Vec<u8>,
    /// True if that line is too long.
    is_skipped: bool,
}

impl LineBuffer {
    /// Reads the rest of a log, and passes each complete line to `take`. If the rest has more than `max` bytes, only the lines in the
    /// last ones are read. A log that is shorter than before is read from its beginning.
    pub(super) fn read_new_lines(&mut self, mut log: &File, max: u64, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let (size, position) = (log.metadata()?.len(), log.stream_position()?);
        if size < position {
            log.rewind()?;
            *self = Self::default();
        }
        let start = size.saturating_sub(max);
        if start > position {
            log.seek(SeekFrom::Start(start))?;
            self.part.clear();
            self.is_skipped = true;
        }
        self.read_lines(log.take(max), take)
    }

    /// Reads to the end, and passes each complete line to `take`.
    fn read_lines(&mut self, mut log: impl Read, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let mut rest = match log.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                number => &chunk[..number?],
            };
            if rest.is_empty() {
                return Ok(());
            }
            while let Some(end) = memchr(b'\n', rest) {
                self.add_part(&rest[..end]);
                self.end_line(take);
                rest = &rest[end + 1..];
            }
            self.add_part(rest);
        }
    }

    fn add_part(&mut self, part: &[u8]) {
        self.is_skipped |= self.part.len() + part.len() > MAX_LINE;
        if self.is_skipped {
            self.part.clear();
        } else {
            self.part.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, take: &mut impl FnMut(&[u8])) {
        if !self.is_skipped && !self.part.is_empty() {
            take(&self.part);
        }
        self.part.clear();
        self.is_skipped = false;
    }
}

fn open_named_log(log: &Path) -> io::Result<Option<File>> {
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
    use crate::os::replace::replace_file;
    use std::fs;

    #[test]
    fn a_log_with_both_names_is_read_once_and_a_directory_is_no_older_log() {
        let line =
            "{\"time\":\"2026-11-30T02:10:00.000Z\",\"event\":\"free\",\"lock\":\"a\",\"path\":\"/a\",\"pid\":7}\n";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let older = older_log_path(&path);
        for log in [LogSource::Named(path.clone()), LogSource::OfRoot(path.clone())] {
            let count = || {
                let mut number = 0;
                for_each_event(&log, |_| number += 1).map(|is_there| (is_there, number)).map_err(|(path, _)| path)
            };
            assert_eq!(count(), Ok((false, 0)));
            replace_file(&path, line.as_bytes()).unwrap();
            fs::hard_link(&path, &older).unwrap();
            assert_eq!(count(), Ok((true, 1)));
            fs::remove_file(&path).unwrap();
            assert_eq!(count(), Ok((true, 1)));
            replace_file(&path, line.repeat(2).as_bytes()).unwrap();
            assert_eq!(count(), Ok((true, 3)));
            fs::remove_file(&older).unwrap();
            fs::create_dir(&older).unwrap();
            assert_eq!(count(), Ok((true, 2)));
            fs::remove_dir(&older).unwrap();
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            assert_eq!(count(), Err(path.clone()));
            fs::remove_dir(&path).unwrap();
        }
    }

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

    #[test]
    fn a_line_that_is_too_long_is_skipped_as_a_whole() {
        let repeat = |number: usize| vec![b'x'; number];
        let log =
            [b"a\n".to_vec(), repeat(MAX_LINE), repeat(1), b"{}\n\nb\n".to_vec(), repeat(MAX_LINE), b"\nc".to_vec()];
        let mut lines = Vec::new();
        for_each_line(log.concat().as_slice(), |line| lines.push(line.to_vec())).unwrap();
        assert_eq!(lines, [b"a".to_vec(), b"b".to_vec(), repeat(MAX_LINE), b"c".to_vec()]);
    }
}
