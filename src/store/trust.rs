//! Refuses a state root in which another user could exchange locks.

use super::error::StoreError;
use super::{IN_HOME, Store};
use crate::base::environment::value;
use crate::os;
use crate::store::creation::DirectoryUsers;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Store {
    /// Fails if the path of the root leads through a link that another user may have planted, or if every user can replace files in
    /// the root. A lock there would exclude only the processes that find the same file.
    ///
    /// A command calls this before it locks or removes a file. One that only shows locks does not, because it trusts none of
    /// these files. Nor is it called to release a lock. The directory in the home directory is not examined, because only its user
    /// can have shared it, and the usual lock must not take longer.
    pub fn refuse_untrusted(&self) -> Result<(), StoreError> {
        // The directory of all users was examined when it was found.
        if self.is_system() || self.is_of_this_user() {
            return Ok(());
        }
        let untrusted = |link: Option<&Path>, source| {
            Err(StoreError::Untrusted { path: self.root.clone(), link: link.map(Path::to_owned), source })
        };
        for place in self.root.ancestors() {
            // Only root can make a link in `/`.
            if place.parent().and_then(Path::parent).is_none() && place != self.root {
                break;
            }
            // If it cannot be examined, the caller reports that when it opens a file.
            let Ok(found) = fs::symlink_metadata(place) else { continue };
            if let Err(source) = os::refuse_if_planted(place, &found) {
                return untrusted(Some(place), source);
            }
            if place == self.root && is_unsafe(place, &found) {
                let what = "every user can replace files in it, because it is not sticky";
                return untrusted(None, io::Error::other(what));
            }
        }
        Ok(())
    }

    /// Returns true if the root is the one in `HOME`.
    fn is_of_this_user(&self) -> bool {
        self.root.ends_with(IN_HOME) && value("HOME").is_none_or(|home| self.root.parent() == Some(Path::new(&home)))
    }
}

/// Returns true if every user can replace files in the directory at `path`, at which lstat(2) has `found` something.
fn is_unsafe(path: &Path, found: &fs::Metadata) -> bool {
    let is_unsafe = |data: &fs::Metadata| DirectoryUsers::from_mode(data.mode(), data.gid()) == DirectoryUsers::Unsafe;
    if found.is_symlink() {
        fs::metadata(path).is_ok_and(|data| data.is_dir() && is_unsafe(&data))
    } else {
        found.is_dir() && is_unsafe(found)
    }
}
