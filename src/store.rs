//! The state root: which file a name leads to, and which names there are.
//!
//! This is the only reader of the environment. `ABA_LOCK_DIR` is the state root, else `~/.aba`; an empty
//! variable counts as unset, as in the shell's `${ABA_LOCK_DIR:-…}`. `ABA_LOCK_FDS` lists the descriptors on
//! which this process's ancestors passed locks on. `ABA_LOCK_TIMEOUT` is how long to wait, in seconds. `RUN_ONCE_DIR`
//! is where the tasks are, else `runner` in the state root. `ABA_LOCK_LOG` is where events are logged. `ABA_LOCK_TASK` is the task that this process belongs to.
//! `ABA_LOCK_SERVER` names a server of leases, and `ABA_LOCK_KEEPER` the program that keeps them.

#![expect(clippy::disallowed_methods, reason = "the only reader of the environment")]

#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod surroundings;

use crate::base::names::{LockName, TaskId};
use crate::base::target::{Kind, Target};
use crate::error::Error;
use crate::os;
use crate::os::proc::process;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that hands on which descriptors hold locks.
pub const FDS: &str = "ABA_LOCK_FDS";

/// The variable that hands on the fencing token to a command.
pub const TOKEN: &str = "ABA_LOCK_TOKEN";

/// The variable that tells a command which run of which task it belongs to (`ID/TOKEN`).
pub const TASK: &str = "ABA_LOCK_TASK";

/// The variable in which a command finds the updates that started it: the lock file of each, its process, and the pipe that it
/// reads, as `DEVICE:INODE:PID:INODE`.
pub const UPDATING: &str = "ABA_LOCK_UPDATING";

/// The variable in which a command of `--on-busy` or `--on-lost` finds the name of the lock, or its file.
pub const NAME: &str = "ABA_LOCK_NAME";

/// The variable in which the commands of an update find the path of the file.
pub const FILE: &str = "ABA_FILE";

/// The variable in which the commands of an update find the path of the copy or of the new content.
pub const COPY: &str = "ABA_COPY";

/// The variable that tells a command its number.
pub const NUMBER: &str = "ABA_NUMBER";

/// The name of the directory of locks in a home directory.
const IN_HOME: &str = ".aba";

