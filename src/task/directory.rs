//! A task: its directory and the files in it.
//!
//! The functions that change files are for the holder of the lock of the task (`guard`). [`Task::create_directory`] is the
//! exception: without the directory there is no lock file.

use super::error::TaskError;
use super::files;
use super::stream::Stream;
use crate::base::names::TaskId;
use crate::lock::holders::LeasedFile;
use crate::os::proc::process;
use crate::os::{self, FileAccess, replace};
use crate::store::TaskRoot;
use crate::store::creation::{self, DirectoryUsers};
use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
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
    /// The access to new files in the directory, once it is known.
    access: OnceCell<FileAccess>,
}

impl<'a> Task<'a> {
    /// Returns the task with this id. The file system is not accessed.
    #[must_use]
    pub fn new(root: &'a TaskRoot, id: TaskId) -> Self {
        Self { directory: root.path().join(id.as_str()), id, root, key: None, ttl: None, access: OnceCell::new() }
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

    /// The state root that has the directory, if `RUN_ONCE_DIR` does not name another one.
    #[must_use]
    pub(super) fn state_root(&self) -> Option<&Path> {
        self.root.state_root()
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
        |source| {
            let source = LeasedFile::name_in(source, &path);
            TaskError::Unusable { path, source }
        }
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
        let make = |path: &Path| creation::create_directory_for_group(path, creation::TASK_DIRECTORY);
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
            Ok(data) => {
                self.access.get_or_init(|| creation::access_to_task_files(&data));
                if self.is_of_stranger(data.uid()) { Err(self.stranger_error(data.uid())) } else { Ok(()) }
            }
            Err(_) => Ok(()),
        }
    }

    /// Returns true if all users share the task root, and `owner`, the owner of the task, is another user. That user could falsify it.
    pub(super) fn is_of_stranger(&self, owner: u32) -> bool {
        owner != os::user_id() && matches!(DirectoryUsers::of_directory(self.root.path()), Ok(DirectoryUsers::Everyone))
    }

    fn stranger_error(&self, owner: u32) -> TaskError {
        let owner = process::user_name(owner);
        let cause =
            format!("it belongs to user {owner}, and tasks are not shared in a directory that all users may write to");
        TaskError::Unusable { path: self.directory.clone(), source: io::Error::other(cause) }
    }

    /// Returns true if only the owner of the directory can have written its files.
    pub(super) fn is_private(&self) -> bool {
        self.access() == creation::PRIVATE_FILE
    }

    /// The access to new files in the directory.
    pub(super) fn access(&self) -> FileAccess {
        let examine = || fs::metadata(&self.directory).ok().as_ref().map(creation::access_to_task_files);
        *self.access.get_or_init(|| examine().unwrap_or(creation::PRIVATE_FILE))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TaskError> {
        // The owner of the saved command must be the user who saved it: a process that runs it again checks the owner.
        let replace = if name == files::COMMAND { replace::replace_as_caller } else { replace::replace_under_lock };
        replace(&self.file(name), bytes, self.access()).map(drop).map_err(self.failed(name))
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
