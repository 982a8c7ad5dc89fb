//! Checks of the permissions of files that hold secrets. `token_file` and `tls` log a warning if other users can read
//! or change such a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns true if every user of this machine can read the file.
pub(crate) fn is_world_readable(file: &Path) -> bool {
    has_mode(file, 0o4)
}

/// Returns true if every user of this machine can change the file.
pub(crate) fn is_world_writable(file: &Path) -> bool {
    has_mode(file, 0o2)
}

fn has_mode(file: &Path, mode: u32) -> bool {
    fs::metadata(file).is_ok_and(|data| data.permissions().mode() & mode != 0)
}
