//! The files of a task, and how they are read and written. Those that write are for who holds the lock.

use super::state::Task;
use super::wait::Stream;
use crate::os::{self, replace};
use crate::task::error::TaskError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

pub(super) const LOCK: &str = "lock";
pub(super) const EXIT: &str = "exit";
pub(super) const PID: &str = "pid";
pub(super) const COMMAND: &str = "cmd.sh";
pub(super) const COMMAND_TEXT: &str = "cmd";
pub(super) const DIRECTORY: &str = "cwd";
const HISTORY: &str = "history";
const LOG: &str = "log";

/// A history that is longer than this is cut to half of it: in bytes, some thousand events.
const MAX_HISTORY: u64 = 256 * 1024;

/// What a purge removes, but for what a reset removes, too.
const KEPT: [&str; 8] =
    ["log.out", "log.err", "log.out.1", "log.err.1", "log.out.prev", "log.err.prev", HISTORY, "history.tmp"];

/// What a reset removes, in this order; and what a writer that was killed left of it.
const FORGOTTEN: [&str; 12] =
    [LOG, COMMAND, "cmd.sh.tmp", COMMAND_TEXT, "cmd.tmp", DIRECTORY, "cwd.tmp", "pid.tmp", PID, "exit.tmp", EXIT, LOCK];

impl Stream {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::Out, Self::Err];

    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Out => "log.out",
            Self::Err => "log.err",
        }
    }
}

/// Opens a file to read it; never a link, and never one that would block.
pub(super) fn open(path: &Path) -> Option<File> {
    open_if_there(path).ok().flatten()
}

/// The same; that it cannot be opened does not mean that it is not there. (A link is none of our files.)
pub(super) fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if [libc::ENOENT, libc::ELOOP].contains(&error.raw_os_error().unwrap_or(0)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Task<'_> {
    pub(super) fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> TaskError {
        let path = self.file(name);
        |source| TaskError::Unusable { path, source }
    }

    /// Makes the directory, and those above it. Fine when it is there.
    pub(super) fn make_directory(&self) -> Result<(), TaskError> {
        // A directory of another mode would depend on the umask.
        let make =
            |path: &Path| os::as_owner(path, || os::without_umask(|| fs::DirBuilder::new().mode(0o711).create(path)));
        match make(&self.directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.directory.is_dir() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.root.make()?,
            Err(source) => return Err(TaskError::Unusable { path: self.directory.clone(), source }),
        }
        match make(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(TaskError::Unusable { path: self.directory.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// A link in the place of the directory would lead what we write and remove to somewhere else.
    pub(super) fn is_no_link(&self) -> Result<(), TaskError> {
        match fs::symlink_metadata(&self.directory) {
            Ok(data) if data.is_symlink() => Err(TaskError::Unusable {
                path: self.directory.clone(),
                source: io::Error::from_raw_os_error(libc::ENOTDIR),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TaskError> {
        // A process that starts the saved command again checks its owner.
        let replace = if name == COMMAND { replace::replace_as_caller } else { replace::replace_under_lock };
        replace(&self.file(name), bytes, 0o600).map(drop).map_err(self.failed(name))
    }

    /// Removes a file. Fine when it is not there.
    pub(super) fn remove(&self, name: &str) -> Result<(), TaskError> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name)(error)),
            _ => Ok(()),
        }
    }

    /// Gives the logs another ending.
    pub(super) fn set_logs_aside(&self, ending: &str) -> Result<(), TaskError> {
        for name in Stream::BOTH.map(Stream::file) {
            let aside = self.file(&format!("{name}.{ending}"));
            replace::rename_if_exists(&self.file(name), &aside).map_err(self.failed(name))?;
        }
        Ok(())
    }

    /// Fresh logs, for stdout and stderr; those of the last run are kept as `.1`.
    pub(super) fn new_logs(&self) -> Result<[File; 2], TaskError> {
        self.set_logs_aside("1")?;
        let make = |stream: Stream| {
            let mut options = OpenOptions::new();
            options.append(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let log = os::as_owner(&self.directory, || options.open(self.file(stream.file())));
            let log = log.map_err(self.failed(stream.file()))?;
            // With such a umask nobody could read it.
            replace::make_file_private(&log).map_err(self.failed(stream.file()))?;
            Ok::<File, TaskError>(log)
        };
        let logs = [make(Stream::Out)?, make(Stream::Err)?];
        match os::as_owner(&self.directory, || symlink(Stream::Out.file(), self.file(LOG))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(self.failed(LOG)(error)),
            _ => Ok(logs),
        }
    }

    /// Takes the logs of the last run back, in the place of those of one that could not be started.
    pub(super) fn take_logs_back(&self) {
        for name in Stream::BOTH.map(Stream::file) {
            let _ = replace::rename_if_exists(&self.file(&format!("{name}.1")), &self.file(name));
        }
    }

    /// Adds an event to the history. It is for people: that it cannot be written stops nobody.
    pub(super) fn note(&self, event: &str) {
        let _ = self.add_to_history(event);
    }

    fn add_to_history(&self, event: &str) -> io::Result<()> {
        let path = self.file(HISTORY);
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mut file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                options.create(true);
                os::as_owner(&self.directory, || options.open(&path))?
            }
            opened => opened?,
        };
        replace::make_file_private(&file)?;
        let line = format!("{:.3} {event}\n", jiff::Timestamp::now());
        let len = os::without_size_signal(|| file.write_all(line.as_bytes())).and_then(|()| file.metadata())?.len();
        if len > MAX_HISTORY {
            let mut kept = Vec::new();
            file.seek(SeekFrom::Start(len - MAX_HISTORY / 2))?;
            file.read_to_end(&mut kept)?;
            let begin = kept.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            replace::replace_under_lock(&path, &kept[begin..], 0o600)?;
        }
        Ok(())
    }

    pub(super) fn has_history(&self) -> bool {
        fs::symlink_metadata(self.file(HISTORY)).is_ok()
    }

    /// Removes what tells of a run, the lock last.
    pub(super) fn forget(&self) -> Result<(), TaskError> {
        FORGOTTEN.iter().try_for_each(|name| self.remove(name))
    }

    /// Removes all of it, the lock last, and the directory if nothing else is in it. Whether it is gone.
    pub(super) fn remove_all(&self) -> Result<bool, TaskError> {
        KEPT.iter().try_for_each(|name| self.remove(name))?;
        self.forget()?;
        match fs::remove_dir(&self.directory) {
            Ok(()) => Ok(true),
            Err(error) => Ok(error.kind() == io::ErrorKind::NotFound),
        }
    }
}
