//! Replacing a file as a whole: a reader sees the old content or the new content, never a part of it.
//!
//! The functions `replace_*` write a temporary file in the directory of the file and rename it. Tasks, pid files and
//! registries of numbers are written in this way. The files of users are replaced by [`file`](mod@crate::file), which
//! also takes a lock and keeps the mode, owner and attributes of the file. Other modules rename files only through this
//! one.

#![expect(clippy::disallowed_methods, reason = "the one place that renames")]

use super::file_access::FileAccess;
use super::flock::{Mode, wait_lock};
use super::owner::as_owner;
use super::signal_action::without_size_signal;
use super::this_process::{umask, user_id};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Replaces `path` with a new file that holds `bytes`. Several processes may do this at once: the name of the temporary
/// file contains the pid. The temporary file is removed after an error. The new file has mode 0644 without the bits of
/// the umask.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary: OsString = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Replaces a file that only the holder of a lock writes, and returns the new file, open.
///
/// The temporary file always has the same name (`NAME.tmp`), so the next writer removes the one that a killed writer left. The
/// new file has exactly this access. If this process is root, the file belongs to the owner of the directory.
pub fn replace_under_lock(path: &Path, bytes: &[u8], access: FileAccess) -> io::Result<File> {
    as_owner(parent_directory(path), || replace_with(path, bytes, access, |_| Ok(())))
}

/// Replaces a file as [`replace_under_lock`] does, but the new file always belongs to the user of this process, so that its
/// owner shows which user wrote it.
pub fn replace_as_caller(path: &Path, bytes: &[u8], access: FileAccess) -> io::Result<File> {
    replace_with(path, bytes, access, |_| Ok(()))
}

/// Replaces a file as [`replace_under_lock`] does, with a file that is locked (flock(2), exclusive) before it appears at
/// `path`.
pub fn replace_with_locked_file(path: &Path, bytes: &[u8], access: FileAccess) -> io::Result<File> {
    // No other process knows the temporary file, so this does not wait.
    as_owner(parent_directory(path), || replace_with(path, bytes, access, |file| wait_lock(file, Mode::Exclusive)))
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    access: FileAccess,
    before: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<File> {
    let mut temporary: OsString = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let _ = fs::remove_file(&temporary);
    let written = write_temporary(&temporary, bytes, access).and_then(|file| {
        before(&file)?;
        fs::rename(&temporary, path)?;
        Ok(file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_temporary(temporary: &OsString, bytes: &[u8], access: FileAccess) -> io::Result<File> {
    // A file that gets another group is private until then.
    let mode = if access.group.is_some() { 0o600 } else { access.mode };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // The umask may have removed bits.
    access.apply(&file)?;
    without_size_signal(|| file.write_all(bytes))?;
    Ok(file)
}

/// Returns the directory that holds `path`: `.` for a bare name.
pub(crate) fn parent_directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a new private file mode 0600, if the umask has removed the access of its owner.
pub(crate) fn make_file_private(file: &File) -> io::Result<()> {
    if umask() & 0o600 == 0 { Ok(()) } else { file.set_permissions(fs::Permissions::from_mode(0o600)) }
}

/// If this process is root, gives a file that it created to the owner of `directory`, to which the file will be moved. The
/// file must have been created where no other user can put another file in its place.
pub(crate) fn give_to_directory_owner(created: &File, directory: &Path) {
    let (Ok(parent), Ok(data)) = (fs::metadata(directory), created.metadata()) else { return };
    let is_ours = data.uid() == 0 && data.nlink() == 1;
    if user_id() == 0 && is_ours && parent.uid() != 0 {
        let _ = fchown(created, Some(parent.uid()), Some(parent.gid()));
    }
}

/// Renames a file and replaces the file that has the new name. Succeeds if there is no file to rename.
pub fn rename_if_exists(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

pub(crate) fn rename_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}
