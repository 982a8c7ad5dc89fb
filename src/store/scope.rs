//! The name of the scope of a lock: `user`, `system`, or `directory` for the directory of `ABA_LOCK_DIR`, unless it is that of
//! `--system`.

use super::name_of;
use crate::base::environment::{SYSTEM_ROOT, value};
use crate::base::target::{Kind, Target};
use std::path::Path;

/// The scope of a lock that has a name. `None` for the lock of a file.
#[must_use]
pub fn find_scope(target: &Target) -> Option<&'static str> {
    match target.kind {
        Kind::Named => Some(find_scope_of_root(&target.path)),
        Kind::Beside | Kind::Users => None,
    }
}

/// The scope of the lock whose file is at `path`. `None` if the file is not that of a name.
#[must_use]
pub fn find_scope_of_file(path: &Path) -> Option<&'static str> {
    name_of(path).map(|_| find_scope_of_root(path))
}

/// The scope of the locks in the state root `root`, or of the one that has the path `root` in it.
#[must_use]
pub fn find_scope_of_root(root: &Path) -> &'static str {
    if root.starts_with(SYSTEM_ROOT) {
        "system"
    } else if value("ABA_LOCK_DIR").is_some() {
        "directory"
    } else {
        "user"
    }
}
