//! Replaces a file as a whole: a reader sees the old content or the new one, never half of it. [`edit`](crate::file::edit) does that to
//! files of the user's, under a lock.

#![expect(clippy::disallowed_methods, reason = "the one place that renames")]

use super::flock::{Mode, wait_lock};
use super::owner::as_owner;
use super::signal_mask::without_size_signal;
use super::this_process::{umask, user_id};
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Makes `bytes` the content of `path`, through a temporary file beside it and a rename. A new file has mode
/// 0644, as far as the umask allows. Nothing is left behind when it fails.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

/// The same for a file that only the holder of a lock writes. The temporary file has a name of its own (`NAME.tmp`), so
/// that the one of a writer that was killed is used up by the next. The file gets exactly this mode, and belongs to the
/// owner of the directory where root writes it.
///
/// The temporary file is returned, open: it is `path` now.
pub fn replace_alone(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    as_owner(directory_of(path), || replace_with(path, bytes, mode, |_| Ok(())))
}

/// As [`replace_alone`], but the file belongs to the user who writes it, so that its owner shows who wrote it.
pub fn replace_by_us(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    replace_with(path, bytes, mode, |_| Ok(()))
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// As [`replace_alone`], but the file is locked (flock(2), exclusive) when it appears at `path`.
pub fn replace_locked(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    // Nobody knows it yet, so this does not wait.
    as_owner(directory_of(path), || replace_with(path, bytes, mode, |file| wait_lock(file, Mode::Exclusive)))
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    before: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<File> {
    let mut temporary: OsString = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let _ = fs::remove_file(&temporary);
    let written = prepare(&temporary, bytes, mode).and_then(|file| {
        before(&file)?;
        fs::rename(&temporary, path)?;
        Ok(file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Gives a new file that is for its user alone its mode, where the umask took that from it.
pub(crate) fn make_private(file: &File) -> io::Result<()> {
    if umask() & 0o600 == 0 { Ok(()) } else { file.set_permissions(fs::Permissions::from_mode(0o600)) }
}

/// As root, gives a file that we made to the owner of the directory that it is going to be in, as [`as_owner`] does.
/// It must have been made where no other user can put something in its place.
pub(crate) fn give_to_owner(made: &File, directory: &Path) {
    let (Ok(above), Ok(data)) = (fs::metadata(directory), made.metadata()) else { return };
    let is_ours = data.uid() == 0 && data.nlink() == 1;
    if user_id() == 0 && is_ours && above.uid() != 0 {
        let _ = fchown(made, Some(above.uid()), Some(above.gid()));
    }
}

/// Gives a file another name, in the place of what has that name. Fine when there is no such file.
pub fn set_aside(path: &Path, name: &Path) -> io::Result<()> {
    match fs::rename(path, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// The name of this user next to a file, for where another user has left [`name_beside`].
pub(crate) fn own_name_beside(path: &Path) -> PathBuf {
    let mut name = name_beside(path).into_os_string();
    name.push(format!("-{}", user_id()));
    name.into()
}

/// A name of our own beside a file: the same for all who have its lock, so that what one left is found by the next.
pub(crate) fn name_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let bytes = name.as_encoded_bytes();
    let mut new = b".".to_vec();
    // A name may have 255 bytes. Of long ones that begin alike, none is to take the other's for litter: a sum tells them
    // apart. (A later compiler may make another sum. Then litter stays, at worst.)
    // With room for the number of a user.
    if bytes.len() > 229 {
        let mut sum = DefaultHasher::new();
        sum.write(bytes);
        new.extend_from_slice(&bytes[..212]);
        new.extend_from_slice(format!("-{:016x}", sum.finish()).as_bytes());
    } else {
        new.extend_from_slice(bytes);
    }
    new.extend_from_slice(b".aba-lock.d");
    path.with_file_name(OsString::from_vec(new))
}

fn prepare(temporary: &OsString, bytes: &[u8], mode: u32) -> io::Result<File> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // Whatever the umask is.
    if file.metadata()?.mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    without_size_signal(|| file.write_all(bytes))?;
    Ok(file)
}
