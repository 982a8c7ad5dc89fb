//! The mode and the group of a new file, which do not depend on the umask.

use super::access_list::{AccessList, remove_inherited_list};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// The bits of a mode that give rights to other users than the owner.
const SHARED: u32 = 0o077;

/// The mode and the group of a new file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAccess {
    pub mode: u32,
    /// The group. `None`: the one that the kernel gives to it.
    pub group: Option<u32>,
}

impl FileAccess {
    /// A mode, and the group that the kernel gives to the file.
    #[must_use]
    pub fn with_mode(mode: u32) -> Self {
        Self { mode, group: None }
    }

    /// Sets the group, and then the mode, of a file that no other process can open yet.
    pub fn apply(self, file: &File) -> io::Result<()> {
        let data = file.metadata()?;
        if let Some(group) = self.group.filter(|group| *group != data.gid()) {
            fchown(file, None, Some(group))?;
        }
        if data.mode() & 0o7777 != self.mode {
            file.set_permissions(Permissions::from_mode(self.mode))?;
        }
        Ok(())
    }

    /// Does the same for a new file in `directory`, but gives the rights of the access control list of the directory to a file that
    /// users share. A list that the file has from the default list of the directory has no effect.
    pub fn apply_in(self, directory: &Path, file: &File) -> io::Result<()> {
        if self.mode & SHARED == 0 {
            // The mode is also the mask of a list.
            return self.apply(file);
        }
        let Some(list) = AccessList::of_directory(directory) else {
            remove_inherited_list(file)?;
            return self.apply(file);
        };
        let data = fs::metadata(directory)?;
        if let Some(group) = self.group {
            // The list has an entry for the group, so this only shows the group in the output of ls(1).
            let _ = fchown(file, None, Some(group));
        }
        list.apply_to_new_file(file, data.uid(), data.gid())
    }
}
