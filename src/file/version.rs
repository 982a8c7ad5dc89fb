//! The version of a file: values that change when the file is written to or replaced.
//!
//! `update` compares versions to notice that another process, its own command or a check has changed a file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The identity, size and times of a file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    id: (u64, u64),
    len: u64,
    modified: (i64, i64),
    /// A writer can set the modification time back, but not the time of the last change of the inode.
    changed: (i64, i64),
}

impl FileVersion {
    pub(super) fn from_metadata(data: &Metadata) -> Self {
        Self {
            id: file_id(data),
            len: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }

    /// Returns true if `data` is of the same inode, which may have other content.
    pub(super) fn is_same_inode(&self, data: &Metadata) -> bool {
        self.id == file_id(data)
    }
}

fn file_id(data: &Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}