/// The directory in which the locks of a user are.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store that the environment leads to. [`Error::NoStateRoot`] when it leads to none, and
    /// [`Error::Variable`] when it is not an absolute path.
    pub fn from_env() -> Result<Self, Error> {
        let (name, directory) = match set("ABA_LOCK_DIR") {
            Some(directory) => ("ABA_LOCK_DIR", PathBuf::from(directory)),
            None => ("HOME", home().ok_or(Error::NoStateRoot)?),
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
    pub fn make(&self) -> Result<(), Error> {
        os::as_owner(&self.root, || make_directory(&self.root, 0o700, self.home().is_none()))
            .map_err(|source| Error::StateRoot { path: self.root.clone(), source })
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
    pub fn can_be_listed(&self) -> Result<(), Error> {
        self.try_names().map(drop)
    }

    /// The names that have a lock file, in order. Empty when there is no directory, or none to read.
    #[must_use]
    pub fn names(&self) -> Vec<LockName> {
        self.try_names().unwrap_or_default()
    }

    /// The same, with the reason where the directory cannot be read.
    pub fn try_names(&self) -> Result<Vec<LockName>, Error> {
        let failed = |source| Error::NoFile { label: self.root.display().to_string(), source };
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
fn absolute(name: &'static str, path: &Path) -> Result<(), Error> {
    if path.is_relative() {
        return Err(Error::Variable { name, value: path.display().to_string(), wanted: "an absolute path" });
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
    pub fn from_env() -> Result<Self, Error> {
        if let Some(path) = set("RUN_ONCE_DIR").map(PathBuf::from) {
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
    pub fn make(&self) -> Result<(), Error> {
        if let Some(store) = &self.within {
            store.make()?;
        }
        os::as_owner(&self.path, || make_directory(&self.path, 0o711, self.within.is_none()))
            .map_err(|source| Error::TaskRoot { path: self.path.clone(), source })
    }

    /// The ids that have a directory, in order. None when there is no root.
    pub fn ids(&self) -> Result<Vec<TaskId>, Error> {
        // All of them: half a list would pass for the whole.
        let entries: Vec<fs::DirEntry> = match fs::read_dir(&self.path).and_then(Iterator::collect) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::TaskRoot { path: self.path.clone(), source }),
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

/// The run of a task that this process belongs to, as `ID/TOKEN`.
#[must_use]
pub fn task_of_this_process() -> Option<String> {
    set(TASK).map(|task| task.to_string_lossy().into_owned())
}

/// The descriptors on which an ancestor says that it passed locks on. Only a claim: the caller looks what is
/// open there.
#[must_use]
pub fn inherited_descriptors() -> Vec<RawFd> {
    let Some(list) = set(FDS) else { return Vec::new() };
    list.to_string_lossy().split_ascii_whitespace().filter_map(|fd| fd.parse().ok()).filter(|fd| *fd > 2).collect()
}

/// The updates that this process is part of, a word each.
#[must_use]
pub fn updates() -> String {
    set(UPDATING).map(|list| list.to_string_lossy().into_owned()).unwrap_or_default()
}

/// An update whose command started this process.
#[derive(Debug)]
pub struct UpdateAbove {
    /// The inode of the pipe that it reads to the end.
    pub output: Option<u64>,
}

/// The update that holds the lock file of this device and inode, if its command started this process and it still runs.
#[must_use]
pub fn update_above(dev: u64, ino: u64) -> Option<UpdateAbove> {
    updates().split_ascii_whitespace().find_map(|update| {
        let (pid, output) = update.strip_prefix(&format!("{dev}:{ino}:"))?.split_once(':')?;
        os::exists(pid.parse().ok()?).then(|| UpdateAbove { output: output.parse().ok() })
    })
}

/// Whether bash would find a function of this name in the environment.
#[must_use]
pub fn is_exported_function(name: &OsStr) -> bool {
    let mut variable = OsString::from("BASH_FUNC_");
    variable.push(name);
    variable.push("%%");
    env::var_os(variable).is_some()
}

/// Whether there is a file of this name in a directory of `PATH` that can be looked into.
#[must_use]
pub fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Whether there is a program of this name that a command in `directory` can run: found as execvp(3) does it. If not,
/// why.
pub fn find_program(program: &OsStr, directory: &Path) -> io::Result<()> {
    let runnable = |path: PathBuf| match fs::metadata(path) {
        Ok(data) if data.is_file() && data.mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EACCES)),
        Err(error) => Err(error),
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return runnable(directory.join(program));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut why = io::Error::from_raw_os_error(libc::ENOENT);
    for place in env::split_paths(&path) {
        match runnable(directory.join(place).join(program)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

/// Returns whether output has colours: the rule that clap applies to its own, so that all commands do the same.
///
/// `NO_COLOR` turns them off (<https://no-color.org>), `CLICOLOR_FORCE` on, also in a pipe, and `CLICOLOR=0` off
/// (<https://bixense.com/clicolors>). Otherwise a terminal has them, unless `TERM` is unset or `dumb`.
#[must_use]
pub fn wants_colours(is_terminal: bool) -> bool {
    let wanted = env::var_os("CLICOLOR");
    let is_capable = || {
        wanted.is_some()
            || env::var_os("CI").is_some()
            || env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
    };
    if set("NO_COLOR").is_some() {
        false
    } else if set("CLICOLOR_FORCE").is_some() {
        true
    } else {
        wanted.as_ref().is_none_or(|value| value != "0") && is_terminal && is_capable()
    }
}

/// The user's shell, which runs what is one string.
#[must_use]
pub fn shell() -> OsString {
    set("SHELL").unwrap_or_else(|| "/bin/sh".into())
}

/// How long to wait when no option says so. `None`: not at all.
pub fn default_timeout() -> Result<Option<Duration>, Error> {
    let Some(value) = set("ABA_LOCK_TIMEOUT") else { return Ok(None) };
    let value = value.to_string_lossy();
    match parse_seconds(&value) {
        Some(timeout) => Ok(Some(timeout)),
        None => {
            Err(Error::Variable { name: "ABA_LOCK_TIMEOUT", value: value.into_owned(), wanted: "a number of seconds" })
        }
    }
}

/// Where events are logged.
#[derive(Debug)]
pub struct EventLog {
    /// The file, or the socket.
    pub path: PathBuf,
    /// True if it must be a socket, so that no file may be made in its place.
    pub is_socket: bool,
}

/// Where events are logged (`ABA_LOCK_LOG`), if anywhere: a file or a socket. `syslog` and `journald` are the sockets where
/// these listen.
#[must_use]
pub fn event_log() -> Option<EventLog> {
    let socket = |path| EventLog { path: PathBuf::from(path), is_socket: true };
    set("ABA_LOCK_LOG").map(|log| match log.to_str() {
        Some("syslog") => socket("/dev/log"),
        Some("journald") => socket("/run/systemd/journal/dev-log"),
        _ => EventLog { path: PathBuf::from(log), is_socket: false },
    })
}

/// Whether a server of leases is named (`ABA_LOCK_SERVER`). What it is called is for the keeper to read.
#[must_use]
pub fn has_server() -> bool {
    set("ABA_LOCK_SERVER").is_some()
}

/// The name of the lock whose file this is, if it is called as one of ours is.
#[must_use]
pub fn name_of(file: &Path) -> Option<LockName> {
    LockName::parse(file.file_name()?.to_str()?.strip_prefix("aba-")?.strip_suffix(".lock")?).ok()
}

/// Seconds as people write them: `5`, `0.25`. `None` for anything that is not a time span.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<Duration> {
    // `f64` also reads `inf`, `nan` and `1e9`: digits and a point are what a person means.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// A time span with its unit, seconds if there is none: `30`, `30s`, `10m`, `2h`, `7d`, `2w`.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    const UNITS: [(char, u32); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600), ('w', 7 * 24 * 3600)];
    let unit = UNITS.iter().find_map(|(letter, seconds)| Some((text.strip_suffix(*letter)?, *seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1));
    parse_seconds(number)?.checked_mul(seconds)
}

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// `HOME`, else what the passwd file says, as a shell's `~` does.
fn home() -> Option<PathBuf> {
    set("HOME").map(PathBuf::from).or_else(|| process::home_of(os::user_id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_digits_and_a_point() {
        assert_eq!(parse_seconds("5"), Some(Duration::from_secs(5)));
        assert_eq!(parse_seconds(".25"), Some(Duration::from_millis(250)));
        for bad in ["", ".", "-1", "1e9", "inf", "nan", "abc", "1s", "1.2.3", "99999999999999999999999"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_span_is_a_number_and_perhaps_its_unit() {
        let seconds = |text| parse_span(text).map(|span| span.as_secs());
        assert_eq!(seconds("30"), Some(30));
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("2w"), Some(1_209_600));
        assert_eq!(seconds("1.5h"), Some(5400));
        for bad in ["", "d", "-1d", "1y", "1 d", "1dd", "d1", "1D", "inf", "18446744073709551615w"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
