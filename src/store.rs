//! The state root: the paths of lock files, registries and task directories, and the names that exist.

pub mod error;

use crate::base::environment::{self, value};
use crate::base::error::ContextError;
use crate::base::names::{LockName, TaskId};
use crate::base::target::{Kind, Target};
use crate::os;
use error::StoreError;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The name of the directory of locks in a home directory.
const IN_HOME: &str = ".aba";

/// The directory in which the locks of a user are.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store that the environment leads to. [`StoreError::NoStateRoot`] when it leads to none, and
    /// [`ContextError::Variable`] when it is not an absolute path.
    pub fn from_env() -> Result<Self, StoreError> {
        let (name, directory) = match value("ABA_LOCK_DIR") {
            Some(directory) => ("ABA_LOCK_DIR", PathBuf::from(directory)),
            None => ("HOME", environment::home().ok_or(StoreError::NoStateRoot)?),
        };
        absolute(name, &directory)?;
        Ok(Self { root: if name == "HOME" { directory.join(IN_HOME) } else { directory } })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file of `name`, whether it is there or not.
    #[must_use]
    pub fn lock_path(&self, name: &LockName) -> PathBuf {
        self.root.join(format!("aba-{name}.lock"))
    }

    /// The lock of that name.
    #[must_use]
    pub fn target(&self, name: &LockName) -> Target {
        Target { path: self.lock_path(name), label: name.to_string(), kind: Kind::Named, link: None }
    }

    /// The directory of the registries of numbers, whether it is there or not.
    #[must_use]
    pub fn reservations(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// Makes the directory, for its user alone. Fine when it is there.
    ///
    /// The directories above one that the user has named (`ABA_LOCK_DIR`) are made, too. A home directory is not: root could
    /// make one for a service user that must not have any, and nothing else would ever look there.
    pub fn make(&self) -> Result<(), StoreError> {
        os::as_owner(&self.root, || make_directory(&self.root, 0o700, self.home().is_none()))
            .map_err(|source| StoreError::StateRoot { path: self.root.clone(), source })
    }

    /// The directory that has the root as its `.aba`: a home directory. The shell library passes the root on in `ABA_LOCK_DIR`,
    /// also if the script has not exported its `HOME`.
    fn home(&self) -> Option<&Path> {
        self.root.parent().filter(|_| self.root.ends_with(IN_HOME))
    }

    /// The home directory in which the root would be, if that does not exist.
    #[must_use]
    pub fn missing_home(&self) -> Option<&Path> {
        let home = self.home()?;
        let is_missing = fs::symlink_metadata(home).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        is_missing.then_some(home)
    }

    /// Why the root cannot be a directory, as a clause that names the place.
    fn problem(&self) -> Option<String> {
        match self.missing_home() {
            Some(home) => Some(format!("the home directory {} does not exist", home.display())),
            None => obstacle(&self.root),
        }
    }

    /// Whether its directory can be read, or is not there. If not, that there seem to be no locks means nothing.
    pub fn can_be_listed(&self) -> Result<(), StoreError> {
        self.try_names().map(drop)
    }

    /// The names that have a lock file, in order. Empty when there is no directory, or none to read.
    #[must_use]
    pub fn names(&self) -> Vec<LockName> {
        self.try_names().unwrap_or_default()
    }

    /// The same, with the reason where the directory cannot be read.
    pub fn try_names(&self) -> Result<Vec<LockName>, StoreError> {
        let failed = |source| StoreError::Unreadable { path: self.root.clone(), source };
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(name_of(Path::new(&entry.map_err(failed)?.file_name())));
        }
        names.sort();
        Ok(names)
    }
}

/// Makes a directory. Fine when it is there.
pub fn make_directory(path: &Path, mode: u32, recursive: bool) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(recursive).mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        // "File exists" does not say that a link leads nowhere.
        Err(error) => Err(obstacle(path).map_or(error, |what| io::Error::new(io::ErrorKind::NotADirectory, what))),
        Ok(()) => Ok(()),
    }
}

/// Returns the obstacle at `path`, or above it, to a directory there.
fn obstacle(path: &Path) -> Option<String> {
    let found = path.ancestors().find(|place| fs::symlink_metadata(place).is_ok())?;
    match fs::metadata(found) {
        Ok(data) if data.is_dir() => None,
        Ok(_) => Some(format!("{} is not a directory", found.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("{} is a link that leads nowhere", found.display()))
        }
        Err(_) => None,
    }
}

/// From two working directories a relative path would be two places, and nobody would be kept out.
fn absolute(name: &'static str, path: &Path) -> Result<(), ContextError> {
    if path.is_relative() {
        return Err(ContextError::Variable { name, value: path.display().to_string(), wanted: "an absolute path" });
    }
    Ok(())
}

/// The directory in which the tasks of a user are.
#[derive(Debug)]
pub struct TaskRoot {
    path: PathBuf,
    /// The state root that it is in, if it is in that.
    within: Option<Store>,
}

impl TaskRoot {
    /// The one that the environment leads to; the errors are those of [`Store::from_env`].
    pub fn from_env() -> Result<Self, StoreError> {
        if let Some(path) = value("RUN_ONCE_DIR").map(PathBuf::from) {
            absolute("RUN_ONCE_DIR", &path)?;
            return Ok(Self { path, within: None });
        }
        let store = Store::from_env()?;
        Ok(Self { path: store.root.join("runner"), within: Some(store) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory. Fine when it is there.
    pub fn make(&self) -> Result<(), StoreError> {
        if let Some(store) = &self.within {
            store.make()?;
        }
        os::as_owner(&self.path, || make_directory(&self.path, 0o711, self.within.is_none()))
            .map_err(|source| StoreError::TaskRoot { path: self.path.clone(), source })
    }

    /// The ids that have a directory, in order. None when there is no root.
    pub fn ids(&self) -> Result<Vec<TaskId>, StoreError> {
        // All of them: half a list would pass for the whole.
        let entries: Vec<fs::DirEntry> = match fs::read_dir(&self.path).and_then(Iterator::collect) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::TaskRoot { path: self.path.clone(), source }),
        };
        let mut ids: Vec<TaskId> = entries
            .into_iter()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| TaskId::parse(entry.file_name().to_str()?).ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// The name of the lock whose file this is, if it is called as one of ours is.
#[must_use]
pub fn name_of(file: &Path) -> Option<LockName> {
    LockName::parse(file.file_name()?.to_str()?.strip_prefix("aba-")?.strip_suffix(".lock")?).ok()
}

/// Why `path` cannot be used, and the variable to set, if the cause is that the directory of locks or tasks in which it is
/// cannot be a directory.
#[must_use]
pub fn hint_about(path: &Path) -> Option<String> {
    let (problem, variable) = match TaskRoot::from_env() {
        Ok(TaskRoot { path: root, within: None }) if path.starts_with(&root) => (obstacle(&root), "RUN_ONCE_DIR"),
        _ => {
            let store = Store::from_env().ok().filter(|store| path.starts_with(store.root()))?;
            (store.problem(), "ABA_LOCK_DIR")
        }
    };
    Some(format!("{}: set {variable} to a directory of yours on a local disk", problem?))
}
