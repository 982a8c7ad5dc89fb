//! The hint about a file or directory of this user whose mode denies access to its own owner.

use crate::base::text::quote_path;
use crate::os::{self, Right};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the hint to change the mode of a file or directory of this user, because the mode does not let its owner read `path`, or search a
/// directory on the way to `path`.
#[must_use]
pub fn hint_about_mode(path: &Path) -> Option<String> {
    let (place, data) = path.ancestors().find_map(|place| Some((place, fs::symlink_metadata(place).ok()?)))?;
    let (right, bit) = if place == path { (Right::Read, 0o400) } else { (Right::Execute, 0o100) };
    // No mode makes a directory of something else.
    let mode_matters = if place == path { data.is_file() || data.is_dir() } else { data.is_dir() };
    // Root can have the right without the bit.
    if !mode_matters || data.uid() != os::user_id() || data.mode() & bit != 0 || os::may(right, place).is_ok() {
        return None;
    }
    let rights = if data.is_dir() { "rwx" } else { "rw" };
    Some(format!("the mode of {} denies this to its owner: `chmod u+{rights} {}`", place.display(), quote_path(place)))
}
