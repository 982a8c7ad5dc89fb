//! Creates files and directories that several users share. Each has its final mode and group before another process can find
//! it, whatever the umask is.
//!
//! A file that was created under its name, and got its mode afterwards, would be private for an instant. A process of another
//! user that opens it in this instant would fail.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::file::same_file;
use super::file_access::FileAccess;
use super::owner::as_owner;
use super::replace::parent_directory;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Creates a file with this access, or fails with `EEXIST`. `options` open it, with these `flags`. If this process is root, the
/// file belongs to the owner of its directory.
pub fn create_file_with(path: &Path, access: FileAccess, options: &OpenOptions, flags: i32) -> io::Result<File> {
    let directory = parent_directory(path);
    let create = || match create_unnamed(directory, access, options, flags) {
        Ok(file) => match give_name(&file, path) {
            Ok(()) => Ok(file),
            // There is no `/proc`.
            Err(error) if [libc::ENOENT, libc::ENOTDIR].contains(&error.raw_os_error().unwrap_or(0)) => {
                create_under_other_name(path, access, options, flags)
            }
            Err(error) => Err(error),
        },
        // The file system cannot create a file without a name.
        Err(error) if [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL].contains(&error.raw_os_error().unwrap_or(0)) => {
            create_under_other_name(path, access, options, flags)
        }
        Err(error) => Err(error),
    };
    as_owner(directory, || create().map(|file| open_by_name(file, path, options, flags)))
}

/// Opens a file of this process again by its name, because the kernel shows the name by which a file was opened, also after the removal of
/// the file (`/proc/PID/fd`). That of a file that was created without a name is `#INODE`. If another process has removed the file since,
/// or has put another one in its place, returns `file`.
fn open_by_name(file: File, path: &Path, options: &OpenOptions, flags: i32) -> File {
    let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    match options.clone().custom_flags(flags).open(path) {
        Ok(named) if same_file(&named, &file).unwrap_or(false) => named,
        _ => file,
    }
}

fn create_unnamed(directory: &Path, access: FileAccess, options: &OpenOptions, flags: i32) -> io::Result<File> {
    #[cfg(linux)]
    {
        // The path of the directory may lead through a link, which the user has named.
        let flags = flags & !libc::O_NOFOLLOW | libc::O_TMPFILE;
        let file = options.clone().mode(0o600).custom_flags(flags).open(directory)?;
        access.apply_in(directory, &file)?;
        Ok(file)
    }
    #[cfg(not(linux))]
    {
        let _ = (directory, access, options, flags);
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// Gives its only name to a file that was created without one.
fn give_name(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both paths end in NUL and live until the call returns.
    let linked =
        unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    if linked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Creates the file under a temporary name, and then adds the name `path`.
fn create_under_other_name(path: &Path, access: FileAccess, options: &OpenOptions, flags: i32) -> io::Result<File> {
    let (temporary, file) = with_temporary_path(path, |temporary| {
        options.clone().create_new(true).mode(0o600).custom_flags(flags).open(temporary)
    })?;
    let done = access.apply_in(parent_directory(path), &file).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    done.map(|()| file)
}

/// Creates a directory with this access, or fails with `EEXIST`. If this process is root, the directory belongs to the owner of
/// the one that contains it.
pub fn create_directory_with(path: &Path, access: FileAccess) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    as_owner(parent_directory(path), || {
        let (temporary, ()) = with_temporary_path(path, |temporary| DirBuilder::new().mode(0o700).create(temporary))?;
        // Not by path, because in the meantime another user may have put another directory there.
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&temporary);
        let done = opened.and_then(|open| access.apply(&open)).and_then(|()| rename_to_new(&temporary, path));
        if done.is_err() {
            let _ = fs::remove_dir(&temporary);
        }
        done
    })
}

/// Calls `create` with a name next to `path` that no other process uses.
fn with_temporary_path<T>(path: &Path, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    let mut last = io::Error::from_raw_os_error(libc::EEXIST);
    // Another user may have taken some of these names, but not those of all attempts.
    for attempt in 0..100_u32 {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        let temporary = path.with_file_name(format!(".aba-lock-{}-{now}-{attempt}.tmp", std::process::id()));
        match create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            created => return created.map(|created| (temporary, created)),
        }
    }
    Err(last)
}

/// Renames a directory, and replaces nothing.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (CString::new(from.as_os_str().as_bytes())?, CString::new(to.as_os_str().as_bytes())?);
    #[cfg(linux)]
    {
        // SAFETY: the call is renameat2(2). Both paths end in NUL and live until it returns.
        #[expect(clippy::disallowed_methods, reason = "renameat2(2)")]
        let renamed = unsafe {
            let number = libc::SYS_renameat2;
            libc::syscall(number, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::RENAME_NOREPLACE)
        };
        let error = if renamed == 0 { return Ok(()) } else { io::Error::last_os_error() };
        if ![libc::EINVAL, libc::ENOSYS].contains(&error.raw_os_error().unwrap_or(0)) {
            return Err(error);
        }
    }
    // At most an empty directory is replaced, with one that has the same access.
    // SAFETY: as above.
    if unsafe { libc::rename(from.as_ptr(), to.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
