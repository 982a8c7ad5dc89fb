//! Whether a directory is certainly gone, and does not merely happen to be out of sight.

use crate::os::{self, Identity};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Where a directory was, as far as it helps to tell later that it is gone: which directories were above it, from its
/// parent up to where its file system is mounted. Not further: what is above that is still the same when it is unmounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestry {
    above: Vec<u32>,
}

impl Ancestry {
    /// Where a directory is now.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut below = os::identity(directory)?;
        let mut above = Vec::new();
        for directory in directory.ancestors().skip(1) {
            let here = os::identity(directory)?;
            if (here.device, here.mount) != (below.device, below.mount) {
                break;
            }
            let Some(word) = hash_directory(&here) else { break };
            above.push(word);
            below = here;
        }
        Ok(Self { above })
    }

    /// As a row has it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::default());
        }
        let word = |word: &str| if word.len() == 8 { u32::from_str_radix(word, 16).ok() } else { None };
        Some(Self { above: text.split('.').map(word).collect::<Option<_>>()? })
    }
}

impl fmt::Display for Ancestry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.above.is_empty() {
            return f.write_str("-");
        }
        for (at, word) in self.above.iter().enumerate() {
            write!(f, "{}{word:08x}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// A directory in a word that another hardly has. `None` where it could be another, which got the same numbers later.
fn hash_directory(directory: &Identity) -> Option<u32> {
    let origin = directory.origin?;
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let bytes = [directory.device.to_le_bytes(), directory.inode.to_le_bytes()].concat();
    for byte in bytes.into_iter().chain(origin.to_le_bytes()) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    u32::try_from((sum ^ (sum >> 32)) & 0xffff_ffff).ok()
}

/// Whether `directory`, which was at `place`, is certainly gone: there is no such name, and what is left of the path is
/// the very directory that was there, on the file system that the directory was on.
///
/// So it is not when looking for it fails in any other way: no permission, a link loop, a stale mount. Nor when something
/// above it is another than it was: what was there may be covered, moved, or not mounted now. Nor when the way leads
/// through a link by now: it may lead to another disk.
#[must_use]
pub fn has_vanished(directory: &Path, ancestry: &Ancestry) -> bool {
    let above = directory.ancestors().map(|path| (path, fs::symlink_metadata(path))).enumerate();
    let left =
        above.skip_while(|(_, (_, found))| matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound));
    let Some((at, (left, Ok(_)))) = left.into_iter().next() else { return false };
    let was = at.checked_sub(1).and_then(|at| ancestry.above.get(at));
    was.is_some()
        && fs::canonicalize(left).is_ok_and(|real| real == left)
        && os::identity(left).is_ok_and(|left| hash_directory(&left).as_ref() == was)
}
