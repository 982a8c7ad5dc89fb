//! One error type: one variant for each thing that a caller can act on.
//!
//! `Display` is the sentence without prefix and full stop; [`Error::hint`] is the remedy, where there is one.
//! Neither advises to remove a lock file: that is how two holders come to be.

use crate::base::names;
use crate::base::target::Kind;
use crate::lock::deadlock::Circle;
use crate::number::problem::Problem;
use crate::os::Mode;
use crate::store::{self, surroundings};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why something could not be done.
#[derive(Debug)]
pub enum Error {
    /// Not a name for a lock.
    Name {
        /// What was given.
        name: String,
    },
    /// Not an id for a task.
    TaskId {
        /// What was given.
        id: String,
    },
    /// A file or directory of a task cannot be read, made or changed.
    Task {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A task was never started, and there is no command to start it with.
    NothingToRun {
        /// The task.
        id: String,
    },
    /// The saved command of a task is there, but cannot be read.
    NotUnderstood {
        /// Where it is.
        path: PathBuf,
    },
    /// The current directory is none any more.
    NoDirectory {
        /// The system's reason.
        source: io::Error,
    },
    /// The directory for tasks cannot be made or read.
    TaskRoot {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The saved command of a task was saved by another user.
    NotOurCommand {
        /// The task.
        id: String,
        /// The user.
        owner: String,
    },
    /// A task had not ended when the time was up.
    TaskTimedOut {
        /// The task.
        id: String,
        /// How long we waited.
        after: Duration,
    },
    /// Another has the lock of a task, and does not run it.
    TaskBusy {
        /// The task.
        id: String,
        /// Its lock file.
        path: PathBuf,
    },
    /// A process of a task could not be ended.
    TaskNotEnded {
        /// The task.
        id: String,
        /// Which, if that is known.
        pid: Option<u32>,
    },
    /// `/proc` does not show whether a process of an interrupted run is left.
    TaskNotSeen {
        /// The task.
        id: String,
        /// Its file `pid`, which says that the run was interrupted.
        path: PathBuf,
    },
    /// There is no such file, or it cannot be read.
    NoFile {
        /// The file, as the user calls it.
        label: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It is there, but no regular file.
    NotAFile {
        /// What the user calls it.
        label: String,
        /// What it is instead.
        kind: &'static str,
    },
    /// A file could not be updated; it is unchanged.
    Update {
        /// What failed, to stand between "could not" and the file.
        what: &'static str,
        /// The file.
        label: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file was changed, but that may not be on the disk.
    NotOnDisk {
        /// The file.
        label: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The new content is empty: most likely the command failed and did not say so.
    NothingNew {
        /// The file.
        label: String,
    },
    /// The check did not accept the new content.
    NotAccepted {
        /// The file.
        label: String,
        /// The exit status of the check.
        status: i32,
    },
    /// The check changed the new content, which it may only read.
    CheckWrote {
        /// The file.
        label: String,
    },
    /// The file was changed since it was read, by the command that makes its new content or by a process that does not use
    /// its lock.
    ChangedMeanwhile {
        /// The file.
        label: String,
        /// Where its old content is, if that would have been lost.
        saved: Option<PathBuf>,
        /// True if a command makes the new content.
        by_command: bool,
    },
    /// The path of the file leads to another file than when it was read.
    LeadsElsewhere {
        /// The file.
        label: String,
    },
    /// The lock file of an update was removed or replaced during the update.
    LockRemoved {
        /// The file.
        label: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The command of an update waits for an update of the same file.
    UpdatesItself {
        /// The file.
        label: String,
    },
    /// A number could not be reserved, or a registry of numbers not be used.
    Reserve(Problem),
    /// A signal came while a command made new content, or ended our command.
    GivenUp {
        /// Which.
        signal: i32,
    },
    /// Ctrl-C, while we waited for a task; it goes on.
    Interrupted {
        /// The task.
        id: String,
        /// Its process, if that is known.
        pid: Option<u32>,
    },
    /// A task waits for itself.
    WaitsForItself {
        /// The task.
        id: String,
    },
    /// The process that ran a task could not be started, or ended before it said how that went.
    Supervisor {
        /// The task.
        id: String,
        /// The system's reason, if there is one.
        source: Option<io::Error>,
    },
    /// A variable of the environment has a value that cannot be used.
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// There is no directory to keep locks in: no `ABA_LOCK_DIR`, and no home directory known.
    NoStateRoot,
    /// The state root cannot be made or used.
    StateRoot {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The lock file cannot be opened or made.
    Open {
        /// The lock file.
        path: PathBuf,
        /// The user whose file it is, where that may be the cause.
        owner: Option<String>,
        /// The system's reason.
        source: io::Error,
    },
    /// A lock file cannot be removed.
    Remove {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The lock file cannot be looked at.
    Look {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What stands at the path of the lock file is not a regular file.
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// There is no `/proc` that tells who has a lock.
    Blind,
    /// The descriptor is not open.
    BadDescriptor {
        /// Its number.
        fd: RawFd,
    },
    /// The descriptor is open on something else than the file that the name leads to: the file was replaced
    /// since it was opened, or it never was that file.
    Replaced {
        /// Its number.
        fd: RawFd,
        /// The file that the name leads to.
        path: PathBuf,
    },
    /// The lock file was replaced each time that it was opened.
    KeepsChanging {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system does not lock.
    Unsupported {
        /// The lock file.
        path: PathBuf,
        /// The file system's name.
        file_system: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel does not say whether a descriptor holds its lock.
    Unknown {
        /// The descriptor.
        fd: i32,
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel would not lock, for another reason.
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another has the lock, and we were not to wait.
    Busy {
        /// The name of the lock.
        label: String,
        /// The lock file.
        path: PathBuf,
        /// Whose that is: a name that is no lock's may be called as one is.
        kind: Kind,
    },
    /// To wait for it would have no end: who has it waits, perhaps over others, for a lock that we have.
    Deadlock {
        /// The name of the lock, or of the task.
        label: String,
        /// Who waits for whom.
        circle: Box<Circle>,
    },
    /// Another still had the lock when the time was up.
    TimedOut {
        /// The name of the lock.
        label: String,
        /// The lock file.
        path: PathBuf,
        /// Whose that is.
        kind: Kind,
        /// How long we waited.
        after: Duration,
    },
    /// The script holds the lock shared and asks for it exclusive.
    Upgrade {
        /// The name of the lock.
        label: String,
        /// The mode that is held.
        held: Mode,
    },
    /// The script for which we waited has ended.
    ScriptEnded {
        /// The name of the lock.
        label: String,
    },
    /// There is no terminal to draw on.
    Terminal {
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the user's could not be written.
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The program that keeps leases is not installed.
    NoKeeper,
    /// The command was not found.
    CommandNotFound {
        /// The command.
        command: String,
    },
    /// The command cannot be run.
    CommandFailed {
        /// The command.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// The most characters of a command that a sentence names.
const MAX_COMMAND: usize = 120;

/// A text of so many characters at most, and a sign that it was cut if it was.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// A time span as people say it: `13s`, `2m13s`, `3h05m`, `2d04h`.
#[must_use]
pub fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// The system's reason without `(os error N)`, as a person would say it.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A path as bash reads it, on one line. One that is not absolute begins with `./`: so it is no option, and no name.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let path = if path.is_absolute() || path.starts_with(".") || path.starts_with("..") {
        path.to_owned()
    } else {
        Path::new(".").join(path)
    };
    match path.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => shell_words::quote(text).into_owned(),
        None => format!("$'{}'", path.as_os_str().as_bytes().escape_ascii()),
    }
}

/// The reason of [`Error::TaskNotSeen`].
const NOT_SEEN: &str = "it was interrupted, and /proc does not show whether a process of that run is left";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve(problem) => write!(f, "{problem}"),
            Self::Name { name } => write!(f, "{name:?} is not a name for a lock: a name is {}", names::RULE),
            Self::TaskId { id } => write!(f, "{id:?} is not an id for a task: an id is {}", names::RULE),
            Self::Task { path, source } => write!(f, "could not use {}: {}", path.display(), reason(source)),
            Self::NothingToRun { id } => write!(f, "nothing to run for {id}: it was not started, or was reset"),
            Self::NotUnderstood { path } => write!(f, "the saved command in {} is not understood", path.display()),
            Self::NoDirectory { source } => write!(f, "could not find the current directory: {}", reason(source)),
            Self::TaskRoot { path, source } => {
                write!(f, "could not use the directory for tasks {}: {}", path.display(), reason(source))
            }
            Self::NotOurCommand { id, owner } => {
                write!(f, "refused to run the saved command of {id}: {owner} saved it")
            }
            Self::TaskTimedOut { id, after } => {
                write!(f, "timed out after {} s waiting for task {id}, which goes on", after.as_secs_f64())
            }
            Self::TaskBusy { id, path } => {
                write!(f, "task {id} is held by a process that does not run it: lock file {}", path.display())
            }
            Self::TaskNotEnded { id, pid: Some(pid) } => write!(f, "could not end pid {pid} of task {id}"),
            Self::TaskNotEnded { id, pid: None } => {
                write!(f, "could not end task {id}: who runs it cannot be reached from here")
            }
            Self::TaskNotSeen { id, .. } => write!(f, "task {id} is not run again: {NOT_SEEN}"),
            Self::NoFile { .. }
            | Self::NotAFile { .. }
            | Self::Update { .. }
            | Self::NotOnDisk { .. }
            | Self::NothingNew { .. }
            | Self::NotAccepted { .. }
            | Self::CheckWrote { .. }
            | Self::ChangedMeanwhile { .. }
            | Self::LeadsElsewhere { .. }
            | Self::LockRemoved { .. }
            | Self::UpdatesItself { .. } => self.fmt_update(f),
            Self::GivenUp { signal } => write!(f, "given up after signal {signal}"),
            Self::Interrupted { id, pid: Some(pid) } => write!(f, "task {id} goes on in the background (pid {pid})"),
            Self::Interrupted { id, pid: None } => write!(f, "task {id} goes on in the background"),
            Self::WaitsForItself { id } => write!(f, "task {id} would wait for itself: this process is part of it"),
            Self::Supervisor { id, source: Some(source) } => {
                write!(f, "could not start task {id}: {}", reason(source))
            }
            Self::Supervisor { id, source: None } => {
                write!(f, "could not start task {id}: what was to run it was killed")
            }
            Self::Variable { name, value, wanted } => write!(f, "{name} is {value:?}, which is not {wanted}"),
            Self::NoStateRoot => write!(f, "there is no directory for locks: HOME is not set"),
            Self::StateRoot { path, source } => {
                write!(f, "could not make the directory for locks {}: {}", path.display(), reason(source))
            }
            Self::Open { path, owner, source } => {
                write!(f, "could not open lock file {}: {}", path.display(), reason(source))?;
                owner.as_ref().map_or(Ok(()), |owner| write!(f, " (it belongs to {owner})"))
            }
            Self::Remove { path, source } => {
                write!(f, "could not remove lock file {}: {}", path.display(), reason(source))
            }
            Self::Look { path, source } => {
                write!(f, "could not look at lock file {}: {}", path.display(), reason(source))
            }
            Self::NotRegular { path, kind } => {
                write!(f, "refused to use lock file {}: it is a {kind}, not a regular file", path.display())
            }
            Self::Blind => write!(f, "which locks are held cannot be known from here: /proc cannot be read"),
            Self::BadDescriptor { fd } => write!(f, "file descriptor {fd} is not open"),
            Self::Replaced { fd, path } => {
                write!(f, "file descriptor {fd} is not, or no longer, open on lock file {}", path.display())
            }
            Self::KeepsChanging { path } => {
                write!(f, "lock file {} was replaced each time that it was opened", path.display())
            }
            Self::Unsupported { path, file_system, source } => {
                write!(f, "{file_system} does not lock files: {}: {}", path.display(), reason(source))
            }
            Self::Unknown { fd, path, source } => write!(
                f,
                "whether file descriptor {fd} holds the lock on {} cannot be known from here: /proc/self/fdinfo: {}",
                path.display(),
                reason(source)
            ),
            Self::Lock { path, source } => write!(f, "could not lock {}: {}", path.display(), reason(source)),
            Self::Busy { label, .. } => write!(f, "{label} is held by another"),
            Self::Terminal { source } => write!(f, "could not use the terminal: {}", reason(source)),
            Self::Deadlock { label, circle } => write!(f, "waiting for {label} would be a deadlock: {circle}"),
            Self::NoKeeper => f.write_str("aba-lock-keeper was not found, so nothing is locked"),
            Self::TimedOut { label, after, .. } => {
                write!(f, "timed out after {} s waiting for {label}", after.as_secs_f64())
            }
            Self::Upgrade { label, held } => {
                write!(f, "{label} is already held {held} by this script, and cannot be made exclusive in place")
            }
            Self::ScriptEnded { label } => write!(f, "the script that waited for {label} has ended"),
            Self::Write { path, source } => write!(f, "could not write {}: {}", path.display(), reason(source)),
            Self::CommandNotFound { command } => write!(f, "command not found: {command}"),
            Self::CommandFailed { command, source } => write!(f, "could not run {command}: {}", reason(source)),
        }
    }
}

impl Error {
    /// Writes the sentence of an error that concerns the update of a file.
    fn fmt_update(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile { label, source } => write!(f, "could not open {label}: {}", reason(source)),
            Self::NotAFile { label, kind } => write!(f, "{label} is a {kind}, not a regular file"),
            Self::Update { what, label, source } => {
                write!(f, "could not {what} {label}: {}; it is unchanged", reason(source))
            }
            Self::NotOnDisk { label, source } => write!(
                f,
                "{label} is changed, but the system did not say that it is on the disk: {}; it may be lost",
                reason(source)
            ),
            Self::NothingNew { label } => write!(f, "the new content of {label} is empty; it is unchanged"),
            Self::NotAccepted { label, status: status @ (126 | 127) } => {
                write!(f, "the check of {label} could not be run (status {status}); it is unchanged")
            }
            Self::CheckWrote { label } => {
                write!(f, "the check changed the new content of {label}, which it may only read; {label} is unchanged")
            }
            Self::NotAccepted { label, status } => {
                write!(f, "the check refused the new content of {label} (status {status}); it is unchanged")
            }
            Self::ChangedMeanwhile { label, saved, by_command } => {
                let who = if *by_command { "the command or another" } else { "a" };
                write!(f, "{label} was changed during the update, by {who} process that does not use its lock; ")?;
                match saved {
                    Some(saved) => write!(f, "its old content is in {}", saved.display()),
                    None => f.write_str("it stays as that process left it"),
                }
            }
            Self::LeadsElsewhere { label } => {
                write!(f, "{label} no longer leads to the file that was read; no file was changed")
            }
            Self::LockRemoved { label, path } => write!(
                f,
                "lock file {} was removed during the update, so another process may update {label}, too; it is unchanged",
                path.display()
            ),
            Self::UpdatesItself { label } => {
                write!(
                    f,
                    "waiting for {label} would be a deadlock: it is being updated by a command that waits for this one"
                )
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Why `command` did not run.
    #[must_use]
    pub fn cannot_run(command: &str, source: io::Error) -> Self {
        let command = shortened(command, MAX_COMMAND);
        match source.kind() {
            io::ErrorKind::NotFound => Self::CommandNotFound { command },
            // execvp(3) says so too when a directory of PATH may not be searched, wherever the command is.
            io::ErrorKind::PermissionDenied if !command.contains('/') && !store::is_on_path(&command) => {
                Self::CommandNotFound { command }
            }
            _ => Self::CommandFailed { command, source },
        }
    }

    /// The path that could not be used, if it can be in the directory of locks or of tasks.
    fn path_in_a_root(&self) -> Option<&Path> {
        match self {
            Self::Open { path, .. }
            | Self::Look { path, .. }
            | Self::StateRoot { path, .. }
            | Self::TaskRoot { path, .. }
            | Self::Task { path, .. } => Some(path),
            Self::NoFile { label, .. } => Some(Path::new(label)),
            Self::Reserve(problem) => problem.unreadable(),
            _ => None,
        }
    }

    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = self.path_in_a_root().and_then(surroundings::hint_about) {
            return Some(hint);
        }
        Some(match self {
            Self::Reserve(problem) => return problem.hint(),
            Self::NothingToRun { .. } => "say what to run: `aba-lock run-once -i ID -- CMD`".to_owned(),
            Self::NoFile { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "to create it, use `--create`".to_owned()
            }
            Self::NothingNew { .. } => "if that is intended, use `--allow-empty`".to_owned(),
            Self::ChangedMeanwhile { label, by_command: true, .. } => format!(
                "try again; if the command wrote to the file, have the command print the new content, or edit a copy: \
                 `aba-lock update --in-place {} -- CMD {{}}`",
                quoted(Path::new(label))
            ),
            Self::ChangedMeanwhile { .. } | Self::LeadsElsewhere { .. } => "try again".to_owned(),
            Self::LockRemoved { .. } => {
                "try again, and find out what removes the lock file: it is meant to stay".to_owned()
            }
            Self::TaskRoot { .. } => "set RUN_ONCE_DIR to a directory of yours on a local disk".to_owned(),
            Self::NotOurCommand { .. } | Self::NotUnderstood { .. } => "give the command again, behind `--`".to_owned(),
            Self::Deadlock { circle, .. } if circle.has_pipe() => {
                "run one part after the other, or take the lock once for all: `aba-lock lock NAME -- sh -c 'CMD | CMD'`"
                    .to_owned()
            }
            Self::Deadlock { circle, .. } if circle.steps.len() == 1 => {
                "it is held by what asks for it, in a way that cannot be seen from inside: release it first".to_owned()
            }
            Self::Deadlock { .. } => {
                "have all take them in the same order, or together: `aba-lock lock NAME NAME -- CMD`".to_owned()
            }
            Self::TaskTimedOut { id, .. } | Self::Interrupted { id, .. } => {
                format!("end it with `aba-lock run-once -r -i {id}`")
            }
            Self::TaskNotSeen { path, .. } => format!(
                "mount the /proc of this PID namespace (`mount -t proc proc /proc`), or, if no process is left, remove {}",
                quoted(path)
            ),
            Self::TaskBusy { path, .. } => {
                format!("see who has it with `aba-lock status --file {}`", quoted(path))
            }
            Self::NoStateRoot => "set ABA_LOCK_DIR to a directory of yours".to_owned(),
            Self::StateRoot { .. } | Self::Unsupported { .. } => {
                "set ABA_LOCK_DIR to a directory of yours on a local disk".to_owned()
            }
            Self::Open { source, owner, .. } if source.kind() == io::ErrorKind::PermissionDenied => match owner {
                Some(owner) => format!(
                    "each user has locks of their own in ~/.aba; to share this one, {owner} makes it readable for you"
                ),
                None => "set ABA_LOCK_DIR to a directory that you may write to".to_owned(),
            },
            Self::NotRegular { path, .. } if store::name_of(path).is_some() => {
                "another program put it there: see whose it is with `ls -l`".to_owned()
            }
            Self::NotRegular { .. } => "name a regular file, or a directory".to_owned(),
            Self::BadDescriptor { fd } => format!("open it first: `exec {fd}<>\"$(aba-lock path --create NAME)\"`"),
            Self::NoKeeper => {
                "install it with `make install WITH_SERVICE=yes`, or set ABA_LOCK_KEEPER to where it is".to_owned()
            }
            Self::Replaced { fd, path } => format!("open it again: `exec {fd}<>{}`", quoted(path)),
            Self::KeepsChanging { .. } => {
                "find what removes it, and stop that: a lock file is meant to stay".to_owned()
            }
            Self::Upgrade { .. } => "release it first, or take it exclusive from the start".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_path_is_quoted_as_bash_reads_it_and_is_no_option_and_no_name() {
        let quoted = |bytes: &[u8]| quoted(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"/a/b"), "/a/b");
        assert_eq!(quoted(b"backup"), "./backup");
        assert_eq!(quoted(b"--kill"), "./--kill");
        assert_eq!(quoted(b"./a"), "./a");
        assert_eq!(quoted(b"../a b"), "'../a b'");
        assert_eq!(quoted(b"/it's\n\xff\x1b"), r"$'/it\'s\n\xff\x1b'");
    }
}
