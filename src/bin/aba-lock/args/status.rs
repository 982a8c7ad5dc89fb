//! The options of `status` and `list`, the meaning of their exit statuses, and the members of their JSON.

use clap::{Args, ValueHint};
use std::path::PathBuf;

pub(crate) const EXIT_STATUS: [(&str, &str); 4] =
    [("0", "held, here or elsewhere"), ("1", "free"), ("2", "wrong usage"), ("125", "it cannot be known from here")];

pub(crate) const LIST_EXIT_STATUS: [(&str, &str); 3] =
    [("0", "done"), ("2", "wrong usage"), ("125", "the state root cannot be read")];

/// The members of a lock in `status --json` and `list --json`. Unknown values are null.
pub(crate) const STATUS_JSON: [(&str, &str); 16] = [
    ("name, path", "the lock, and its file"),
    (
        "state",
        "held (`status` exits with 0); free (1); held-elsewhere (0): not held on this machine, but its lease is held at the \
         server; unknown (125): a process that cannot be seen from here may hold it, or the server could not be asked",
    ),
    ("mode", "exclusive or shared"),
    ("pid_file", "the absolute path of the file with the pid of the holder (--pid-file)"),
    ("since", "since when it is held: RFC 3339, UTC"),
    ("age_seconds", "for how long"),
    ("holders", "each process that has it: pid, user, command, inherited, terminal, running_seconds, namespace"),
    ("waiters", "in their order: pid, user, command, script (pid, command), mode, terminal, waiting_seconds"),
    ("waiting_seconds", "since its program was started, which may have waited for another lock before"),
    ("removed", "who has a lock on a file that was removed from the path, as holders"),
    ("record", "what the lock file says: pid, user, host, namespace, since, command, who, pid_file, mode, token, and"),
    (
        "record.holder",
        "alive, ended, closed, perhaps, other-namespace, other-host, unchecked, or stale: of an earlier lock",
    ),
    ("hidden", "whether there are processes that may not be looked into"),
    ("fcntl", "with --file: an fcntl(2) lock: mode, start, length (0: to the end), and its holders, as above"),
    ("remedy", "what can be done"),
    ("remote", "with a server: name, server, state, holder, waiters (of `list`: of all names, beside locks and tasks)"),
];

/// Say whether a lock is held, and by whom
///
/// Exits with 0 if it is held and with 1 if it is free. It takes no lock, so it never makes another's try
/// fail. Other users' processes can be seen by root alone.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The lock
    #[arg(value_name = "NAME", required_unless_present = "file")]
    pub(crate) name: Option<String>,

    /// Look at this file instead of a name; locks of fcntl(2) on it are shown as well
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with = "name")]
    pub(crate) file: Option<PathBuf>,

    /// Ask only whether this descriptor of the calling script holds it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: Option<i32>,

    /// With --fd: and whether the server confirms the lease, if one goes with it
    #[arg(long, requires_all = ["fd", "name"], hide = true)]
    pub(crate) lease: bool,

    /// Also say who has it at this server; empty for none [default: that of the environment]
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "fd"])]
    pub(crate) server: Option<String>,

    /// Print nothing: the exit status tells
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print it as a JSON object
    #[arg(long, conflicts_with_all = ["quiet", "fd"])]
    pub(crate) json: bool,
}

/// List all locks and tasks: who has them, for how long, and how many wait
///
/// Held locks first. Like `status` it takes no lock.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only what is held, or runs
    #[arg(long)]
    pub(crate) held: bool,

    /// Print it as JSON: an object with two arrays, locks and tasks
    #[arg(long)]
    pub(crate) json: bool,

    /// Also say what is held at this server; empty for none [default: that of the environment]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Show it on the whole screen, as it changes; q quits, the arrow keys scroll
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
}
