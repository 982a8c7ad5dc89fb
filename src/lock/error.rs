//! Errors from acquiring, examining and releasing locks.

mod coalesce;
mod denied;
mod fcntl;
mod planted_names;
mod priority;
mod replace;
mod slots;

pub use coalesce::{CoalesceMistake, CoveredBy};
pub use fcntl::FcntlMistake;
pub use planted_names::PlantedNames;
pub use priority::PriorityMistake;
pub use replace::ReplaceMistake;
pub use slots::SlotMistake;

use self::denied::hint_for_denied;
use super::deadlock::circle::Circle;
use crate::base::command_error::CommandError;
use crate::base::error::ErrorClass;
use crate::base::names::LockName;
use crate::base::target::Kind;
use crate::base::text::{HINT_FOR_FULL_DISK, format_io_error, is_full_disk, quote_path};
use crate::os::{self, Mode};
use crate::store;
use crate::store::error::StoreError;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error from acquiring, examining or releasing a lock.
#[derive(Debug)]
pub enum LockError {
    Store(StoreError),
    Command(CommandError),
    /// The lock file cannot be opened or created.
    Open {
        path: PathBuf,
        /// The user who owns the file, if that may be the cause.
        owner: Option<String>,
        source: io::Error,
    },
    /// The lock file cannot be removed.
    Remove {
        path: PathBuf,
        source: io::Error,
    },
    /// The metadata of the lock file cannot be read.
    Examine {
        path: PathBuf,
        source: io::Error,
    },
    /// The file at the path is of a type that is not locked: neither a regular file, nor a directory that the user named.
    NotRegular {
        path: PathBuf,
        kind: &'static str,
    },
    /// The option needs calls that only Linux has.
    NeedsLinux {
        option: &'static str,
    },
    /// There is no `/proc` that shows the holders of locks.
    NoProc,
    /// The descriptor is not open.
    BadDescriptor {
        fd: RawFd,
    },
    /// The descriptor cannot be copied, for example because too many are open.
    CopyDescriptor {
        fd: RawFd,
        source: io::Error,
    },
    /// The descriptor is open on another file than the one at the path. The file at the path was replaced since the descriptor
    /// was opened, or the descriptor never was open on it.
    Replaced {
        fd: RawFd,
        path: PathBuf,
    },
    /// The lock file was replaced each time that it was opened.
    KeepsChanging {
        path: PathBuf,
    },
    /// The file system does not support locks.
    Unsupported {
        path: PathBuf,
        file_system: String,
        source: io::Error,
    },
    /// The kernel does not say whether a descriptor holds its lock.
    Unknown {
        fd: i32,
        path: PathBuf,
        source: io::Error,
    },
    /// The kernel refused the lock for another reason.
    Lock {
        path: PathBuf,
        source: io::Error,
    },
    /// Another process holds the lock, and the caller does not wait.
    Busy {
        label: String,
        path: PathBuf,
        /// Distinguishes a file of the user from a named lock with the same label.
        kind: Kind,
    },
    /// The wait would never end: the holder waits, perhaps through others, for a lock of this process.
    Deadlock {
        label: String,
        circle: Box<Circle>,
    },
    /// Another process still held the lock when the time limit passed.
    TimedOut {
        label: String,
        path: PathBuf,
        kind: Kind,
        after: Duration,
    },
    /// The script holds the lock shared and asks for it exclusive.
    Upgrade {
        label: String,
        held: Mode,
    },
    /// The caller asks for a maximum time, but holds the lock already, so that there is no acquisition that could be limited.
    HeldWithoutLimit {
        label: String,
    },
    /// The process that limits the time cannot be started, or cannot pass the lock to the caller.
    NoWatcher {
        label: String,
        /// The step that fails, as a clause.
        step: &'static str,
        source: io::Error,
    },
    /// The caller cannot get a slot (`--slots`), whatever it waits for.
    Slots {
        label: String,
        mistake: SlotMistake,
    },
    /// A run after this call makes one of the caller unnecessary (`--coalesce`).
    Covered {
        label: String,
        by: CoveredBy,
    },
    /// The file cannot be used with `--coalesce`.
    Coalesce {
        label: String,
        mistake: CoalesceMistake,
    },
    /// The caller does not replace the holder (`--replace`).
    Replace {
        label: String,
        mistake: ReplaceMistake,
    },
    /// The file cannot be used with `--priority`.
    Priority {
        label: String,
        mistake: PriorityMistake,
    },
    /// The file cannot be locked with `--fcntl`.
    Fcntl {
        label: String,
        path: PathBuf,
        mistake: FcntlMistake,
    },
    /// The script for which this process waited has ended.
    ScriptEnded {
        label: String,
    },
    /// The lock cannot be bound to the script (`--no-inherit`).
    Bind {
        label: String,
        source: io::Error,
    },
    /// The process that holds the lock for the script does not end.
    Unbind {
        fd: RawFd,
        source: io::Error,
    },
    /// The keeper of leases is not installed.
    NoKeeper,
}

