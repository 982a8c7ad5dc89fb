//! A lock to acquire, as plain data: its label, the path of its file, and how long a caller waits for it.

use crate::os;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The behaviour of a caller when another process holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Fail at once.
    No,
    /// Block until it is free.
    Forever,
    /// Block until it is free, at most for this time.
    For(Duration),
}

impl Wait {
    /// Returns true if the caller waits for a lock that another process holds.
    #[must_use]
    pub fn blocks(self) -> bool {
        !matches!(self, Self::No | Self::For(Duration::ZERO))
    }
}

/// A lock to acquire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name of the lock in messages.
    pub label: String,
    pub path: PathBuf,
    pub kind: Kind,
    /// The text from which the name was derived (`--key`).
    pub key: Option<String>,
    /// The path that the user named, if it leads to `path` through a link.
    pub link: Option<PathBuf>,
}

impl Target {
    /// The lock of a file of the user (`--file`).
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let label = path.display().to_string();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let in_real_directory = || Some(fs::canonicalize(absolute.parent()?).ok()?.join(absolute.file_name()?));
        // A link that the user names is followed. A link that replaces its target afterwards is not.
        let target = fs::canonicalize(&absolute).ok().or_else(in_real_directory).unwrap_or_else(|| absolute.clone());
        let link = (target != absolute).then_some(absolute);
        Self { path: target, label, kind: Kind::Users, key: None, link }
    }

    /// The target to which the link leads now.
    pub(crate) fn resolved(&self) -> Cow<'_, Self> {
        match &self.link {
            Some(link) => Cow::Owned(Self { label: self.label.clone(), ..Self::file(link) }),
            None => Cow::Borrowed(self),
        }
    }

    /// Returns true if the path leads to the open `file`, and also the link if there is one. Fails if they cannot be examined.
    pub(crate) fn is_open_as(&self, file: &File) -> io::Result<bool> {
        self.count_names_if_open_as(file).map(|names| names.is_some())
    }

    /// Returns the number of hard links of the open `file`, if the path leads to it, and also the link if there is one. Fails if
    /// they cannot be examined.
    pub(crate) fn count_names_if_open_as(&self, file: &File) -> io::Result<Option<u64>> {
        let names = os::try_names_at(&self.path, file)?;
        let is_linked = || self.link.as_ref().map_or(Ok(true), |link| os::try_leads_to_through_link(link, file));
        Ok(if names.is_some() && is_linked()? { names } else { None })
    }

    /// Returns true if both targets have the same lock file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        let id = |target: &Self| fs::metadata(&target.path).ok().map(|data| (data.dev(), data.ino()));
        self.path == other.path || (self.kind == Kind::Users && id(self).is_some_and(|file| id(other) == Some(file)))
    }

    /// The key by which locks that are acquired together are sorted. It is not the path that the user named, because
    /// that depends on the current directory.
    pub(crate) fn rank(&self) -> &OsStr {
        self.name().map_or(self.path.as_os_str(), OsStr::new)
    }

    /// The name of the lock. `None` if it is identified by its path.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.key {
            None => (self.kind == Kind::Named).then_some(self.label.as_str()),
            // The label is the text of the key.
            Some(_) => self.path.file_name()?.to_str()?.strip_prefix("aba-")?.strip_suffix(".lock"),
        }
    }
}

/// The owner and the place of a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file of ours in the state root: private, and never reached through a link.
    Named,
    /// A file of the user (`--file`). Its content must not change.
    Users,
    /// A file of ours next to a file of the user, open to all users who may open the files of that directory.
    Beside,
}
