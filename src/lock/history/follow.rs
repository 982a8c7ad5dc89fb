//! Reads the lines that are added to logs, also after one of them was rotated.

use super::logged_event::{LineBuffer, LogSource, LoggedEvent, read_events};
use crate::os::FileWatch;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time after which the log is read again without a report of the system: a file system of another machine sends none.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Reads logs while other processes write to them.
#[derive(Debug)]
pub struct LogFollower {
    logs: Vec<FollowedLog>,
    watch: FileWatch,
}

#[derive(Debug)]
struct FollowedLog {
    source: LogSource,
    file: Option<LogFile>,
    /// The log before the last rotation, to which a slow writer may still append a line.
    older: Option<LogFile>,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    lines: LineBuffer,
}

impl LogFile {
    fn read_events(&mut self, max: u64, take: &mut dyn FnMut(LoggedEvent)) -> io::Result<()> {
        self.lines.read_new_lines(&self.file, max, &mut |line| read_events(line).into_iter().for_each(&mut *take))
    }

    fn is_at(&self, path: &Path) -> bool {
        let id = |data: fs::Metadata| (data.dev(), data.ino());
        fs::metadata(path).ok().map(id) == self.file.metadata().ok().map(id)
    }
}

impl LogFollower {
    /// Begins to follow these logs, from their beginnings. They need not exist yet.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = LogSource>) -> Self {
        let logs = sources.into_iter().map(|source| FollowedLog { source, file: None, older: None });
        Self { logs: logs.collect(), watch: FileWatch::new() }
    }

    /// Passes the events that were added since the last call to `take`, those of each log in the order of its lines. Fails with the path of a
    /// log that cannot be read.
    pub fn read_new_events(&mut self, mut take: impl FnMut(LoggedEvent)) -> Result<(), (PathBuf, io::Error)> {
        for log in &mut self.logs {
            log.read_new_events(&mut self.watch, &mut take).map_err(|error| (log.source.path().to_owned(), error))?;
        }
        Ok(())
    }

    /// Returns true if one of the logs was there when they were read.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.logs.iter().any(|log| log.file.is_some())
    }

    /// Waits until a log may have changed.
    pub fn wait(&mut self) {
        self.watch.wait(&[], LOOK_AGAIN);
    }
}

impl FollowedLog {
    fn read_new_events(&mut self, watch: &mut FileWatch, take: &mut dyn FnMut(LoggedEvent)) -> io::Result<()> {
        loop {
            for file in [&mut self.older, &mut self.file].into_iter().flatten() {
                file.read_events(self.source.max_read(), take)?;
            }
            if self.file.as_ref().is_some_and(|file| file.is_at(self.source.path())) {
                return Ok(());
            }
            // The watch comes before the next read, so that no change is missed.
            watch.add(self.source.path());
            let Some(file) = self.source.open()? else { return Ok(()) };
            let replaced = self.file.replace(LogFile { file, lines: LineBuffer::default() });
            self.older = replaced.or(self.older.take());
        }
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
        let mut follower = LogFollower::new([LogSource::OfRoot(path.clone())]);
        let mut count = || {
            let mut number = 0;
            follower.read_new_events(|_| number += 1).unwrap();
            number
        };
        assert_eq!(count(), 0);
        let mut first = File::create_new(&path).unwrap();
        first.write_all(&LINE[..20]).unwrap();
        assert_eq!(count(), 0);
        first.write_all(&LINE[20..]).unwrap();
        first.write_all(LINE).unwrap();
        assert_eq!(count(), 2);
        crate::os::replace::rename_file(&path, &directory.path().join("log.1")).unwrap();
        let mut second = File::create_new(&path).unwrap();
        second.write_all(LINE).unwrap();
        assert_eq!(count(), 1);
        first.write_all(LINE).unwrap();
        assert_eq!(count(), 1);
        assert_eq!(count(), 0);
        // Another program has made the log shorter, and then longer.
        second.set_len(0).unwrap();
        assert_eq!(count(), 0);
        File::options().append(true).open(&path).unwrap().write_all(LINE).unwrap();
        assert_eq!(count(), 1);
        second.set_len(1 << 40).unwrap();
        assert_eq!(count(), 0);
    }
}
