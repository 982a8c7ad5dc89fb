//! Reads the lines that are added to a log, also after it was rotated.

use super::logged_event::{LoggedEvent, open_log, read_events};
use crate::os::FileWatch;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// The time after which the log is read again without a report of the system: a file system of another machine sends none.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The maximum number of bytes of a line that is not complete.
const MAX_PART: usize = 64 << 10;

/// A log that is read while other processes write to it.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    watch: FileWatch,
    file: Option<LogFile>,
    /// The log before the last rotation, to which a slow writer may still append a line.
    older: Option<LogFile>,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    /// The beginning of a line whose end is not there yet.
    part: Vec<u8>,
}

impl LogFile {
    fn read_lines(&mut self, events: &mut Vec<LoggedEvent>) -> io::Result<()> {
        self.file.read_to_end(&mut self.part)?;
        while let Some(end) = self.part.iter().position(|byte| *byte == b'\n') {
            events.extend(read_events(&self.part[..end]));
            self.part.drain(..=end);
        }
        if self.part.len() > MAX_PART {
            self.part.clear();
        }
        Ok(())
    }

    fn is_at(&self, path: &PathBuf) -> bool {
        let id = |data: fs::Metadata| (data.dev(), data.ino());
        fs::metadata(path).ok().map(id) == self.file.metadata().ok().map(id)
    }
}

impl LogFollower {
    /// Begins to follow the log at `path`, from its beginning. It need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, watch: FileWatch::new(), file: None, older: None }
    }

    /// Returns the events that were added since the last call.
    pub fn read_new_events(&mut self) -> io::Result<Vec<LoggedEvent>> {
        let mut events = Vec::new();
        loop {
            for file in [&mut self.older, &mut self.file].into_iter().flatten() {
                file.read_lines(&mut events)?;
            }
            if self.file.as_ref().is_some_and(|file| file.is_at(&self.path)) {
                return Ok(events);
            }
            // The watch comes before the next read, so that no change is missed.
            self.watch.add(&self.path);
            let Some(file) = open_log(&self.path)? else { return Ok(events) };
            let replaced = self.file.replace(LogFile { file, part: Vec::new() });
            self.older = replaced.or(self.older.take());
        }
    }

    /// Waits until the log may have changed.
    pub fn wait(&mut self) {
        self.watch.wait(&[], LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LINE: &[u8] =
        b"{\"time\":\"2026-11-30T02:10:00.000Z\",\"event\":\"free\",\"lock\":\"a\",\"path\":\"/a\",\"pid\":7}\n";

    #[test]
    fn lines_are_read_once_and_also_after_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut follower = LogFollower::new(path.clone());
        assert!(follower.read_new_events().unwrap().is_empty());
        let mut first = File::create_new(&path).unwrap();
        first.write_all(&LINE[..20]).unwrap();
        assert!(follower.read_new_events().unwrap().is_empty());
        first.write_all(&LINE[20..]).unwrap();
        first.write_all(LINE).unwrap();
        assert_eq!(follower.read_new_events().unwrap().len(), 2);
        crate::os::replace::rename_file(&path, &directory.path().join("log.1")).unwrap();
        let mut second = File::create_new(&path).unwrap();
        second.write_all(LINE).unwrap();
        assert_eq!(follower.read_new_events().unwrap().len(), 1);
        first.write_all(LINE).unwrap();
        assert_eq!(follower.read_new_events().unwrap().len(), 1);
        assert!(follower.read_new_events().unwrap().is_empty());
    }
}
