//! Whether a directory is certainly gone, and does not merely happen to be out of sight.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where a directory was, as far as it helps to tell later that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The device that it was on.
    pub device: u64,
    /// The inode of the directory above it.
    pub parent: u64,
}

impl Place {
    /// Where a directory is now.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let device = fs::metadata(directory)?.dev();
        Ok(Self {
            device,
            parent: directory.parent().map_or(Ok(0), |parent| fs::metadata(parent).map(|data| data.ino()))?,
        })
    }
}

/// Whether `directory`, which was at `place`, is certainly gone.
///
/// It is not when it is there, or when looking for it fails in any other way than that there is no such name: no
/// permission, a link loop, a stale mount. Nor when what is left of the path
///
/// - leads through a link or something else that is no directory: it may lead to another disk,
/// - is on another device than the directory was: that is not mounted now (or devices have other numbers since a boot),
/// - or is an empty directory, other than the one that the directory was in: that may be where something is mounted.
#[must_use]
pub fn is_gone(directory: &Path, place: Place) -> bool {
    let mut ancestors = directory.ancestors();
    let mut above = ancestors.by_ref().map(|path| (path, fs::symlink_metadata(path)));
    let left = above.find(|(_, found)| !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound));
    let Some((left, Ok(data))) = left else { return false };
    if left == directory || !data.is_dir() || data.dev() != place.device {
        return false;
    }
    let Ok(mut entries) = fs::read_dir(left) else { return false };
    let was_in_it = Some(left) == directory.parent() && data.ino() == place.parent;
    was_in_it || entries.next().is_some_and(|entry| entry.is_ok())
}
