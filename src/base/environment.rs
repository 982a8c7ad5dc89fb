//! The environment variables that the programs read or set. No other file reads the environment; a lint forbids it.

#![expect(clippy::disallowed_methods, reason = "the only reader of the environment")]

use super::duration::{TIME_RULE, parse_span};
use super::error::ContextError;
use crate::os;
use crate::os::proc::process;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

/// The variable that lists the descriptors on which a command inherits locks.
pub const FDS: &str = "ABA_LOCK_FDS";

/// The variable that holds the fencing token, for a command.
pub const TOKEN: &str = "ABA_LOCK_TOKEN";

/// The variable that holds the number of the slot, for a command.
pub const SLOT: &str = "ABA_LOCK_SLOT";

/// The variable that holds the task and the run to which a command belongs (`ID/TOKEN`).
pub const TASK: &str = "ABA_LOCK_TASK";

/// The variable that lists the updates that started a command: the lock file, the process, and the pipe that it reads,
/// as `DEVICE:INODE:PID:INODE`.
pub const UPDATING: &str = "ABA_LOCK_UPDATING";

/// The variable that holds the name or the file of the lock, for commands of `--on-busy` and `--on-lost`.
pub const NAME: &str = "ABA_LOCK_NAME";

/// The variable that holds the path of the file, for the commands of an update.
pub const FILE: &str = "ABA_FILE";

/// The variable that holds the path of the copy or of the new content, for the commands of an update.
pub const COPY: &str = "ABA_COPY";

/// The variable that holds the reserved number, for a command.
pub const NUMBER: &str = "ABA_NUMBER";

/// The run of a task that this process belongs to, as `ID/TOKEN`.
#[must_use]
pub fn task_of_this_process() -> Option<String> {
    value(TASK).map(|task| task.to_string_lossy().into_owned())
}

/// The descriptors on which this process inherits locks, according to `ABA_LOCK_FDS`. Any program may have set the
/// variable, so the caller must check the open files.
#[must_use]
pub fn inherited_descriptors() -> Vec<RawFd> {
    let Some(list) = value(FDS) else { return Vec::new() };
    list.to_string_lossy().split_ascii_whitespace().filter_map(|fd| fd.parse().ok()).filter(|fd| *fd > 2).collect()
}

/// The updates that this process is part of, separated by spaces.
#[must_use]
pub fn updates() -> String {
    value(UPDATING).map(|list| list.to_string_lossy().into_owned()).unwrap_or_default()
}

/// An update whose command started this process.
#[derive(Debug)]
pub struct UpdateAbove {
    /// The inode of the pipe that the update reads to the end.
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

/// Returns true if the environment holds a bash function of this name.
///
/// The name of the variable depends on the version of bash. Before the updates of 2014, it was that of the function.
#[must_use]
pub fn is_exported_function(name: &OsStr) -> bool {
    let is_set = |end: &str| {
        let mut variable = OsString::from("BASH_FUNC_");
        variable.push(name);
        variable.push(end);
        env::var_os(variable).is_some()
    };
    is_set("%%") || is_set("()") || env::var_os(name).is_some_and(|text| text.as_encoded_bytes().starts_with(b"() {"))
}

/// The colours that the command line asks for (`--color`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourChoice {
    /// As the environment says, by default on a terminal.
    Auto,
    Always,
    Never,
}

/// The colours that the command line asks for, as the number of a [`ColourChoice`].
static COLOURS: AtomicU8 = AtomicU8::new(ColourChoice::Auto as u8);

/// Makes [`wants_colours`] return what the command line asks for, whatever the environment says.
pub fn choose_colours(choice: ColourChoice) {
    COLOURS.store(choice as u8, Ordering::Relaxed);
}

/// Returns true if output should have colours. If the command line does not say, the rule is that of clap, so that all output is consistent.
///
/// `NO_COLOR` turns them off (<https://no-color.org>), `CLICOLOR_FORCE` on, even in a pipe, and `CLICOLOR=0` off
/// (<https://bixense.com/clicolors>). Otherwise a terminal has them, unless `TERM` is unset or `dumb`.
#[must_use]
pub fn wants_colours(is_terminal: bool) -> bool {
    let chosen = COLOURS.load(Ordering::Relaxed);
    if chosen != ColourChoice::Auto as u8 {
        return chosen == ColourChoice::Always as u8;
    }
    let wanted = env::var_os("CLICOLOR");
    let is_capable = || {
        wanted.is_some()
            || env::var_os("CI").is_some()
            || env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
    };
    if value("NO_COLOR").is_some() {
        false
    } else if value("CLICOLOR_FORCE").is_some() {
        true
    } else {
        wanted.as_ref().is_none_or(|value| value != "0") && is_terminal && is_capable()
    }
}

/// The shell of the user, which runs commands that are one string.
#[must_use]
pub fn shell() -> OsString {
    value("SHELL").unwrap_or_else(|| "/bin/sh".into())
}

/// The time limit of a wait for which the caller gives none (`ABA_LOCK_TIMEOUT`). `None` if the variable is not set.
pub fn default_timeout() -> Result<Option<Duration>, ContextError> {
    let Some(value) = value("ABA_LOCK_TIMEOUT") else { return Ok(None) };
    let value = value.to_string_lossy();
    match parse_span(&value) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(ContextError::Variable { name: "ABA_LOCK_TIMEOUT", value: value.into_owned(), wanted: TIME_RULE }),
    }
}

