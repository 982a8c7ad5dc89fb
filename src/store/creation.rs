//! Decides the mode and the owner of the files that are created in the state root and of lock files elsewhere. All code that
//! creates such a file asks here, so that another policy changes only this module.
//!
//! The policy: in the state root, a file is private to the owner of its directory. If root creates it in the directory of another
//! user, it belongs to that user, because one call with sudo(8) and the `HOME` of the user would lock the user out otherwise. A lock
//! file elsewhere gets the mode that a file of the user would get.
//!
//! The shell library creates no file: it opens files that exist, and calls `aba-lock path --create` for others. There is one
//! exception:
//!
//! 1. The library finds that the lock file exists.
//! 2. `clean` removes the file, because it is free.
//! 3. Bash opens the path. It opens with `O_CREAT`, because its `<>` cannot do without, so the file is created with the umask of
//!    the script. The lock is right, because the helper verifies that the path leads to the file.

use crate::base::target::Kind;
use crate::os;
use crate::os::replace::parent_directory;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The mode of a directory for locks, registries and numbers.
pub const STATE_DIRECTORY: u32 = 0o700;

/// The mode of a directory of tasks, through which other users reach a task by its id.
pub const TASK_DIRECTORY: u32 = 0o711;

/// The mode of a file of the user, of which the umask removes bits.
pub const USERS_FILE: u32 = 0o666;

/// The access that the owner of a new file has with any umask. If the user could not open a lock file, every later attempt to
/// lock it would fail.
const OWNER_ACCESS: u32 = 0o600;

/// Returns the mode of a new file in a directory of the state root, such as a lock file, a log, a file of a task or a registry.
#[must_use]
pub fn mode_in(_directory: &Path) -> u32 {
    0o600
}

/// Returns the mode of a new lock file at `path`.
#[must_use]
pub fn mode_of_lock_file(path: &Path, kind: Kind) -> u32 {
    match kind {
        Kind::Named => mode_in(parent_directory(path)),
        Kind::Users | Kind::Beside => USERS_FILE,
    }
}

/// Creates a file that belongs to the owner of its directory. `open` opens it with `options`, which have the mode.
pub fn create_for_owner(
    path: &Path,
    options: &OpenOptions,
    open: impl Fn(&OpenOptions, &Path) -> io::Result<File>,
) -> io::Result<File> {
    let file = os::as_owner(parent_directory(path), || open(options, path))?;
    // The umask may have removed these bits.
    let mode = file.metadata().ok().map(|data| data.mode() & 0o777);
    if let Some(mode) = mode.filter(|mode| mode & OWNER_ACCESS != OWNER_ACCESS) {
        let _ = file.set_permissions(Permissions::from_mode(mode | OWNER_ACCESS));
    }
    Ok(file)
}
