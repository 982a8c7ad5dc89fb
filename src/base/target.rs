//! A lock to acquire, as plain data: its label, the path of its file, and how long a caller waits for it.

use crate::os;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to do when another has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Fail at once.
    No,
    /// Block until it is free.
    Forever,
    /// Block until it is free, at most so long.
    For(Duration),
}

impl Wait {
    /// Returns true if the caller waits for a lock that another process holds.
    #[must_use]
    pub fn blocks(self) -> bool {
        !matches!(self, Self::No | Self::For(Duration::ZERO))
    }
}

/// A lock to take: what to call it, and where its file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What messages call it.
    pub label: String,
    /// The lock file.
    pub path: PathBuf,
    /// Whose file that is.
    pub kind: Kind,
    /// The path that the user gave, if that leads to `path` through a link.
    pub link: Option<PathBuf>,
}

impl Target {
    /// The lock of a file of the user's.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let label = path.display().to_string();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let in_real_directory = || Some(fs::canonicalize(absolute.parent()?).ok()?.join(absolute.file_name()?));
        // A link that the user names is meant; one that is put in the place of its target afterwards is not.
        let target = fs::canonicalize(&absolute).ok().or_else(in_real_directory).unwrap_or_else(|| absolute.clone());
        let link = (target != absolute).then_some(absolute);
        Self { path: target, label, kind: Kind::Users, link }
    }

    /// The same target, where the link leads now.
    pub(crate) fn resolved(&self) -> Cow<'_, Self> {
        match &self.link {
            Some(link) => Cow::Owned(Self { label: self.label.clone(), ..Self::file(link) }),
            None => Cow::Borrowed(self),
        }
    }

    /// Returns true if this is the file that is open as `file`, also by the link.
    pub(crate) fn is_open_as(&self, file: &File) -> bool {
        os::leads_to(&self.path, file) && self.link.as_ref().is_none_or(|link| os::leads_to_through_link(link, file))
    }

    /// Returns true if both targets have the same file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        let id = |target: &Self| fs::metadata(&target.path).ok().map(|data| (data.dev(), data.ino()));
        self.path == other.path || (self.kind == Kind::Users && id(self).is_some_and(|file| id(other) == Some(file)))
    }

    /// By what locks are ordered that are taken together. Not by what the user called a file: that depends on the directory.
    pub(crate) fn rank(&self) -> &OsStr {
        if self.kind == Kind::Named { OsStr::new(&self.label) } else { self.path.as_os_str() }
    }

    /// The name of the lock. `None`: it is called by its path.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        (self.kind == Kind::Named).then_some(self.label.as_str())
    }
}

/// Whose a lock file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, in the state root: private, and never reached through a link.
    Named,
    /// The user's (`--file`): what is in it stays as it is.
    Users,
    /// Ours, beside a file of the user's: open to all who may open that directory's files.
    Beside,
}
