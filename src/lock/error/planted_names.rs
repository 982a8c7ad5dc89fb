//! The error that a lock file has several names, which other users may have made.

use crate::base::environment::SYSTEM_ROOT;
use crate::base::text::quote_path;
use crate::os;
use crate::os::proc::process;
use crate::os::replace::parent_directory;
use crate::store;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A lock file with several names (hard links) in a directory to which other users may write. One of them may have linked a file that
/// must not change, or has linked the lock file so that it is refused.
#[derive(Debug)]
pub struct PlantedNames {
    pub path: PathBuf,
    pub names: u64,
    /// The owner of the file.
    pub owner: u32,
}

impl PlantedNames {
    /// Returns the cause of the error, if it is that a file has several names.
    #[must_use]
    pub fn find_in(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns true if this user may replace the file.
    #[must_use]
    pub fn is_replaceable(&self) -> bool {
        [self.owner, 0].contains(&os::user_id())
    }

    /// The next step of this user.
    #[must_use]
    pub fn hint(&self) -> String {
        let Some(name) = store::name_of(&self.path) else { return "remove the other names of the file".to_owned() };
        let directory = parent_directory(&self.path);
        let command = if directory == Path::new(SYSTEM_ROOT) {
            format!("`aba-lock clean --system {name}`")
        } else {
            format!("`ABA_LOCK_DIR={} aba-lock clean {name}`", quote_path(directory))
        };
        if self.is_replaceable() {
            return format!("run {command}, which removes the file, or says why it cannot");
        }
        let who = match self.owner {
            0 => "root".to_owned(),
            owner => format!("user {} or root", process::user_name(owner)),
        };
        format!("run as {who}: {command}, which removes the file, or says why it cannot")
    }
}

impl fmt::Display for PlantedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it has {} names (hard links), and other users may write to its directory", self.names)
    }
}

impl std::error::Error for PlantedNames {}
