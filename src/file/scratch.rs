//! The private directory next to the user's file. It holds the draft, the copy for a command, and a backup or saved
//! content before that gets its name.
//!
//! The directory is on the file system of the file, so the draft can be renamed to the file. No other user can look
//! into the directory. It is removed when the update ends. All updates of a file use one name for it, so the holder of
//! the lock finds and removes the directory that a killed update left.

use super::path::{open_directory, path_through_descriptor};
use crate::os;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A private directory next to the file. For a file in a private directory, it is only the path of the draft
/// ([`Scratch::for_private_file`]).
#[derive(Debug)]
pub(super) struct Scratch {
    /// The path by which other processes reach the directory.
    pub(super) visible: PathBuf,
    /// The path through the open directory of the file.
    place: PathBuf,
    /// The path for the files in the directory, through its own descriptor. No other directory can take its place on
    /// this path.
    pub(super) inside: PathBuf,
    _open: Option<File>,
}

impl Scratch {
    /// Creates the directory next to the file `path`, which this process reaches as `place`.
    pub(super) fn create(path: &Path, place: &Path) -> io::Result<Self> {
        match Self::create_at(scratch_path(path), scratch_path(place)) {
            // A killed update of another user left the directory, and only that user can remove it.
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                Self::create_at(scratch_path_of_user(path), scratch_path_of_user(place))
            }
            created => created,
        }
    }

    fn create_at(visible: PathBuf, place: PathBuf) -> io::Result<Self> {
        create_private_directory(&place)?;
        let open = open_directory(&place)?;
        if open.metadata()?.uid() != os::user_id() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let inside = path_through_descriptor(&open).unwrap_or_else(|| place.clone());
        Ok(Self { visible, place, inside, _open: Some(open) })
    }

    /// Returns the path at which the draft of a file in a private directory will be created. Nothing is created here.
    pub(super) fn for_private_file(path: &Path) -> Self {
        let path = scratch_path(path);
        Self { visible: path.clone(), place: path.clone(), inside: path, _open: None }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_scratch(&self.place);
    }
}

/// Removes the private directories that killed updates left next to `place`. The caller holds the lock of the file.
pub(super) fn remove_leftovers(place: &Path) {
    for name in [scratch_path(place), scratch_path_of_user(place)] {
        remove_scratch(&name);
    }
}

/// Returns the path of the scratch directory. It is the same for all holders of the lock of the file, so that each finds what
/// an earlier one left.
fn scratch_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let bytes = name.as_encoded_bytes();
    let mut new = b".".to_vec();
    // A name has at most 255 bytes, and the number of a user must fit, too. A hash distinguishes long names that begin with
    // the same bytes, so that an update of one file never removes the scratch directory of another. (A later compiler may
    // compute another hash. In the worst case, a leftover directory then stays.)
    if bytes.len() > 229 {
        let mut hash = DefaultHasher::new();
        hash.write(bytes);
        new.extend_from_slice(&bytes[..212]);
        new.extend_from_slice(format!("-{:016x}", hash.finish()).as_bytes());
    } else {
        new.extend_from_slice(bytes);
    }
    new.extend_from_slice(b".aba-lock.d");
    path.with_file_name(OsString::from_vec(new))
}

/// Returns the path that this user takes if another user's directory is at [`scratch_path`].
fn scratch_path_of_user(path: &Path) -> PathBuf {
    let mut name = scratch_path(path).into_os_string();
    name.push(format!("-{}", os::user_id()));
    name.into()
}

/// Returns a name that no earlier update used.
pub(super) fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}

/// Creates a directory that is private to this user, whatever the umask is.
pub(super) fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    if os::umask() & 0o700 != 0 { restore_access(path).map(drop) } else { Ok(()) }
}

/// Gives a directory mode 0700. Returns a path to it, and the descriptor that keeps this path valid.
fn restore_access(path: &Path) -> io::Result<(PathBuf, File)> {
    let open = open_directory(path)?;
    let inside = path_through_descriptor(&open).ok_or(io::ErrorKind::Unsupported)?;
    fs::set_permissions(&inside, Permissions::from_mode(0o700))?;
    Ok((inside, open))
}

/// Gives a directory and all directories in it mode 0700. No link is followed, even if a link takes the place of a directory
/// at the same time.
fn restore_access_to_all(directory: &Path) {
    let Ok((inside, _open)) = restore_access(directory) else { return };
    for entry in fs::read_dir(inside).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            restore_access_to_all(&entry.path());
        }
    }
}

/// Removes a scratch directory or file, also if a command has made a part of it inaccessible.
fn remove_scratch(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => {
            if fs::remove_dir_all(path).is_err() {
                restore_access_to_all(path);
                let _ = fs::remove_dir_all(path);
            }
        }
        Ok(_) => {
            let _ = fs::remove_file(path);
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn access_to_leftover_directories_is_restored_but_not_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().mode() & 0o777;
        for name in ["theirs", "theirs/deep", "ours", "ours/deep"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["theirs/deep", "theirs"] {
            fs::set_permissions(path(name), Permissions::from_mode(0o755)).unwrap();
        }
        symlink(path("theirs"), path("link")).unwrap();
        symlink(path("theirs"), path("ours/link")).unwrap();
        fs::set_permissions(path("ours/deep"), Permissions::from_mode(0o000)).unwrap();
        restore_access_to_all(&path("link"));
        restore_access_to_all(&path("ours"));
        assert_eq!((mode("theirs"), mode("theirs/deep"), mode("ours/deep")), (0o755, 0o755, 0o700));
        fs::set_permissions(path("ours/deep"), Permissions::from_mode(0o000)).unwrap();
        remove_scratch(&path("ours"));
        assert!(!path("ours").exists() && path("theirs").exists());
    }
}
