//! A task: its directory and the files in it.
//!
//! The functions that change files are for the holder of the lock of the task (`guard`). [`Task::create_directory`] is the
//! exception: without the directory there is no lock file.

use super::error::TaskError;
use super::files;
use super::stream::Stream;
use crate::base::names::TaskId;
use crate::os::{self, replace};
use crate::store::{TaskRoot, creation};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A task of one task root. It exists once it has a directory.
#[derive(Debug)]
pub struct Task<'a> {
    pub id: TaskId,
    root: &'a TaskRoot,
    directory: PathBuf,
    /// The text of this call from which the id was derived (`--key`).
    pub(super) key: Option<String>,
    /// The TTL, and the time at which it was set. An outcome that is written after that time has not expired.
    pub(super) ttl: Option<(Duration, SystemTime)>,
}

impl<'a> Task<'a> {
    /// Returns the task with this id. The file system is not accessed.
    #[must_use]
    pub fn new(root: &'a TaskRoot, id: TaskId) -> Self {
        Self { directory: root.path().join(id.as_str()), id, root, key: None, ttl: None }
    }

    /// Returns all tasks that have a directory, in the order of their ids.
    pub fn all(root: &'a TaskRoot) -> Result<Vec<Self>, TaskError> {
        Ok(root.ids()?.into_iter().map(|id| Self::new(root, id)).collect())
    }

    /// Returns the task with a TTL: an outcome that is older than the TTL is ignored, and a failure that is older than
    /// the TTL or than 30 seconds.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl: ttl.map(|ttl| (ttl, SystemTime::now())), ..self }
    }

    /// Returns the task with the text from which its id was derived.
    #[must_use]
    pub fn with_key(self, key: Option<String>) -> Self {
        Self { key, ..self }
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a file in the directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Opens the output of the present or the last run. `None` if there is none.
    #[must_use]
    pub fn log(&self, stream: Stream) -> Option<File> {
        files::open(&self.file(stream.file_name()))
    }

    /// Returns true if the directory holds an outcome, a run or a saved command, and not only old logs and a history.
    #[must_use]
    pub fn is_known(&self) -> bool {
        [files::EXIT, files::PID, files::COMMAND].iter().any(|name| fs::symlink_metadata(self.file(name)).is_ok())
    }

    /// Returns a function that turns the error of an access to the file `name` into a [`TaskError`].
    pub(super) fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> TaskError {
        let path = self.file(name);
        |source| TaskError::Unusable { path, source }
    }

    pub(super) fn has_directory(&self) -> Result<bool, TaskError> {
        match fs::symlink_metadata(self.directory()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(TaskError::Unusable { path: self.directory().to_owned(), source }),
        }
    }

    /// Creates the directory, and the task root if it is missing. Succeeds if the directory exists.
    pub(super) fn create_directory(&self) -> Result<(), TaskError> {
        // The umask is ignored, so that the mode does not depend on it.
        let make = |path: &Path| {
            os::as_owner(path, || {
                os::without_umask(|| fs::DirBuilder::new().mode(creation::TASK_DIRECTORY).create(path))
            })
        };
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

    /// Creates the directory if it is missing. Returns an error if it is a link: through a link, files elsewhere would be
    /// written and removed.
    pub(super) fn make_directory(&self) -> Result<(), TaskError> {
        match fs::symlink_metadata(&self.directory) {
            Ok(data) if data.is_symlink() => Err(TaskError::Unusable {
                path: self.directory.clone(),
                source: io::Error::from_raw_os_error(libc::ENOTDIR),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_directory(),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TaskError> {
        // The owner of the saved command must be the user who saved it: a process that runs it again checks the owner.
        let replace = if name == files::COMMAND { replace::replace_as_caller } else { replace::replace_under_lock };
        replace(&self.file(name), bytes, creation::mode_in(&self.directory)).map(drop).map_err(self.failed(name))
    }

    /// Removes a file. Succeeds if it does not exist.
    pub(super) fn remove(&self, name: &str) -> Result<(), TaskError> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(name)(error)),
            _ => Ok(()),
        }
    }

    /// Removes the files that describe a run, the lock last.
    pub(super) fn remove_run(&self) -> Result<(), TaskError> {
        files::REMOVED_BY_RESET.iter().try_for_each(|name| self.remove(name))
    }

    /// Removes all files, the lock last, and the directory if it is empty then. Returns true if the directory is gone.
    pub(super) fn remove_all(&self) -> Result<bool, TaskError> {
        files::KEPT_BY_RESET.iter().try_for_each(|name| self.remove(name))?;
        self.remove_run()?;
        match fs::remove_dir(&self.directory) {
            Ok(()) => Ok(true),
            Err(error) => Ok(error.kind() == io::ErrorKind::NotFound),
        }
    }
}