/// The place where events are logged.
#[derive(Debug)]
pub struct EventLog {
    pub path: PathBuf,
    /// True if it must be a socket, so that no file may be made in its place.
    pub is_socket: bool,
}

/// The place where events are logged (`ABA_LOCK_LOG`): a file or a socket. `syslog` and `journald` stand for the
/// sockets of these programs.
#[must_use]
pub fn event_log() -> Option<EventLog> {
    let socket = |path| EventLog { path: PathBuf::from(path), is_socket: true };
    value("ABA_LOCK_LOG").map(|log| match log.to_str() {
        Some("syslog") => socket("/dev/log"),
        Some("journald") => socket("/run/systemd/journal/dev-log"),
        _ => EventLog { path: PathBuf::from(log), is_socket: false },
    })
}

/// Returns true if a server of leases is set (`ABA_LOCK_SERVER`). Only the keeper reads the value.
#[must_use]
pub fn has_server() -> bool {
    value("ABA_LOCK_SERVER").is_some()
}

/// The helper that scripts use (`ABA_LOCK_BIN`).
#[must_use]
pub fn helper() -> Option<PathBuf> {
    value("ABA_LOCK_BIN").map(PathBuf::from)
}

/// The builtin for bash that scripts use: `yes` or a path (`ABA_LOCK_BUILTIN`).
#[must_use]
pub fn builtin() -> Option<PathBuf> {
    value("ABA_LOCK_BUILTIN").map(PathBuf::from)
}

/// The behaviour of a script when another process holds its lock (`ABA_LOCK_ON_CONFLICT`).
#[must_use]
pub fn on_conflict() -> Option<String> {
    value("ABA_LOCK_ON_CONFLICT").map(|value| value.to_string_lossy().into_owned())
}

/// The directory of the locks that all users of the machine share.
pub const SYSTEM_ROOT: &str = "/run/lock/aba-lock";

/// The users whose processes exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those who use the same directory of locks, by default only one.
    User,
    /// All users of the machine.
    System,
}

/// True if the command line asks for the locks of all users (`--system`).
static IS_SYSTEM_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Makes this process use the locks that all users share, whatever the environment says.
pub fn use_system_scope() {
    IS_SYSTEM_REQUESTED.store(true, Ordering::Relaxed);
}

/// Returns true if the command line asks for the locks of all users.
#[must_use]
pub fn is_system_requested() -> bool {
    IS_SYSTEM_REQUESTED.load(Ordering::Relaxed)
}

/// The scope of the locks of this process, unless `ABA_LOCK_DIR` names their directory (`ABA_LOCK_SCOPE`).
pub fn default_scope() -> Result<Scope, ContextError> {
    match value("ABA_LOCK_SCOPE") {
        None => Ok(Scope::User),
        Some(scope) if scope == "user" => Ok(Scope::User),
        Some(scope) if scope == "system" => Ok(Scope::System),
        Some(scope) => Err(ContextError::Variable {
            name: "ABA_LOCK_SCOPE",
            value: scope.to_string_lossy().into_owned(),
            wanted: "`user` or `system`",
        }),
    }
}

/// The source of the state root: an option, the name of a variable, or the passwd file.
#[must_use]
pub fn root_source() -> &'static str {
    let is_set = |name: &&str| value(name).is_some();
    if is_system_requested() {
        return "--system";
    }
    let has_scope = default_scope().is_ok_and(|scope| scope == Scope::System);
    let names = ["ABA_LOCK_DIR", if has_scope { "ABA_LOCK_SCOPE" } else { "HOME" }];
    names.into_iter().find(is_set).unwrap_or("the passwd file")
}

/// The variables of these programs that are set, with their values.
#[must_use]
pub fn settings() -> Vec<(&'static str, String)> {
    let names = [
        "ABA_LOCK_DIR",
        "ABA_LOCK_SCOPE",
        "ABA_LOCK_BIN",
        "ABA_LOCK_BUILTIN",
        "ABA_LOCK_ON_CONFLICT",
        "ABA_LOCK_TIMEOUT",
        "ABA_LOCK_LOG",
        "ABA_LOCK_SERVER",
        "ABA_LOCK_KEEPER",
        "ABA_LOCK_FDS",
        "ABA_LOCK_TASK",
        "ABA_LOCK_UPDATING",
        "RUN_ONCE_DIR",
    ];
    names.into_iter().filter_map(|name| Some((name, value(name)?.to_string_lossy().into_owned()))).collect()
}

/// The directories in which programs search data: that of the user, then those of the system.
#[must_use]
pub fn data_directories() -> Vec<PathBuf> {
    let own = value("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".local/share")));
    let shared = value("XDG_DATA_DIRS").unwrap_or_else(|| "/usr/local/share:/usr/share".into());
    own.into_iter().chain(env::split_paths(&shared)).filter(|path| path.is_absolute()).collect()
}

/// The value of a variable; `None` if it is unset or empty.
#[must_use]
pub fn value(name: &str) -> Option<OsString> {
    os::read_variable(name).filter(|value| !value.is_empty())
}

/// The home directory: `HOME`, otherwise the one in the passwd file, as for `~` in a shell.
#[must_use]
pub fn home() -> Option<PathBuf> {
    value("HOME").map(PathBuf::from).or_else(|| process::home_of(os::user_id()))
}

/// The directories of `PATH`, or those in which execvp(3) searches if there is no such variable.
#[must_use]
pub fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| os::DEFAULT_PATH.to_string_lossy().into_owned().into());
    env::split_paths(&path).collect()
}