impl LockError {
    /// Returns the class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Command(error) => error.class(),
            Self::Replace { mistake, .. } => mistake.class(),
            Self::Busy { .. }
            | Self::Upgrade { .. }
            | Self::HeldWithoutLimit { .. }
            | Self::Deadlock { .. }
            | Self::Covered { .. }
            | Self::Slots {
                mistake: SlotMistake::OtherNumber { .. } | SlotMistake::HeldShared | SlotMistake::HeldInPart(_),
                ..
            } => ErrorClass::Busy,
            Self::TimedOut { .. } => ErrorClass::TimedOut,
            Self::Replaced { .. } => ErrorClass::Replaced,
            Self::Open { .. }
            | Self::Remove { .. }
            | Self::Examine { .. }
            | Self::NotRegular { .. }
            | Self::NoProc
            | Self::NeedsLinux { .. }
            | Self::Unknown { .. }
            | Self::BadDescriptor { .. }
            | Self::CopyDescriptor { .. }
            | Self::KeepsChanging { .. }
            | Self::Unsupported { .. }
            | Self::Lock { .. }
            | Self::NoWatcher { .. }
            | Self::ScriptEnded { .. }
            | Self::Coalesce { .. }
            | Self::Priority { .. }
            | Self::Fcntl { .. }
            | Self::Slots { mistake: SlotMistake::NotWritable | SlotMistake::FileSystem(_), .. }
            | Self::Bind { .. }
            | Self::Unbind { .. }
            | Self::NoKeeper => ErrorClass::Failed,
        }
    }

    /// Returns the path that could not be opened or examined. If it is in the state root, the root itself may be the cause, and
    /// [`store::hint_about`] explains that.
    #[must_use]
    pub fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::Store(error) => error.path_in_root(),
            Self::Open { path, .. } | Self::Examine { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns advice for the user, if there is any.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
            Self::Deadlock { circle, .. } => hint_for_circle(circle),
            Self::Open { path, owner, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                hint_for_denied(path, owner.as_deref())
            }
            Self::Open { source, .. } if is_full_disk(source) => HINT_FOR_FULL_DISK.to_owned(),
            Self::Open { source, .. } if PlantedNames::find_in(source).is_some() => {
                return PlantedNames::find_in(source).map(PlantedNames::hint);
            }
            Self::Open { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
                "the lines of `grep LEASE /proc/locks` have the pids of such processes".to_owned()
            }
            Self::Examine { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("show the owners and modes of its directories with `namei -l {}`", quote_path(path))
            }
            Self::NotRegular { path, .. } if store::name_of(path).is_some() => {
                format!("show its owner with `ls -ld {}`; move it away, or use another name", quote_path(path))
            }
            Self::NotRegular { .. } => "use a regular file or a directory".to_owned(),
            Self::NoProc => "run this command where /proc is mounted".to_owned(),
            Self::BadDescriptor { fd } => format!("open it first: `exec {fd}<>\"$(aba-lock path --create NAME)\"`"),
            Self::NoKeeper => {
                "install it with `make install WITH_SERVICE=yes`, or set ABA_LOCK_KEEPER to its path".to_owned()
            }
            Self::Bind { .. } => "--no-inherit needs Linux 5.3 or newer, and /proc".to_owned(),
            Self::Replaced { fd, path } => format!("open it again: `exec {fd}<>{}`", quote_path(path)),
            Self::KeepsChanging { .. } => {
                "stop the program that removes or replaces it: a lock file must stay".to_owned()
            }
            Self::HeldWithoutLimit { .. } => "release it first, or give --max-time where it is acquired".to_owned(),
            Self::Upgrade { .. } => "release it first, or acquire it exclusive from the start".to_owned(),
            Self::Slots { label, mistake: SlotMistake::NotWritable }
            | Self::Replace { label, mistake: ReplaceMistake::NotWritable }
                if may_write(label) =>
            {
                format!("open it for reading and writing: `exec N<>{}`", quote_path(Path::new(label)))
            }
            Self::Replace { mistake, .. } => return mistake.hint(),
            Self::Slots { mistake, .. } => mistake.hint(),
            Self::Coalesce { mistake, .. } => mistake.hint().to_owned(),
            Self::Priority { mistake, .. } => mistake.hint().to_owned(),
            Self::Fcntl { path, mistake, .. } => mistake.hint(path),
            Self::Unsupported { path, .. } if store::name_of(path).is_none() => "use a file on a local disk".to_owned(),
            Self::Unsupported { .. } => "set ABA_LOCK_DIR to a writable directory on a local disk".to_owned(),
            _ => return None,
        })
    }
}

