//! Refuses a state root in which another user could exchange locks.

use super::error::StoreError;
use super::{IN_HOME, Store};
use crate::base::environment::value;
use crate::os;
use crate::os::replace::parent_directory;
use crate::store::creation::DirectoryUsers;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Maximum number of links in the path of the root. The kernel has the same limit.
const MAX_LINKS: usize = 40;

impl Store {
    /// Fails if the path of the root leads through a link that another user may have planted, or if every user can replace files in
    /// the root. A lock there would exclude only the processes that find the same file. The target of each link on the path, and its
    /// path, are examined in the same way, because a link of this user may lead into a directory of all users. A root whose group may
    /// do less in it than all other users is refused, too.
    ///
    /// A command calls this before it locks or removes a file. One that only shows locks does not, because it trusts none of
    /// these files. Nor is it called to release a lock. The directory in the home directory is not examined, because only its user
    /// can have shared it, and the usual lock must not take longer.
    pub fn refuse_untrusted(&self) -> Result<(), StoreError> {
        // The directory of all users was examined when it was found.
        if self.is_system() || self.is_of_this_user() {
            return Ok(());
        }
        let untrusted = |link, source| StoreError::Untrusted { path: self.root.clone(), link, source };
        // Without a slash at its end, because of which lstat(2) would follow a link.
        let root = self.root.components().as_path();
        let mut targets = Vec::new();
        let examine = |path: &Path, targets: &mut _| {
            examine_path(path, targets).map_err(|(link, source)| untrusted(Some(link), source))
        };
        let found = examine(root, &mut targets)?;
        let mut examined = 0;
        while let Some(target) = targets.get(examined).cloned() {
            examine(&target, &mut targets)?;
            examined += 1;
        }
        if let Some(what) = found.and_then(|found| find_users(root, &found)?.problem()) {
            return Err(untrusted(None, io::Error::other(what)));
        }
        Ok(())
    }

    /// Returns true if the root is the one in `HOME`.
    fn is_of_this_user(&self) -> bool {
        self.root.ends_with(IN_HOME) && value("HOME").is_none_or(|home| self.root.parent() == Some(Path::new(&home)))
    }
}

/// Examines the parts of `path`, and adds the targets of the links among them to `targets`. Returns what lstat(2) has found at `path`
/// itself, or fails with the link that is refused.
fn examine_path(path: &Path, targets: &mut Vec<PathBuf>) -> Result<Option<fs::Metadata>, (PathBuf, io::Error)> {
    let mut found_at_path = None;
    for place in path.ancestors() {
        // Only root can make a link in `/`.
        if place.parent().and_then(Path::parent).is_none() && place != path {
            break;
        }
        // If it cannot be examined, the caller reports that when it opens a file.
        let Ok(found) = fs::symlink_metadata(place) else { continue };
        let refused = |source| (place.to_owned(), source);
        os::refuse_if_planted(place, &found).map_err(refused)?;
        if found.is_symlink()
            && let Ok(target) = fs::read_link(place)
        {
            let target = parent_directory(place).join(target).components().collect();
            if !targets.contains(&target) {
                // The kernel would not follow more links, either.
                if targets.len() == MAX_LINKS {
                    return Err(refused(io::Error::from_raw_os_error(libc::ELOOP)));
                }
                targets.push(target);
            }
        }
        if place == path {
            found_at_path = Some(found);
        }
    }
    Ok(found_at_path)
}

/// Returns the users who share the directory at `path`, at which lstat(2) has `found` something. `None` if it is no directory.
fn find_users(path: &Path, found: &fs::Metadata) -> Option<DirectoryUsers> {
    let target = if found.is_symlink() { Some(fs::metadata(path).ok()?) } else { None };
    let data = target.as_ref().unwrap_or(found);
    data.is_dir().then(|| DirectoryUsers::from_mode(data.mode(), data.gid()))
}
