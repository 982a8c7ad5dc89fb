//! Recognizes links and names that another user may have planted in a directory that all users may write to.
//!
//! The rules are those of `fs.protected_symlinks` and `fs.protected_hardlinks` (`proc_sys_fs(5)`), which not all machines set. They also
//! hold for directories without the sticky bit, and the kernel applies the first one only to the last part of a path.

use super::mode::{STICKY, WRITE_BY_OTHERS};
use super::replace::parent_directory;
use super::this_process::user_id;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bits of a directory in which all users may create names, and remove only their own.
const STICKY_AND_OPEN: u32 = STICKY | WRITE_BY_OTHERS;

/// Fails if `path` is a link that this process must not follow: a link of another user than root, in a directory that all users may
/// write to and that does not belong to that user.
pub fn refuse_planted_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) => refuse_if_planted(path, &found),
        Err(_) => Ok(()),
    }
}

/// Does the same as [`refuse_planted_link`] for a `path` at which lstat(2) has `found` something.
pub fn refuse_if_planted(path: &Path, found: &Metadata) -> io::Result<()> {
    if !found.is_symlink() || [user_id(), 0].contains(&found.uid()) {
        return Ok(());
    }
    let directory = fs::metadata(parent_directory(path))?;
    if directory.mode() & WRITE_BY_OTHERS == 0 || directory.uid() == found.uid() {
        return Ok(());
    }
    Err(planted_error("a link"))
}

/// Fails if an open file with this metadata has another name than `path`, which another user may have planted in a sticky directory
/// that all users may write to.
pub fn refuse_planted_name(path: &Path, file: &Metadata) -> io::Result<()> {
    if file.nlink() < 2 {
        return Ok(());
    }
    let directory = fs::metadata(parent_directory(path))?;
    if directory.mode() & STICKY_AND_OPEN == STICKY_AND_OPEN { Err(planted_error("a hard link")) } else { Ok(()) }
}

fn planted_error(what: &str) -> io::Error {
    let text = format!("it is {what} that another user may have made, in a directory that all users may write to");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_link_of_our_own_and_a_link_in_a_private_directory_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let kept = tempfile::NamedTempFile::new_in(directory.path()).unwrap();
        let (path, file) = (directory.path().join("link"), kept.path());
        symlink(file, &path).unwrap();
        refuse_planted_link(&path).unwrap();
        fs::hard_link(file, directory.path().join("name")).unwrap();
        let open = fs::metadata(file).unwrap();
        refuse_planted_name(file, &open).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        refuse_planted_link(&path).unwrap();
        assert!(refuse_planted_name(file, &open).is_err());
    }
}