/// Returns true if this user may write to the file, so that only a descriptor of the script is not open for writing.
fn may_write(path: &str) -> bool {
    fs::OpenOptions::new().write(true).open(path).is_ok()
}

fn hint_for_circle(circle: &Circle) -> String {
    if circle.has_pipe() {
        return "run the commands one after the other, or acquire the lock once: \
                `aba-lock lock NAME -- sh -c 'CMD | CMD'`"
            .to_owned();
    }
    match circle.steps.as_slice() {
        [step] if step.pid == std::process::id() => {
            "this process holds the lock already, through another descriptor: release that one first".to_owned()
        }
        [step] => {
            format!("pid {} started this command: run this without the lock, or release it there first", step.pid)
        }
        steps if steps.iter().any(|step| step.holds.starts_with("task ")) => {
            "let one of these processes go on without the task: `aba-lock run-once` without --wait only starts it"
                .to_owned()
        }
        _ if circle.has_slots => "acquire these locks in the same order everywhere".to_owned(),
        steps => {
            let names: Option<Vec<&str>> =
                steps.iter().map(|step| LockName::parse(&step.holds).is_ok().then_some(step.holds.as_str())).collect();
            let names = names.map_or_else(|| "NAME NAME".to_owned(), |names| names.join(" "));
            format!("acquire these locks in the same order everywhere, or at once: `aba-lock lock {names} -- CMD`")
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Command(error) => write!(f, "{error}"),
            Self::Open { path, owner, source } => {
                write!(f, "cannot open lock file {}: {}", path.display(), format_io_error(source))?;
                owner.as_ref().map_or(Ok(()), |owner| write!(f, " (owner: {owner})"))
            }
            Self::Remove { path, source } => {
                write!(f, "cannot remove lock file {}: {}", path.display(), format_io_error(source))
            }
            Self::Examine { path, source } => {
                write!(f, "cannot examine lock file {}: {}", path.display(), format_io_error(source))
            }
            Self::NotRegular { path, kind } => {
                write!(f, "cannot use lock file {}: it is a {kind}, not a regular file", path.display())
            }
            Self::NeedsLinux { option } => write!(f, "cannot use {option}: it needs Linux"),
            Self::NoProc => write!(f, "cannot determine which locks are held: /proc cannot be read"),
            Self::BadDescriptor { fd } => write!(f, "file descriptor {fd} is not open"),
            Self::CopyDescriptor { fd, source } => {
                write!(f, "cannot use file descriptor {fd}: {}", format_io_error(source))
            }
            Self::Replaced { fd, path } => {
                write!(f, "file descriptor {fd} is not open on lock file {}", path.display())
            }
            Self::KeepsChanging { path } => {
                write!(f, "lock file {} was replaced each time it was opened", path.display())
            }
            Self::Unsupported { path, file_system, source } => {
                write!(
                    f,
                    "cannot lock {}: {file_system} does not support locks: {}",
                    path.display(),
                    format_io_error(source)
                )
            }
            Self::Unknown { fd, path, source } => write!(
                f,
                "cannot determine whether file descriptor {fd} holds the lock on {}: /proc/self/fdinfo: {}",
                path.display(),
                format_io_error(source)
            ),
            Self::Lock { path, source } => write!(f, "cannot lock {}: {}", path.display(), format_io_error(source)),
            Self::Busy { label, .. } => write!(f, "{label} is locked by another process"),
            Self::Deadlock { label, circle } => write!(f, "waiting for {label} would be a deadlock: {circle}"),
            Self::TimedOut { label, after, .. } => {
                write!(f, "timed out after {} s waiting for {label}", after.as_secs_f64())
            }
            Self::Upgrade { label, held } => {
                write!(f, "{label} is already held {held} by this script, and cannot become exclusive while it is held")
            }
            Self::HeldWithoutLimit { label } => {
                write!(
                    f,
                    "cannot limit the time of {label}: this process or one that started it already holds the lock"
                )
            }
            Self::NoWatcher { label, step, source } => {
                write!(f, "cannot limit the time of {label}: {step}: {}", format_io_error(source))
            }
            Self::Slots { label, mistake } => mistake.write(label, f),
            Self::Covered { label, by } => write!(f, "{label}: {by}"),
            Self::Coalesce { label, mistake } => write!(f, "cannot lock {label} with --coalesce: {mistake}"),
            Self::Replace { label, mistake } => mistake.write(label, f),
            Self::Priority { label, mistake } => write!(f, "cannot lock {label} with --priority: {mistake}"),
            Self::Fcntl { label, mistake, .. } => write!(f, "cannot lock {label} with --fcntl: {mistake}"),
            Self::ScriptEnded { label } => write!(f, "the script that waited for {label} has ended"),
            Self::Bind { label, source } => {
                write!(f, "cannot lock {label} without inheritance: {}", format_io_error(source))
            }
            Self::Unbind { fd, source } => {
                write!(f, "cannot release the lock of file descriptor {fd}: {}", format_io_error(source))
            }
            Self::NoKeeper => f.write_str("cannot use leases: aba-lock-keeper was not found"),
        }
    }
}

impl std::error::Error for LockError {}

impl From<StoreError> for LockError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CommandError> for LockError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl LockError {
    /// Converts an error of [`os::try_second_descriptor`].
    #[must_use]
    pub fn cannot_copy(fd: RawFd, source: io::Error) -> Self {
        if source.raw_os_error() == Some(libc::EBADF) {
            Self::BadDescriptor { fd }
        } else {
            Self::CopyDescriptor { fd, source }
        }
    }

    /// Converts an error of the system calls that examine the file at `path`.
    pub(crate) fn cannot_examine(path: &Path, source: io::Error) -> Self {
        Self::Examine { path: path.to_owned(), source }
    }

    /// Converts an error of the system call that locks the file at `path`.
    pub(crate) fn cannot_lock(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => {
                Self::Unsupported { file_system: os::file_system(&path), path, source }
            }
            _ => Self::Lock { path, source },
        }
    }
}
