//! The hint for a lock file that this user may not open.

use crate::base::text::quote_path;
use crate::store;
use std::path::Path;

/// Returns the hint for a lock file that this user may not open. `owner` is the other user who owns the file, if it exists.
pub(super) fn hint_for_denied(path: &Path, owner: Option<&str>) -> String {
    let is_named = store::name_of(path).is_some();
    match owner {
        Some(owner) => {
            let otherwise =
                if is_named { "; for locks of your own, set ABA_LOCK_DIR to another directory" } else { "" };
            format!("to share this lock, run as user {owner}: `chmod a+rw {}`{otherwise}", quote_path(path))
        }
        None if is_named => "set ABA_LOCK_DIR to a writable directory on a local disk".to_owned(),
        None => "use a file that you may read, or a directory that you may write to".to_owned(),
    }
}
