//! The state root: the directory that holds the lock files, registries and tasks of a user. This module turns names
//! into paths, creates the directories, and lists the names that exist. It never opens a lock file.

pub mod creation;
pub mod error;
mod file_mode;
pub mod scope;
mod trust;

use crate::base::environment::{self, SYSTEM_ROOT, Scope, value};
use crate::base::error::ContextError;
use crate::base::key::LockKey;
use crate::base::names::{LockName, TaskId};
use crate::base::target::{Kind, Target};
use crate::base::text::{quote_path, shorten};
use crate::os::proc::process;
use crate::os::{self, AccessList};
use creation::DirectoryUsers;
use error::StoreError;
pub use file_mode::hint_about_mode;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The name of the directory of locks in a home directory.
pub const IN_HOME: &str = ".aba";

/// The maximum number of characters of a key in messages.
const MAX_LABEL: usize = 80;

/// The directory of the locks of a user.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store for locks that the command line and the environment name: `--system`, `ABA_LOCK_DIR`, `ABA_LOCK_SCOPE`, and then
    /// `HOME`. Fails with [`StoreError::NoStateRoot`] if they name none, with [`ContextError::Variable`] if the path is not absolute,
    /// and with [`StoreError::System`] if another user could replace files in the directory that all users share.
    pub fn from_env() -> Result<Self, StoreError> {
        if environment::is_system_requested() {
            return Self::of_system();
        }
        // A value that is not valid is refused, even if `ABA_LOCK_DIR` makes it irrelevant.
        let scope = environment::default_scope()?;
        match value("ABA_LOCK_DIR") {
            Some(directory) if directory == SYSTEM_ROOT => Self::of_system(),
            Some(directory) => Self::in_directory("ABA_LOCK_DIR", PathBuf::from(directory)),
            None if scope == Scope::System => Self::of_system(),
            None => Self::in_home(),
        }
    }

    /// The store for tasks and numbers, which the users of a machine do not share: `ABA_LOCK_DIR`, and then `HOME`. It fails like
    /// [`Store::from_env`].
    pub fn for_tasks() -> Result<Self, StoreError> {
        match value("ABA_LOCK_DIR") {
            Some(directory) => Self::in_directory("ABA_LOCK_DIR", PathBuf::from(directory)),
            None => Self::in_home(),
        }
    }

    fn in_home() -> Result<Self, StoreError> {
        let store = Self::in_directory("HOME", environment::home().ok_or(StoreError::NoStateRoot)?)?;
        Ok(Self { root: store.root.join(IN_HOME) })
    }

    fn in_directory(variable: &'static str, root: PathBuf) -> Result<Self, StoreError> {
        absolute(variable, &root)?;
        Ok(Self { root })
    }

    /// The store of the locks that all users of the machine share.
    fn of_system() -> Result<Self, StoreError> {
        let root = PathBuf::from(SYSTEM_ROOT);
        let problem = match fs::symlink_metadata(&root) {
            Ok(data) if data.is_file() => Some("it is a file, not a directory".to_owned()),
            Ok(data) if !data.is_dir() => Some(format!("it is a {}, not a directory", os::word_for(data.file_type()))),
            Ok(data) if data.uid() != 0 => Some(format!(
                "it belongs to user {}, and that user could replace files in it",
                process::user_name(data.uid())
            )),
            Ok(data) if DirectoryUsers::from_mode(data.mode(), data.gid()) != DirectoryUsers::Everyone => {
                Some(format!("its mode is {:04o}, and not 1777", data.mode() & 0o7777))
            }
            _ => None,
        };
        match problem {
            Some(problem) => Err(StoreError::System { path: root, problem }),
            None => Ok(Self { root }),
        }
    }

    /// The store of the locks that all users of the machine share, for output that shows it in addition to that of the user. `None` if
    /// an option or a variable names the scope, or if the directory does not exist or is refused: then no process holds such a lock.
    #[must_use]
    pub fn of_other_scope() -> Option<Self> {
        let is_named = ["ABA_LOCK_DIR", "ABA_LOCK_SCOPE"].into_iter().any(|name| value(name).is_some());
        if is_named || environment::is_system_requested() {
            return None;
        }
        fs::symlink_metadata(SYSTEM_ROOT).ok()?;
        Self::of_system().ok()
    }

    /// Returns true if this is the store of the locks that all users of the machine share.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.root.as_os_str() == SYSTEM_ROOT
    }

    /// The store in a directory. `None` if its path is not absolute.
    #[must_use]
    pub fn at(root: PathBuf) -> Option<Self> {
        root.is_absolute().then_some(Self { root })
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of the lock file of `name`, which need not exist.
    #[must_use]
    pub fn lock_path(&self, name: &LockName) -> PathBuf {
        self.root.join(lock_file_name(name))
    }

    /// The lock of `name`.
    #[must_use]
    pub fn target(&self, name: &LockName) -> Target {
        Target { path: self.lock_path(name), label: name.to_string(), kind: Kind::Named, key: None, link: None }
    }

    /// The lock of a key. Messages name it by the text.
    #[must_use]
    pub fn key_target(&self, key: &LockKey) -> Target {
        let label = shorten(key.text(), MAX_LABEL);
        Target { label, key: Some(key.text().to_owned()), ..self.target(key.name()) }
    }

    /// The path of the directory of registries of numbers, which need not exist. In a state root that all users share, each user
    /// has one, because another user could falsify a registry.
    #[must_use]
    pub fn reservations(&self) -> PathBuf {
        match DirectoryUsers::of_directory(&self.root) {
            Ok(DirectoryUsers::Everyone) => self.root.join(format!("reserve-{}", os::user_id())),
            _ => self.root.join("reserve"),
        }
    }

    /// Creates the directory, private to its user, unless it exists. Fails if its parent does not exist.
    ///
    /// A mistyped `ABA_LOCK_DIR` must not become a new tree of directories, in which the locks exclude no other process. A home
    /// directory must not be created, either: root could create one for a service user that must not have any.
    pub fn make(&self) -> Result<(), StoreError> {
        if self.is_system() {
            return self.make_for_all_users();
        }
        self.refuse_untrusted()?;
        os::as_owner(&self.root, || make_directory(&self.root, creation::STATE_DIRECTORY, false))
            .map_err(|source| StoreError::StateRoot { path: self.root.clone(), source })
    }

    /// The error if this is the store of the locks of all users, and only another user, root, can create it.
    #[must_use]
    pub fn missing_for_all_users(&self) -> Option<StoreError> {
        let is_missing = self.is_system() && os::user_id() != 0 && fs::symlink_metadata(&self.root).is_err();
        let problem = || "it does not exist, and only root may create it".to_owned();
        is_missing.then(|| StoreError::System { path: self.root.clone(), problem: problem() })
    }

    /// Creates the directory for the locks of all users, which only root can do.
    fn make_for_all_users(&self) -> Result<(), StoreError> {
        if let Some(error) = self.missing_for_all_users() {
            return Err(error);
        }
        if fs::symlink_metadata(&self.root).is_ok() {
            return Ok(());
        }
        let made = os::create_directory_with(&self.root, os::FileAccess::with_mode(0o1777));
        match check_directory(&self.root, made) {
            // Another user may have made it first.
            Ok(()) => Self::of_system().map(drop),
            Err(source) => Err(StoreError::StateRoot { path: self.root.clone(), source }),
        }
    }

    /// The home directory whose `.aba` is the root. The shell library passes such a root on in `ABA_LOCK_DIR`, also if
    /// the script has not exported `HOME`.
    fn home(&self) -> Option<&Path> {
        self.root.parent().filter(|_| self.root.ends_with(IN_HOME))
    }

    /// The home directory of the root, if it does not exist.
    #[must_use]
    pub fn missing_home(&self) -> Option<&Path> {
        let home = self.home()?;
        let is_missing = fs::symlink_metadata(home).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        is_missing.then_some(home)
    }

    /// The reason why the root cannot be a directory, as a clause that names the path.
    fn problem(&self) -> Option<String> {
        match self.missing_home() {
            Some(home) => Some(format!("the home directory {} does not exist", home.display())),
            None => obstacle(&self.root).or_else(|| {
                self.missing_parent().map(|parent| format!("the directory {} does not exist", parent.display()))
            }),
        }
    }

    /// The parent of the root, if it does not exist.
    #[must_use]
    pub fn missing_parent(&self) -> Option<&Path> {
        self.root
            .parent()
            .filter(|parent| fs::symlink_metadata(parent).is_err_and(|error| error.kind() == io::ErrorKind::NotFound))
    }

    /// The names that have a lock file, sorted. Empty if the directory does not exist or cannot be read.
    #[must_use]
    pub fn names(&self) -> Vec<LockName> {
        self.try_names().unwrap_or_default()
    }

    /// The names that have a lock file, sorted, or the reason why the directory cannot be read.
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

/// Creates a directory unless it exists.
pub fn make_directory(path: &Path, mode: u32, recursive: bool) -> io::Result<()> {
    check_directory(path, fs::DirBuilder::new().recursive(recursive).mode(mode).create(path))
}

/// Fails if there is something at `path` that is no directory of this user. Another user could exchange what is in it.
pub fn check_own_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.uid() != os::user_id() => {
            Err(io::Error::other(format!("it belongs to user {}", process::user_name(data.uid()))))
        }
        Ok(data) if !data.is_dir() => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Ok(_) => Ok(()),
    }
}

