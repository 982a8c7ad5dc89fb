//! The log of a state root: the file `events.jsonl`, which is there if the user has turned it on (`log --enable`). It gets the events of
//! the locks whose files have the log flag (`log_flag`), unless `ABA_LOCK_LOG` names another place.
//!
//! A log that no user may write to is turned off (`log --disable`), and stays readable. `rotation` appends the lines.

use super::rotation::{check_kind, check_trusted, create, explain_kind, invalid, older_log_path};
use crate::base::environment::is_system_requested;
use crate::lock::log_flag::{LOG_NAME, WRITE, flag_path, is_on, is_trusted};
use crate::os::{self, word_for};
use crate::store::error::StoreError;
use crate::store::{Store, creation};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
    /// The type of the file at this path, if that is no regular file. Such a file is left as it is when the log is turned off.
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

/// Returns the state of the log of a state root.
pub fn look_at_root_log(store: &Store) -> io::Result<RootLogState> {
    let path = root_log_path(store);
    let data = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RootLogState::Missing),
        data => check_kind(data?)?,
    };
    let older = fs::symlink_metadata(older_log_path(&path)).map_or(0, |data| data.size());
    Ok(if is_on(&data) { RootLogState::On { size: data.size() + older } } else { RootLogState::Off })
}

/// Turns the log of a state root on, and sets the flags of its lock files. It can be repeated, for files that a shell has created.
pub fn enable_root_log(store: &Store) -> Result<SwitchedLog, StoreError> {
    store.make()?;
    let log = root_log_path(store);
    let fail = |source| StoreError::EventLog { path: log.clone(), source };
    turn_on(&log).map_err(fail)?;
    let failed = flag_all(store, true)?;
    Ok(SwitchedLog { log, obstacle: None, failed })
}

/// Turns the log of a state root off, and clears the flags of its lock files. Its lines stay. Returns `None` if there is no log.
pub fn disable_root_log(store: &Store) -> Result<Option<SwitchedLog>, StoreError> {
    let log = root_log_path(store);
    let fail = |source| StoreError::EventLog { path: log.clone(), source };
    let there = match fs::symlink_metadata(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        data => Some(data.map_err(fail)?),
    };
    // A file of another type gets no lines: it is not opened, because that can block, and its mode is left alone.
    let obstacle = there.as_ref().filter(|data| !data.is_file()).map(|data| word_for(data.file_type()));
    if there.is_some() && obstacle.is_none() {
        let file = os::open_unblocked(&log).map_err(fail)?;
        let data = file.metadata().and_then(check_kind).map_err(fail)?;
        let mode = data.mode() & 0o777 & !WRITE;
        // No line is written to another log. It may be a file of this user that another one has linked, so its mode is left alone.
        if check_trusted(data, &log).is_ok() {
            file.set_permissions(Permissions::from_mode(mode)).map_err(fail)?;
        }
    }
    let failed = flag_all(store, false)?;
    Ok(there.map(|_| SwitchedLog { log, obstacle, failed }))
}

/// Returns the log of a state root, if it is a regular file, and was created by a user who decides about the directory. In a directory
/// that several users share, any of them can put another file there.
#[must_use]
pub fn find_trusted_log(store: &Store) -> Option<PathBuf> {
    let log = root_log_path(store);
    fs::symlink_metadata(&log).is_ok_and(|data| data.is_file() && is_trusted(&data, &log)).then_some(log)
}

/// Fails if other users would not trust a log that this user creates. Such a file would only keep the owner of the directory from
/// turning the log on.
fn check_owner(directory: &Path) -> io::Result<()> {
    let (me, directory) = (os::user_id(), fs::metadata(directory)?);
    if me == 0 || me == directory.uid() || directory.mode() & os::mode::STICKY == 0 {
        return Ok(());
    }
    Err(invalid(
        "only root and the owner of the directory can turn it on, because other users do not trust a log of this user",
    ))
}

fn turn_on(log: &Path) -> io::Result<()> {
    let file = match check_owner(os::replace::parent_directory(log)) {
        Ok(()) => match create(log) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                os::open_unblocked(log).map_err(explain_kind)?
            }
            created => created?,
        },
        Err(refused) => match os::open_unblocked(log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(refused),
            opened => opened.map_err(explain_kind)?,
        },
    };
    let data = check_trusted(check_kind(file.metadata()?)?, log)?;
    let mode = data.mode() & 0o777 | creation::access_in(os::replace::parent_directory(log))?.mode;
    if mode == data.mode() & 0o7777 { Ok(()) } else { file.set_permissions(Permissions::from_mode(mode)) }
}

/// Sets or clears the flags of all lock files. Returns those for which that failed.
fn flag_all(store: &Store, logged: bool) -> Result<Vec<(PathBuf, io::Error)>, StoreError> {
    let mut failed = Vec::new();
    for name in store.try_names()? {
        let path = store.lock_path(&name);
        if let Err(error) = flag_path(&path, logged) {
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
