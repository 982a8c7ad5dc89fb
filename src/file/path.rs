//! Resolves the path of the user's file, and opens the file and its directory.
//!
//! The user who owns a directory on the path can exchange that directory for another one, or for a link, at any time. That user
//! must not choose where this process writes. So an update resolves the links of the path once, opens the directory, and
//! reaches everything in it through the open descriptor.

use super::error::FileError;
use crate::os::replace::parent_directory;
use crate::os::{self, word_for};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Maximum number of links that are followed from the user's path. The kernel has the same limit.
const MAX_LINKS: u32 = 40;

/// The meaning of a missing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFile {
    /// The path is a mistake: an error is returned.
    Refuse,
    /// There is no old content: the file is created.
    Create,
    /// There is no old content, and the file is private to its user, whatever the umask is. Its directory is private, too. So
    /// the draft needs no directory of its own, which would cost as much time as the rest of the update. Such a file has no
    /// backup.
    CreatePrivate,
}

/// Resolves all links of a path, even if the last link leads to a file that does not exist. Fails for a link that another user may have
/// planted.
pub(super) fn follow_links(file: &Path) -> io::Result<PathBuf> {
    let mut path = file.to_owned();
    if file.as_os_str().as_encoded_bytes().ends_with(b"/") {
        // The path is that of a directory.
        return fs::canonicalize(file);
    }
    for _ in 0..MAX_LINKS {
        let parent = parent_directory(&path);
        let Some(name) = path.file_name() else { return fs::canonicalize(&path) };
        path = fs::canonicalize(parent)?.join(name);
        match fs::read_link(&path) {
            Ok(target) => {
                os::refuse_planted_link(&path)?;
                path = parent_directory(&path).join(target);
            }
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Opens the file for reading. Returns `None` if it is missing and may be created, and [`FileError::NotAFile`] if it is not a
/// regular file.
pub(super) fn open_regular_file(label: &str, path: &Path, missing: MissingFile) -> Result<Option<File>, FileError> {
    // Without O_NONBLOCK, opening a FIFO would block until it has a writer.
    let mut options = OpenOptions::new();
    match options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => {
            let kind = file.metadata().map_err(|source| no_file_error(label, source))?.file_type();
            if kind.is_file() {
                return Ok(Some(file));
            }
            Err(FileError::NotAFile { label: label.to_owned(), kind: word_for(kind) })
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound && missing != MissingFile::Refuse => Ok(None),
        Err(source) if source.raw_os_error() == Some(libc::ENXIO) => {
            Err(FileError::NotAFile { label: label.to_owned(), kind: "socket" })
        }
        Err(source) => Err(no_file_error(label, source)),
    }
}

pub(super) fn no_file_error(label: &str, source: io::Error) -> FileError {
    FileError::NoFile { label: label.to_owned(), source }
}

/// Opens a directory in which files will be created. A link is not followed. On Linux and FreeBSD, the directory need not be
/// readable.
pub(super) fn open_directory(path: &Path) -> io::Result<File> {
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    const NOT_TO_READ: i32 = libc::O_PATH;
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    const NOT_TO_READ: i32 = 0;
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | NOT_TO_READ).open(path)
}

/// Returns a path to an open directory that stays valid if the directory is moved. `None` if `/proc` is not mounted.
pub(super) fn path_through_descriptor(directory: &File) -> Option<PathBuf> {
    Some(PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))).filter(|path| path.is_dir())
}

/// Returns the path of the file `path` in its directory, which is open as `directory`.
pub(super) fn path_in_directory(directory: Option<&File>, path: &Path) -> PathBuf {
    match (directory.and_then(path_through_descriptor), path.file_name()) {
        (Some(inside), Some(name)) => inside.join(name),
        _ => path.to_owned(),
    }
}

pub(super) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
