//! The options of `clean`, and the meaning of its exit statuses.

use super::value::parse_span;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "done, even if some files were kept"),
    ("2", "wrong usage"),
    ("125", "a file could not be removed, for example because of a missing permission"),
];

/// Remove lock files that no process uses
///
/// Free lock files do no harm, so this command is needed only to tidy up a directory.
///
/// Before a file is removed, it is locked, and then checked: the path must still lead to that file, and no other process may
/// have it open. A lock that is held is therefore never removed, and a script that starts at this moment gets no message about
/// contention. Each file that is kept is printed with the reason. (A plain flock(1) that opens a file at the moment of its
/// removal locks the removed file.) A lock file that owes a run to calls with `lock --coalesce` is kept.
///
/// The command cleans one scope: the locks of the user, or with --system those of all users. If there are locks of all users, too, the last
/// line names the scope.
///
/// A new lock file has the mode that its directory decides. If the removed file was opened to other users (`chmod a+rw`), open the
/// new one to them, too.
#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// The locks whose files are removed [default: all locks]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Also remove tasks that succeeded or failed, with their logs
    ///
    /// Tasks that are running or were interrupted are kept.
    #[arg(long, conflicts_with = "names")]
    pub(crate) tasks: bool,

    /// Remove only files and tasks that were last used more than TIME ago: 30, 30s, 10m, 2h, 7d, 2w
    ///
    /// The age of a lock file counts from the last time that the lock was acquired, the age of a task from its end.
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) older_than: Option<Duration>,

    /// Remove this pid file if the process that it names has ended; may be repeated
    ///
    /// No lock file is removed then.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["names", "tasks", "older_than"])]
    pub(crate) pid_file: Vec<PathBuf>,

    /// Print the files that would be removed, but remove nothing and lock nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print only errors
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(crate) quiet: bool,

    /// Clean the locks that all users of this machine share: see aba-lock-lock(1)
    #[arg(long)]
    pub(crate) system: bool,
}
