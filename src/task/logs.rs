//! The logs of a task, and its history. The functions that change them are for the holder of the lock.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::stream::Stream;
use crate::os::{self, replace};
use crate::store::creation;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};

/// Maximum size in bytes of a history, some thousand events. A longer history is cut to half of this.
const MAX_HISTORY: u64 = 256 * 1024;

impl Task<'_> {
    /// Adds a suffix to the names of the logs, and replaces the logs that have these names.
    pub(super) fn set_logs_aside(&self, suffix: &str) -> Result<(), TaskError> {
        for name in Stream::BOTH.map(Stream::file_name) {
            let aside = self.file(&format!("{name}.{suffix}"));
            replace::rename_if_exists(&self.file(name), &aside).map_err(self.failed(name))?;
        }
        Ok(())
    }

    /// Creates empty logs for stdout and stderr. The logs of the last run get the suffix `.1`.
    pub(super) fn create_logs(&self) -> Result<[File; 2], TaskError> {
        self.set_logs_aside("1")?;
        let make = |stream: Stream| {
            let mut options = OpenOptions::new();
            let (path, flags) = (self.file(stream.file_name()), libc::O_NOFOLLOW);
            let log = creation::create_file(&path, self.access(), options.append(true), flags);
            log.map_err(self.failed(stream.file_name()))
        };
        Ok([make(Stream::Out)?, make(Stream::Err)?])
    }

    /// Creates the link `log` to the log of stdout. It is only for people, so errors are ignored.
    pub(super) fn link_log(&self) {
        let _ = os::as_owner(self.directory(), || symlink(Stream::Out.file_name(), self.file(files::LOG)));
    }

    /// Gives the logs of the last run their names back, because the new run could not be started.
    pub(super) fn restore_logs(&self) {
        for name in Stream::BOTH.map(Stream::file_name) {
            let _ = replace::rename_if_exists(&self.file(&format!("{name}.1")), &self.file(name));
        }
    }

    /// Returns the last line of output, from the log that was written to last.
    #[must_use]
    pub fn last_line(&self) -> String {
        let written = |log: &File| log.metadata().and_then(|data| data.modified()).ok();
        let logs = Stream::BOTH.into_iter().filter_map(|stream| self.log(stream));
        let filled = logs.filter(|log| log.metadata().is_ok_and(|data| data.len() > 0));
        filled.max_by_key(written).map(|log| read_last_lines(&log, 1)).unwrap_or_default()
    }

    /// Adds an event to the history. The history is only for people, so errors are ignored.
    pub(super) fn add_event(&self, event: &str) {
        let _ = self.try_add_event(event);
    }

    fn try_add_event(&self, event: &str) -> io::Result<()> {
        let path = self.file(files::HISTORY);
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        options.read(true).append(true).custom_flags(flags);
        let mut file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                creation::create_file(&path, self.access(), &options, flags)?
            }
            opened => opened?,
        };
        let line = format!("{:.3} {event}\n", jiff::Timestamp::now());
        let len = os::without_size_signal(|| file.write_all(line.as_bytes())).and_then(|()| file.metadata())?.len();
        if len > MAX_HISTORY {
            let mut kept = Vec::new();
            file.seek(SeekFrom::Start(len - MAX_HISTORY / 2))?;
            file.read_to_end(&mut kept)?;
            let begin = kept.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            replace::replace_under_lock(&path, &kept[begin..], self.access())?;
        }
        Ok(())
    }

    pub(super) fn has_history(&self) -> bool {
        fs::symlink_metadata(self.file(files::HISTORY)).is_ok()
    }
}

/// Returns the last lines that are not empty, from the last 4 KiB of a file.
pub(super) fn read_last_lines(log: &File, lines: usize) -> String {
    let mut bytes = [0; 4096];
    let begin = log.metadata().map_or(0, |data| data.len().saturating_sub(4096));
    let read = log.read_at(&mut bytes, begin).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let mut last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(lines).collect();
    last.reverse();
    last.join("\n")
}
