//! The mode and the group of a new file, which do not depend on the umask.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

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
}