/// Turns the error that a directory exists already into a success, and explains other errors.
fn check_directory(path: &Path, made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        // The error of the system, "File exists", does not show that a link leads nowhere.
        Err(error) => Err(obstacle(path).map_or(error, |what| io::Error::new(io::ErrorKind::NotADirectory, what))),
        Ok(()) => Ok(()),
    }
}

/// Describes the file at `path`, or above it, because of which there can be no directory at `path`.
fn obstacle(path: &Path) -> Option<String> {
    let found = path.ancestors().find(|place| fs::symlink_metadata(place).is_ok())?;
    match fs::metadata(found) {
        Ok(data) if data.is_dir() => None,
        Ok(_) => Some(format!("{} is not a directory", found.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("{} is a link to a missing file", found.display()))
        }
        Err(_) => None,
    }
}

/// Refuses a relative path: from two working directories it would name two directories, and locks would not exclude
/// anything.
fn absolute(name: &'static str, path: &Path) -> Result<(), ContextError> {
    if path.is_relative() {
        return Err(ContextError::Variable { name, value: path.display().to_string(), wanted: "an absolute path" });
    }
    Ok(())
}

/// The directory of the tasks of a user. In a state root that all users share, each user has one, because another user could falsify the
/// outcome of a task.
#[derive(Debug)]
pub struct TaskRoot {
    path: PathBuf,
    /// The state root, if the directory is in it.
    within: Option<Store>,
}

