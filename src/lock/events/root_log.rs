//! The log of a state root: the file `events.jsonl`, which is there if the user has turned it on (`log --enable`). It gets the events of
//! the locks whose files have the log flag (`log_flag`), unless `ABA_LOCK_LOG` names another place.
//!
//! A log that no user may write to is turned off (`log --disable`), and stays readable. `rotation` appends the lines.

use super::remedy::{check_owner, command_for_any_user, find_remedy};
use super::rotation::{
    LIMIT, check_creator, check_kind, check_trusted, create, explain_failure, older_log_path, remove_if_too_large,
    rotate,
};
use crate::base::environment::is_system_requested;
use crate::lock::holders::LeasedFile;
use crate::lock::log_flag::{LOG_NAME, WRITE, flag_path, is_on, is_trusted};
use crate::lock::open::find_planted_names;
use crate::os::{self, word_for};
use crate::store::error::StoreError;
use crate::store::{Store, creation};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The state of the log of a state root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootLogState {
    /// It was never turned on, or was removed.
    Missing,
    /// It is turned off. Its earlier lines are there.
    Off,
    On {
        /// The number of bytes of the log and of the one before it.
        size: u64,
    },
}

/// The result of turning the log on or off.
#[derive(Debug)]
pub struct SwitchedLog {
    /// The path of the log.
    pub log: PathBuf,
    /// The word for the file at this path, if it is no log. Such a file is left as it is when the log is turned off.
    pub obstacle: Option<&'static str>,
    /// The lock files whose flag could not be changed, and the reason.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// Returns the path of the log of a state root.
#[must_use]
pub fn root_log_path(store: &Store) -> PathBuf {
    store.root().join(LOG_NAME)
}

/// The command that turns the log of the locks that this process uses on.
#[must_use]
pub fn enable_command() -> &'static str {
    if is_system_requested() { "aba-lock log --system --enable" } else { "aba-lock log --enable" }
}

/// Returns the state of the log of a state root. Fails if another user could have put a file in its place.
pub fn look_at_root_log(store: &Store) -> io::Result<RootLogState> {
    let path = root_log_path(store);
    let data = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RootLogState::Missing),
        data => check_creator(check_kind(data?)?, &path)?,
    };
    if !is_on(&data) {
        return Ok(RootLogState::Off);
    }
    let data = check_trusted(data, &path)?;
    let is_older = |older: &fs::Metadata| older.is_file() && older.ino() != data.ino();
    let older = fs::symlink_metadata(older_log_path(&path)).ok().filter(is_older);
    Ok(RootLogState::On { size: data.size() + older.map_or(0, |older| older.size()) })
}

/// Opens the log of a state root, or the one before it, for reading. `None`: there is none. Fails if another user could have put a file in
/// its place: such a file can have any size.
pub(crate) fn open_root_log(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| explain_failure(error, path))?,
    };
    check_creator(check_kind(file.metadata()?)?, path)?;
    Ok(Some(file))
}

/// Turns the log of a state root on, and sets the flags of its lock files. It can be repeated, for files that a shell has created.
pub fn enable_root_log(store: &Store) -> Result<SwitchedLog, StoreError> {
    store.make()?;
    let log = root_log_path(store);
    turn_on(&log).map_err(|error| describe_failure(&log, error, "--enable"))?;
    let failed = flag_all(store, true)?;
    Ok(SwitchedLog { log, obstacle: None, failed })
}

/// Turns the log of a state root off, and clears the flags of its lock files. Its lines stay. Returns `None` if there is no log.
pub fn disable_root_log(store: &Store) -> Result<Option<SwitchedLog>, StoreError> {
    let log = root_log_path(store);
    let fail = |error| describe_failure(&log, error, "--disable");
    let there = match fs::symlink_metadata(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        data => Some(data.map_err(fail)?),
    };
    // A file of another type gets no lines: it is not opened, because that can block, and its mode is left alone.
    let mut obstacle = there.as_ref().filter(|data| !data.is_file()).map(|data| word_for(data.file_type()));
    if there.is_some() && obstacle.is_none() {
        let file = os::open_unblocked(&log).map_err(|error| fail(explain_failure(error, &log)))?;
        let data = file.metadata().and_then(check_kind).map_err(fail)?;
        let mode = data.mode() & 0o777 & !WRITE;
        // No line is written to another log. It may be a file of this user that another one has linked, so its mode is left alone.
        match check_trusted(data.clone(), &log) {
            Ok(_) => file.set_permissions(Permissions::from_mode(mode)).map_err(fail)?,
            Err(_) if check_creator(data, &log).is_err() => obstacle = Some("file of another user"),
            Err(_) => obstacle = Some("file with another name (hard link)"),
        }
    }
    let failed = flag_all(store, false)?;
    Ok(there.map(|_| SwitchedLog { log, obstacle, failed }))
}

