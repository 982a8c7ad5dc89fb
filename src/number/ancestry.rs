//! Distinguishes directories that were deleted from directories that cannot be reached at the moment.
//!
//! A row of a registry belongs to a directory, and `prune` drops the row only if the directory was certainly deleted. A path
//! that does not exist proves nothing, because its file system may be unmounted. So each row stores an [`Ancestry`]: the
//! identities that the directories above its own directory had when the row was last used. `plan` reads it, and `list` and
//! `prune` compare it ([`has_vanished`]).

use crate::os::{self, Identity};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// The identities of the directories above a directory, from its parent up to the mount point of its file system.
/// Directories above the mount point are left out: they stay the same when the file system is unmounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestry {
    above: Vec<u32>,
}

impl Ancestry {
    /// Reads the ancestry of an existing directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut below = os::identity(directory)?;
        let mut above = Vec::new();
        for directory in directory.ancestors().skip(1) {
            let here = os::identity(directory)?;
            if (here.device, here.mount) != (below.device, below.mount) {
                break;
            }
            let Some(hash) = hash_directory(&here) else { break };
            above.push(hash);
            below = here;
        }
        Ok(Self { above })
    }

    /// Parses the ancestry in a row: 8 hexadecimal digits for each directory, or `-` for an empty one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::default());
        }
        let parse = |word: &str| if word.len() == 8 { u32::from_str_radix(word, 16).ok() } else { None };
        Some(Self { above: text.split('.').map(parse).collect::<Option<_>>()? })
    }
}

impl fmt::Display for Ancestry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.above.is_empty() {
            return f.write_str("-");
        }
        for (at, hash) in self.above.iter().enumerate() {
            write!(f, "{}{hash:08x}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// Returns a hash that identifies a directory. Returns `None` if neither its creation time nor the number of its file
/// system is known: a later directory could then get the same device and inode.
fn hash_directory(directory: &Identity) -> Option<u32> {
    let origin = directory.origin?;
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let bytes = [directory.device.to_le_bytes(), directory.inode.to_le_bytes()].concat();
    for byte in bytes.into_iter().chain(origin.to_le_bytes()) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u32::try_from((sum ^ (sum >> 32)) & 0xffff_ffff).ok()
}

/// Returns true if `directory`, whose ancestry was `ancestry`, was certainly deleted: the path does not exist, and its
/// deepest existing ancestor is the same directory as before, on the file system of the deleted directory.
///
/// Returns false if the path cannot be examined for another reason (no permission, a loop of symbolic links, a stale
/// mount), if an ancestor is now a different directory (the old one may be covered by a mount, moved or unmounted), and
/// if the path now leads through a symbolic link (which may point to another disk).
#[must_use]
pub fn has_vanished(directory: &Path, ancestry: &Ancestry) -> bool {
    let ancestors = directory.ancestors().map(|path| (path, fs::symlink_metadata(path))).enumerate();
    let mut existing =
        ancestors.skip_while(|(_, (_, found))| matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound));
    let Some((at, (deepest, Ok(_)))) = existing.next() else { return false };
    let was = at.checked_sub(1).and_then(|at| ancestry.above.get(at));
    was.is_some()
        && fs::canonicalize(deepest).is_ok_and(|real| real == deepest)
        && os::identity(deepest).is_ok_and(|identity| hash_directory(&identity).as_ref() == was)
}
