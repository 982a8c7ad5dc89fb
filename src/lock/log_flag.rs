//! The log flag of a lock file whose events go to the log of its state root: the sticky bit, which has no other effect on a regular
//! file.
//!
//! Each acquisition and release reads the metadata of the lock file anyway, so a lock that is not logged costs no system call more.
//! A look for the log itself would be one more call in each of them.
//!
//! `events::root_log` sets the flag of the files that exist when the log is turned on, and [`open`](super::open) that of new ones:
//!
//! 1. `log --enable` turns the log on. Then it lists the lock files, and sets their flags.
//! 2. A caller creates a lock file. Then it looks for a log that is turned on, and sets the flag of its file if there is one.
//!
//! If the caller does not find the log, its file was there before the log was turned on, and so before the list. If a shell has created the
//! file, the acquisition that writes the first record sets the flag (`grant`). A flag without a log has no effect on the lock.

use crate::base::target::{Kind, Target};
use crate::os;
use crate::os::mode::STICKY;
use crate::os::replace::parent_directory;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The bit of the mode of a lock file.
const FLAG: u32 = STICKY;

/// The write permissions of all users. A log without any of them is turned off.
pub(crate) const WRITE: u32 = 0o222;

/// The name of the log in a state root.
pub(crate) const LOG_NAME: &str = "events.jsonl";

/// Returns true if a lock file with this mode has the flag.
#[must_use]
pub fn is_logged(mode: u32) -> bool {
    mode & FLAG != 0
}

/// Returns true if the log that has this metadata is turned on.
pub(super) fn is_on(log: &Metadata) -> bool {
    log.is_file() && log.mode() & WRITE != 0
}

/// Returns the log of the state root, if the lock file of `target` has the flag.
pub(crate) fn find_root_log(target: &Target) -> Option<PathBuf> {
    if target.kind != Kind::Named {
        return None;
    }
    let mode = fs::symlink_metadata(&target.path).ok()?.mode();
    is_logged(mode).then(|| target.path.with_file_name(LOG_NAME))
}

/// Sets the flag of a lock file that was just created at `path`, if the log of its state root is turned on. Without the flag, its events
/// are not logged, which is not an error.
pub(super) fn flag_new_file(file: &File, path: &Path) {
    let log = path.with_file_name(LOG_NAME);
    if fs::symlink_metadata(&log).is_ok_and(|data| is_on(&data) && is_trusted(&data, &log)) {
        let _ = set_flag(file, true);
    }
}

/// Returns true if the log was created by the user of this process, by root, or by the owner of its directory. In a directory that
/// several users share, another user could have chosen the file, unless they may replace each other's files anyway.
pub(crate) fn is_trusted(data: &Metadata, log: &Path) -> bool {
    let is_of_directory = || {
        let directory = fs::metadata(parent_directory(log));
        directory.is_ok_and(|directory| directory.uid() == data.uid() || directory.mode() & STICKY == 0)
    };
    data.uid() == os::user_id() || data.uid() == 0 || is_of_directory()
}

/// Sets or clears the flag of the lock file at `path`, unless `check` refuses the open file. Returns false if there is no such file.
pub(crate) fn flag_path(
    path: &Path,
    logged: bool,
    check: impl FnOnce(&Metadata) -> io::Result<()>,
) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_file() && is_logged(data.mode()) != logged => {}
        Ok(data) => return Ok(data.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let file = os::open_unblocked(path)?;
    check(&file.metadata()?)?;
    set_flag(&file, logged).map(|()| true)
}

fn set_flag(file: &File, logged: bool) -> io::Result<()> {
    let data = file.metadata()?;
    let mode = data.mode() & 0o7777;
    let mode = if logged { mode | FLAG } else { mode & !FLAG };
    if data.is_file() { file.set_permissions(Permissions::from_mode(mode)) } else { Ok(()) }
}