/// Describes a log of a state root that cannot be turned on or off, or read. `option` is the one that the user has given.
fn describe_failure(log: &Path, source: io::Error, option: &str) -> StoreError {
    let hint = find_remedy(log, &source, option);
    StoreError::EventLog { path: log.to_owned(), source, hint }
}

/// Describes a log that cannot be read. `is_of_root` is true if it is that of a state root, and not one that the user has named.
#[must_use]
pub fn describe_unreadable_log(log: &Path, source: io::Error, is_of_root: bool) -> StoreError {
    if is_of_root {
        describe_failure(log, source, "--enable")
    } else {
        StoreError::EventLog { path: log.to_owned(), source, hint: None }
    }
}

/// Returns the command that turns the log of the lock files in this directory on or off, for root or any other user.
#[must_use]
pub fn switch_command(log: &Path, on: bool) -> String {
    command_for_any_user(log, if on { "--enable" } else { "--disable" })
}

/// Returns the next step for a user of the lock file at `path`, which is not marked, so that its events are not logged.
#[must_use]
pub fn hint_to_mark(path: &Path, data: &fs::Metadata) -> String {
    if [data.uid(), 0].contains(&os::user_id()) {
        format!("run `{}` again", enable_command())
    } else {
        format!("run as root: `{}`", command_for_any_user(path, "--enable"))
    }
}

/// Returns the log of a state root, if it is a regular file, and was created by a user who decides about the directory. In a directory
/// that several users share, any of them can put another file there.
#[must_use]
pub fn find_trusted_log(store: &Store) -> Option<PathBuf> {
    let log = root_log_path(store);
    fs::symlink_metadata(&log).is_ok_and(|data| data.is_file() && is_trusted(&data, &log)).then_some(log)
}

fn turn_on(log: &Path) -> io::Result<()> {
    let file = match check_owner(os::replace::parent_directory(log)) {
        Ok(()) => match create(log) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                os::open_unblocked(log).map_err(|error| explain_failure(error, log))?
            }
            created => created?,
        },
        Err(refused) => match os::open_unblocked(log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(refused),
            opened => opened.map_err(|error| explain_failure(error, log))?,
        },
    };
    let data = check_trusted(check_kind(file.metadata()?)?, log)?;
    let mode = data.mode() & 0o777 | creation::access_in(os::replace::parent_directory(log))?.mode;
    if mode != data.mode() & 0o7777 {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    // Calls of other users may not be able to do that. A log that this user cannot rotate is as good as it was.
    if data.size() > LIMIT {
        let _ = rotate(log, &file, &data);
    }
    let _ = remove_if_too_large(&older_log_path(log));
    Ok(())
}

/// Sets or clears the flags of all lock files. Returns those for which that failed.
fn flag_all(store: &Store, logged: bool) -> Result<Vec<(PathBuf, io::Error)>, StoreError> {
    let mut failed = Vec::new();
    for name in store.try_names()? {
        let target = store.target(&name);
        // Another user may have linked a file there that must not change.
        let check = |data: &fs::Metadata| match find_planted_names(&target, data.nlink()) {
            None => Ok(()),
            Some(planted) => Err(io::Error::new(io::ErrorKind::PermissionDenied, planted)),
        };
        let path = store.lock_path(&name);
        if let Err(error) = flag_path(&path, logged, check) {
            let error = LeasedFile::name_in(error, &path);
            failed.push((path, error));
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::super::rotation::append_line;
    use super::*;

    const LINE: &str = "{}\n";

    #[test]
    fn a_log_that_is_missing_or_turned_off_gets_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().to_owned()).unwrap();
        let log = root_log_path(&store);
        assert!(!append_line(&log, LINE.as_bytes()).unwrap());
        assert_eq!(look_at_root_log(&store).unwrap(), RootLogState::Missing);
        enable_root_log(&store).unwrap();
        assert!(append_line(&log, LINE.as_bytes()).unwrap());
        let size = LINE.len() as u64;
        assert_eq!(look_at_root_log(&store).unwrap(), RootLogState::On { size });
        disable_root_log(&store).unwrap();
        assert_eq!(look_at_root_log(&store).unwrap(), RootLogState::Off);
        assert!(!append_line(&log, LINE.as_bytes()).unwrap());
        assert_eq!(fs::read_to_string(&log).unwrap(), LINE);
        enable_root_log(&store).unwrap();
        assert!(append_line(&log, LINE.as_bytes()).unwrap());
    }
}
