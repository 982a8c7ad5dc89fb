//! The log mark of a lock file whose events go to the log of its state root: the sticky bit, which has no other effect on a regular
//! file.
//!
//! Each acquisition and release reads the metadata of the lock file anyway, so a lock that is not logged costs no system call more.
//! A look for the log itself would be one more call in each of them.
//!
//! `events::root_log` marks the files that exist when the log is turned on, and [`open`](super::open) marks new ones:
//!
//! 1. `log --enable` creates the log. Then it lists the lock files, and marks them.
//! 2. A caller creates a lock file. Then it looks for the log, and marks its file if there is one.
//!
//! If the caller does not find the log, its file was there before the log, and so before the list. If a shell has created the file, the
//! acquisition that writes the first record marks it (`grant`). A mark without a log has no effect.

use crate::base::target::{Kind, Target};
use crate::os;
use crate::os::replace::parent_directory;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The sticky bit.
const STICKY: u32 = 0o1000;

/// The bit of the mode of a lock file.
const MARK: u32 = STICKY;

/// The name of the log in a state root.
pub(crate) const LOG_NAME: &str = "events.jsonl";

/// Returns true if a lock file with this mode is marked.
#[must_use]
pub fn is_marked(mode: u32) -> bool {
    mode & MARK != 0
}

/// Returns the log of the state root, if the lock file of `target` is marked.
pub(crate) fn find_root_log(target: &Target) -> Option<PathBuf> {
    if target.kind != Kind::Named {
        return None;
    }
    let mode = fs::symlink_metadata(&target.path).ok()?.mode();
    is_marked(mode).then(|| target.path.with_file_name(LOG_NAME))
}

/// Marks a lock file that was just created at `path`, if its state root has a log. Without the mark, its events are not logged, which
/// is not an error.
pub(super) fn mark_new_file(file: &File, path: &Path) {
    let log = path.with_file_name(LOG_NAME);
    if fs::symlink_metadata(&log).is_ok_and(|data| is_trusted(&data, &log)) {
        let _ = set_mark(file, true);
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

/// Marks the lock file at `path`, or removes its mark. Returns false if there is no such file.
pub(crate) fn mark_path(path: &Path, marked: bool) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_file() && is_marked(data.mode()) != marked => {}
        Ok(data) => return Ok(data.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    set_mark(&os::open_unblocked(path)?, marked).map(|()| true)
}

fn set_mark(file: &File, marked: bool) -> io::Result<()> {
    let data = file.metadata()?;
    let mode = data.mode() & 0o7777;
    let mode = if marked { mode | MARK } else { mode & !MARK };
    if data.is_file() { file.set_permissions(Permissions::from_mode(mode)) } else { Ok(()) }
}
