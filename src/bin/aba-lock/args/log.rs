//! The options of `log`, the meaning of its exit statuses, and the members of its JSON.

use super::value::parse_span;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "the history was printed, or the log was turned on or off"),
    ("1", "there is no log, or it has no holder of the lock"),
    ("2", "wrong usage"),
    (
        "125",
        "the log cannot be read, or cannot be turned on or off, also if that is true of only some of the lock files",
    ),
];

/// The members of a holding. Unknown values are null.
pub(crate) const JSON: [(&str, &str); 18] = [
    (
        "lock, path",
        "the name of the lock (its path, with --file and update; `run-once ID` for a task), and the path of the lock file",
    ),
    ("scope", "user; system (--system); directory (that of `ABA_LOCK_DIR`); null for files and tasks"),
    ("key", "the text from which the name was derived (--key)"),
    ("pid, command", "the script or command that held the lock"),
    ("user", "the user who ran it"),
    ("mode, token", "exclusive or shared, and the fencing token"),
    ("slot, slots", "with --slots: the number of the slot, and the number of slots of the lock"),
    ("since", "the time at which the lock was acquired: RFC 3339, UTC; null if that is not in the log"),
    ("waited_seconds", "the time for which the call had waited for the lock"),
    ("state", "ended, held (it has not ended), or unknown (that cannot be determined)"),
    (
        "ended_after, ended_before",
        "the times between which it ended; the same time if it is known, and null if it has not ended",
    ),
    ("held_seconds", "how long the lock was held, if the end is known"),
    (
        "cause",
        "release (by its holder), exit (of the command), kill (unlock --kill), max-time, or replace; null if its process has \
         ended or closed the file, or if the cause is not known",
    ),
    ("status, signal", "with exit: the exit status of the command, and the signal that ended it, if it is known: TERM"),
    ("killer_pid, killer_user, killer_command", "with kill and replace: the process that ended the holder"),
    ("child_pid, child_command", "a process that held the lock after the command had exited, if it could be seen"),
    ("waits", "the calls that found the lock held: pid, command, user, since, outcome, waited_seconds"),
    ("waits.outcome", "refused, skipped (--skip-ok), acquired, timed-out, gave-up, covered (--coalesce), or unknown"),
];

/// Show which processes held a lock, for how long, and which ones waited
///
/// The history comes from the event log. No log is kept unless you turn it on: with --enable, for all locks of this directory
/// and all processes that use them, or with `ABA_LOCK_LOG`, for the processes that have this variable. --enable creates
/// `events.jsonl` in `ABA_LOCK_DIR`. When this file has 1 MiB, it is renamed to `events.jsonl.1`, and the older one is removed. A lock
/// that is not logged takes no more time. While a lock is logged, `lock NAME -- CMD` waits for CMD, so that the log gets the exit
/// status. If it is killed with SIGKILL, CMD is killed, too (Linux). If a child of CMD keeps the lock, the holding goes on, and later
/// its end lies between two times.
///
/// In a directory that all users may write to and that is sticky, as that of --system, only root and the owner of the directory can turn the
/// log on, and only they can rename it. Calls of other users append to it until it has 4 MiB. Then their events are dropped, until a call of
/// root or of the owner rotates it; --enable does, too. Any user can make such a log larger. Calls read only the
/// last 5 MiB of a log, and of the one before it, and a rotation removes a larger one. In a directory that several users share, a call that cannot write to the log says
/// nothing, because any of these users could cause that: `doctor` and `log` name the reason, with the next step. In a
/// sticky directory, a file that another user has put in the place of the log is neither read nor written. In a directory of a group that
/// is not sticky, each member may replace the log.
///
/// The oldest holding comes first. If a script or another process ends while it holds a lock, the kernel releases it, and no process is
/// left to log that. Then the end lies between two times: the last event that proves the holding, and the next event
/// that proves its end. If another process waited for the lock, its acquisition is the end. A holder whose acquisition is not in the
/// log, such as flock(1), is shown from the first call that found the lock held by it.
///
/// The runs of tasks (`run-once`) are in the log of --enable, too, as `run-once ID`. NAME selects the lock and the task of this name.
/// Locks of --file, `update` and leases of numbers are only in the log of `ABA_LOCK_LOG`, which has precedence. A rotated log FILE.1 is
/// read, too.
///
/// The locks that all users of this machine share (--system) have a log of their own. Its holdings are shown among those of the user, and if
/// there are both, each name is followed by its scope. If `ABA_LOCK_DIR`, `ABA_LOCK_SCOPE` or a log is given, only that one is read.
/// --enable and --disable are for one scope.
#[derive(Debug, Default, Args)]
#[command(
    override_usage = "aba-lock log [OPTIONS] [NAME]\n       aba-lock log [OPTIONS] --key TEXT|--file PATH\n       aba-lock log --enable|--disable"
)]
pub(crate) struct LogArgs {
    /// Show only this lock, and the task with this id [default: all of them]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Show only the lock of this text: see aba-lock-lock(1)
    #[arg(long, value_name = "TEXT", conflicts_with = "name")]
    pub(crate) key: Option<OsString>,

    /// Show only the lock on this file or directory, in a log of `ABA_LOCK_LOG`
    ///
    /// The lock of `update FILE` is on FILE.lock.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with_all = ["name", "key", "system"])]
    pub(crate) file: Option<PathBuf>,

    /// Show only the holdings within the last TIME: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) since: Option<Duration>,

    /// Print the last events, and then each new event until a signal ends the command
    ///
    /// If there is no log yet, it says so, and waits for one.
    /// With --json, each event is printed as it is in the log.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Print a JSON object in a line for each holding
    #[arg(long)]
    pub(crate) json: bool,

    /// Read this log [default: `ABA_LOCK_LOG`, otherwise the log in `ABA_LOCK_DIR`]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,

    /// Log the events of the locks in `ABA_LOCK_DIR`, from now on
    #[arg(long, conflicts_with_all = ["name", "key", "file", "since", "follow", "json", "log"])]
    pub(crate) enable: bool,

    /// Stop logging them; the present log is kept
    #[arg(long, conflicts_with_all = ["name", "key", "file", "since", "follow", "json", "log", "enable"])]
    pub(crate) disable: bool,

    /// Use only the log of the locks that all users of this machine share: see aba-lock-lock(1)
    #[arg(long)]
    pub(crate) system: bool,
}