impl TaskRoot {
    /// The directory that the environment names. It fails like [`Store::from_env`].
    pub fn from_env() -> Result<Self, StoreError> {
        if let Some(path) = value("RUN_ONCE_DIR").map(PathBuf::from) {
            absolute("RUN_ONCE_DIR", &path)?;
            return Ok(Self { path, within: None });
        }
        let store = Store::for_tasks()?;
        // The directory in a home directory is not examined, because only its user can have shared it.
        let is_shared = !store.root.ends_with(IN_HOME)
            && matches!(DirectoryUsers::of_directory(&store.root), Ok(DirectoryUsers::Everyone));
        if !is_shared {
            return Ok(Self { path: store.root.join("runner"), within: Some(store) });
        }
        let path = store.root.join(format!("runner-{}", os::user_id()));
        check_own_directory(&path).map_err(|source| StoreError::TaskRoot { path: path.clone(), source })?;
        Ok(Self { path, within: Some(store) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state root, if the directory is in it.
    #[must_use]
    pub fn state_root(&self) -> Option<&Path> {
        self.within.as_ref().map(Store::root)
    }

    /// Creates the directory unless it exists.
    pub fn make(&self) -> Result<(), StoreError> {
        if let Some(store) = &self.within {
            store.make()?;
        }
        let made = match &self.within {
            Some(_) => {
                let made = creation::create_directory_for_group(&self.path, creation::TASK_DIRECTORY);
                check_directory(&self.path, made)
            }
            None => os::as_owner(&self.path, || make_directory(&self.path, creation::TASK_DIRECTORY, true)),
        };
        made.map_err(|source| StoreError::TaskRoot { path: self.path.clone(), source })
    }

    /// The ids that have a directory, sorted. Empty if there is no task directory.
    pub fn ids(&self) -> Result<Vec<TaskId>, StoreError> {
        // After an error there is no list, because callers would take an incomplete one for the whole.
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

/// The name of the lock file of `name`.
#[must_use]
pub fn lock_file_name(name: &LockName) -> String {
    format!("aba-{name}.lock")
}

/// The name of the lock of a file, if the file name has the form of a lock file.
#[must_use]
pub fn name_of(file: &Path) -> Option<LockName> {
    LockName::parse(file.file_name()?.to_str()?.strip_prefix("aba-")?.strip_suffix(".lock")?).ok()
}

/// Returns the reason and the hint, if `path` cannot be used because of the mode of a file of this user, because there can be no
/// directory at the place of its state root or task root, or because its directory belongs to another user.
#[must_use]
pub fn hint_about(path: &Path) -> Option<String> {
    if let Some(hint) = hint_about_mode(path) {
        return Some(hint);
    }
    let (problem, variable, within) = match TaskRoot::from_env() {
        Ok(TaskRoot { path: root, within: None }) if path.starts_with(&root) => (obstacle(&root), "RUN_ONCE_DIR", None),
        _ => {
            let store = Store::from_env().ok().filter(|store| path.starts_with(store.root()))?;
            (store.problem(), "ABA_LOCK_DIR", Some(store))
        }
    };
    let hint = problem.map(|problem| format!("{problem}: set {variable} to a writable directory on a local disk"));
    hint.or_else(|| hint_about_sharing(path)).or_else(|| hint_to_share(path, within.as_ref()))
}

/// Returns the hint about a file that does not exist, and that this user must not or cannot create in a directory that users share.
fn hint_about_sharing(path: &Path) -> Option<String> {
    let is_missing = fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let directory = path.parent().filter(|directory| is_missing && os::may(os::Right::MakeIn, directory).is_ok())?;
    match DirectoryUsers::of_directory(directory).ok()? {
        DirectoryUsers::Group(group) if !os::is_member(group) => {
            Some(format!("new files get the group of the directory after `chmod g+s {}`", quote_path(directory)))
        }
        DirectoryUsers::Everyone => {
            let is_less = AccessList::of_directory(directory).is_some_and(|list| list.is_less_for_a_group());
            is_less.then(|| hint_about_less_for_a_group(directory))
        }
        users => users.hint(directory),
    }
}

/// Returns the hint about a directory to which all users may write, but not a group in its access control list.
#[must_use]
pub fn hint_about_less_for_a_group(directory: &Path) -> String {
    let path = quote_path(directory);
    format!(
        "run `setfacl -m g:GROUP:rwx {path}` for each group that `getfacl {path}` shows without w, or run `chmod o-w {path}`"
    )
}

/// Returns the hint about a file that does not exist, and that this user may not create in a directory of another user.
/// In a directory of its own, this user would not exclude the other users. `within` is the store, unless `path` is in
/// the directory of `RUN_ONCE_DIR`.
fn hint_to_share(path: &Path, within: Option<&Store>) -> Option<String> {
    let is_denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let is_missing = fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let directory = path.parent().filter(|_| is_missing && within.is_none_or(|store| store.root != path))?;
    let owner = fs::metadata(directory).ok()?.uid();
    if owner == os::user_id() || !os::may(os::Right::MakeIn, directory).is_err_and(is_denied) {
        return None;
    }
    let belongs = format!("{} belongs to user {}", directory.display(), process::user_name(owner));
    Some(match (within, name_of(path)) {
        (Some(store), Some(name)) if store.lock_path(&name) == path => format!(
            "{belongs}: to share the lock, run as root: `chmod a+rw \"$(ABA_LOCK_DIR={} aba-lock path --create {name})\"`; \
             for locks of your own, set ABA_LOCK_DIR to another directory",
            quote_path(&store.root)
        ),
        // No suggestion to set ABA_LOCK_DIR.
        (Some(store), _) if path.starts_with(store.reservations()) => {
            format!("{belongs}: run this command as that user; another directory would hand out the same numbers again")
        }
        _ => format!(
            "{belongs}: run this command as that user; for tasks of your own, set RUN_ONCE_DIR to another directory"
        ),
    })
}
