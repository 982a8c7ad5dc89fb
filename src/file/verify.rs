//! Detection of changes that other processes made to the file, its path or its lock during an update.
//!
//! A commit verifies the file before it replaces it. An update that ends without a change verifies it before it says so.

use super::attributes::copy_attributes;
use super::edit::Edit;
use super::error::FileError;
use super::path::{MissingFile, follow_links, with_suffix};
use super::version::FileVersion;
use crate::os;
use crate::os::replace::rename_file;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Maximum number of names that are tried for saved old content.
const MAX_SAVED: u32 = 100;

impl Edit {
    /// Checks that the path still leads to the file that was read, that the file has its old content, and that the lock file
    /// that other processes open is the one that this process has locked.
    ///
    /// Returns [`FileError::LeadsElsewhere`], [`FileError::ChangedMeanwhile`] or [`FileError::LockRemoved`] otherwise.
    pub fn verify(&self) -> Result<(), FileError> {
        // The path of a private file has no links.
        if self.missing != MissingFile::CreatePrivate {
            match follow_links(&self.asked) {
                Ok(path) if path == self.path => {}
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(self.failed("find")(why)),
                _ => return Err(FileError::LeadsElsewhere { label: self.label.clone() }),
            }
        }
        let now = match fs::symlink_metadata(&self.path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(self.failed("find")(why)),
            now => now.ok(),
        };
        if !self.has_old_content(now.as_ref()).map_err(self.failed("read"))? {
            return Err(self.changed_error(now.and_then(|now| self.save_lost_content(&now))));
        }
        match self.lock.removed_path() {
            Some(path) => Err(FileError::LockRemoved { label: self.label.clone(), path: path.to_owned() }),
            None => Ok(()),
        }
    }

    fn has_old_content(&self, now: Option<&Metadata>) -> io::Result<bool> {
        Ok(match (&self.version, now, &self.kept) {
            (None, None, _) => true,
            // The content decides, not the times: a new mode or a new hard link changes the times only, and a coarse clock may
            // give two writes the same time.
            (Some(version), Some(now), Some(kept)) => {
                version.is_same_inode(now) && self.read_if_small()?.as_ref() == Some(kept)
            }
            (Some(version), Some(now), None) => FileVersion::from_metadata(now) == *version,
            _ => false,
        })
    }

    /// Saves the old content next to the file, if another process has truncated the file: the shell does so for
    /// `sed s/a/b/ f >f` before sed reads the file. Returns the path.
    fn save_lost_content(&self, now: &Metadata) -> Option<PathBuf> {
        let (version, kept, old) = (self.version.as_ref()?, self.kept.as_ref()?, self.old.as_ref()?);
        if !version.is_same_inode(now) || now.len() >= kept.len() as u64 {
            return None;
        }
        // The copy gets its name when it is complete.
        let new = self.scratch().ok()?.inside.join("saved");
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).ok()?;
        os::without_size_signal(|| copy.write_all(kept)).and_then(|()| copy.sync_all()).ok()?;
        // If the attributes cannot be copied, the copy stays private.
        let _ = copy_attributes(&self.place, old, &copy);
        for number in 0..MAX_SAVED {
            let suffix = if number == 0 { ".saved".to_owned() } else { format!(".saved.{number}") };
            let name = with_suffix(&self.place, &suffix);
            let named = match fs::hard_link(&new, &name) {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => continue,
                // This file system has no hard links.
                Err(_) if fs::symlink_metadata(&name).is_err() => rename_file(&new, &name),
                named => named,
            };
            return named.ok().map(|()| with_suffix(&self.path, &suffix));
        }
        None
    }
}
