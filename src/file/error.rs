//! Errors from updating a file, with their messages, hints and exit classes.

use crate::base::command_error::CommandError;
use crate::base::error::ErrorClass;
use crate::base::text::{format_io_error, quote_path};
use crate::lock::error::LockError;
use crate::lock::holders::LeasedFile;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Errors from updating a file.
#[derive(Debug)]
pub enum FileError {
    /// An error from acquiring the lock.
    Lock(LockError),
    /// An error from running a command.
    Command(CommandError),
    /// The file does not exist or cannot be read. Here and below, `label` is the user's path.
    NoFile { label: String, source: io::Error },
    /// The file is not a regular file.
    NotAFile {
        label: String,
        /// The type of the file.
        kind: &'static str,
    },
    /// A step of an update failed. The file is unchanged.
    Update {
        /// The step that failed: the text between "cannot" and the file.
        what: &'static str,
        label: String,
        source: io::Error,
    },
    /// The file was changed, but the change may be lost after a power failure.
    NotOnDisk { label: String, source: io::Error },
    /// The new content is empty, most likely because the command failed and nevertheless exited with status 0.
    NothingNew { label: String },
    /// The check refused the new content.
    NotAccepted { label: String, status: i32 },
    /// The check changed the new content, which it may only read.
    CheckWrote { label: String },
    /// The file was changed after it was read, by the command that makes its new content or by a process that does not use
    /// its lock.
    ChangedMeanwhile {
        label: String,
        /// The path to which the old content was saved, if the file was truncated.
        saved: Option<PathBuf>,
        /// True if a command makes the new content.
        by_command: bool,
    },
    /// The path no longer leads to the file that was read.
    LeadsElsewhere { label: String },
    /// The lock file of an update was removed or replaced during the update.
    LockRemoved { label: String, path: PathBuf },
    /// This process would wait for an update whose command waits for this process.
    UpdatesItself { label: String },
}

impl FileError {
    /// The class of the error, which decides the exit status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Lock(error) => error.class(),
            Self::Command(error) => error.class(),
            // The check could not be run. The exit status is that of the shell, which shows the reason.
            Self::NotAccepted { status: status @ (126 | 127), .. } => ErrorClass::Status(*status),
            Self::NothingNew { .. }
            | Self::NotAccepted { .. }
            | Self::CheckWrote { .. }
            | Self::ChangedMeanwhile { .. }
            | Self::LeadsElsewhere { .. }
            | Self::LockRemoved { .. } => ErrorClass::Refused,
            Self::UpdatesItself { .. } => ErrorClass::Busy,
            Self::NoFile { .. } | Self::NotAFile { .. } | Self::Update { .. } | Self::NotOnDisk { .. } => {
                ErrorClass::Failed
            }
        }
    }

    /// Returns the path that could not be opened. If it is in the state root, the root itself may be the cause, and
    /// [`hint_about`](crate::store::hint_about) explains that.
    #[must_use]
    pub fn path_in_root(&self) -> Option<&Path> {
        match self {
            Self::Lock(error) => error.path_in_root(),
            Self::NoFile { label, .. } | Self::Update { what: "open the lock file", label, .. } => {
                Some(Path::new(label))
            }
            _ => None,
        }
    }

    /// The next step for the user, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Lock(error) => return error.hint(),
            Self::NoFile { label, source } if source.kind() == io::ErrorKind::NotFound => {
                match Path::new(label).parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
                    Some(parent) => format!(
                        "the directory {} does not exist: create it with `mkdir -p {}`",
                        parent.display(),
                        quote_path(parent)
                    ),
                    None => "to create it, use `--create`".to_owned(),
                }
            }
            Self::NoFile { source, .. } if LeasedFile::find_in(source).is_some() => {
                return LeasedFile::find_in(source).map(LeasedFile::hint);
            }
            Self::Update { what: "open the lock file", label, source }
                if source.kind() == io::ErrorKind::PermissionDenied && !Path::new(label).exists() =>
            {
                let directory = Path::new(label).parent().unwrap_or(Path::new("/"));
                format!(
                    "an update creates files in {}: run this command as a user who can do that",
                    quote_path(directory)
                )
            }
            Self::NothingNew { label } if !Path::new(label).exists() => {
                "the file is new, so the input of the command was empty: use a command that needs none, such as `jq -n`"
                    .to_owned()
            }
            Self::NothingNew { .. } => "if that is intended, use `--allow-empty`".to_owned(),
            Self::ChangedMeanwhile { label, by_command: true, .. } => format!(
                "try again; if the command wrote to the file, it must print the new content instead, or edit a copy: \
                 `aba-lock update --in-place {} -- CMD {{}}`",
                quote_path(Path::new(label))
            ),
            Self::ChangedMeanwhile { .. } | Self::LeadsElsewhere { .. } => "try again".to_owned(),
            Self::LockRemoved { .. } => {
                "try again; stop the program that removes or replaces the lock file: it must stay".to_owned()
            }
            _ => return None,
        })
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(error) => write!(f, "{error}"),
            Self::Command(error) => write!(f, "{error}"),
            Self::NoFile { label, source } => write!(f, "cannot open {label}: {}", format_io_error(source)),
            Self::NotAFile { label, kind } => write!(f, "{label} is a {kind}, not a regular file"),
            Self::Update { what, label, source } => {
                write!(f, "cannot {what} {label}: {}; the file is unchanged", format_io_error(source))
            }
            Self::NotOnDisk { label, source } => write!(
                f,
                "{label} was changed, but cannot be synced to the disk: {}; a power failure may undo the change",
                format_io_error(source)
            ),
            Self::NothingNew { label } => write!(f, "the new content of {label} is empty; the file is unchanged"),
            Self::NotAccepted { label, status: status @ (126 | 127) } => {
                write!(f, "cannot run the check of {label} (status {status}); the file is unchanged")
            }
            Self::NotAccepted { label, status } => {
                write!(f, "the check refused the new content of {label} (status {status}); the file is unchanged")
            }
            Self::CheckWrote { label } => {
                write!(f, "the check changed the new content of {label}, which it may only read; the file is unchanged")
            }
            Self::ChangedMeanwhile { label, saved, by_command } => {
                let who = if *by_command { "the command or another process" } else { "another process" };
                write!(f, "{label} was changed during the update, without the lock, by {who}; ")?;
                match saved {
                    Some(saved) => write!(f, "the old content is in {}", saved.display()),
                    None => f.write_str("the update was discarded"),
                }
            }
            Self::LeadsElsewhere { label } => {
                write!(f, "{label} no longer leads to the file that was read; no file was changed")
            }
            Self::LockRemoved { label, path } => write!(
                f,
                "lock file {} was removed during the update, so another process may update {label} now; the file is unchanged",
                path.display()
            ),
            Self::UpdatesItself { label } => {
                write!(
                    f,
                    "waiting for {label} would be a deadlock: it is being updated by a command that waits for this one"
                )
            }
        }
    }
}

impl std::error::Error for FileError {}

impl From<LockError> for FileError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<CommandError> for FileError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}
