//! The options of `status` and `list`, the meaning of their exit statuses, and the members of their JSON.

use super::value::colour_choice;
use aba_lock::base::environment::ColourChoice;
use clap::{ArgGroup, Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "the lock is held, on this machine or another; without a lock, the list was printed"),
    ("1", "the lock is free"),
    ("2", "wrong usage"),
    ("125", "the state cannot be determined from here"),
];

pub(crate) const LIST_EXIT_STATUS: [(&str, &str); 3] =
    [("0", "the list was printed"), ("2", "wrong usage"), ("125", "the state root cannot be read")];

/// The members of a lock in `status --json` and `list --json`. Unknown values are null.
pub(crate) const STATUS_JSON: [(&str, &str); 28] = [
    ("name, path", "the name of the lock, and the path of its file"),
    ("scope", "user; system (--system); directory (that of ABA_LOCK_DIR); null with --file"),
    (
        "other_scope",
        "only in `status`: the object of the lock of the same name in /run/lock/aba-lock; null if it is not shown",
    ),
    (
        "key",
        "the text from which the name was derived (--key); in the form $'...' for bash if it has control characters or is \
         not UTF-8",
    ),
    (
        "state",
        "held (`status` exits with 0); free (1); held-elsewhere (0): the lock is not held on this machine, but its \
         lease is held at the server; unknown (125): a process that cannot be seen from here may hold it, or the \
         server did not answer",
    ),
    ("mode", "exclusive or shared; with slots: shared"),
    ("slots", "the number of slots of the lock (`lock --slots`), if it is held with slots"),
    ("pid_file", "the absolute path of the file with the pid of the holder (--pid-file)"),
    ("since", "the time at which the lock was acquired: RFC 3339, UTC"),
    ("age_seconds", "the time since then"),
    ("max_time_seconds", "the maximum time for which the lock is held (--max-time)"),
    ("remaining_seconds", "the time until its holders are ended; null if no watcher of that call is running"),
    (
        "holders",
        "the processes that hold the lock: pid, user, command, inherited, terminal, running_seconds, namespace, \
         slot, state",
    ),
    (
        "holders.state",
        "the state of the process: running, sleeping, uninterruptible, stopped, traced, or zombie (its first thread has ended)",
    ),
    (
        "processes",
        "only in `status`: the holders that have children, each as a tree: pid, command, state, running_seconds, sleeps_in (a \
         function of the kernel), children, omitted (the number of children that are left out)",
    ),
    (
        "problem",
        "the reason why the lock cannot be acquired although no process may hold it: a file lease, hard links to the lock file, or \
         a lock file that this user may not open",
    ),
    (
        "usual_seconds",
        "only in `status`, if the lock is logged (`log --enable`): the median time of the last ten runs whose end is known",
    ),
    (
        "waiters",
        "the processes in the queue, in order: pid, user, command, script (pid, command), mode, priority, replace (true with \
         `lock --replace`), state (as that of a holder), terminal, waiting_seconds",
    ),
    (
        "waiting_seconds",
        "the time since the program of the waiter was started; it may have waited for another lock first",
    ),
    ("removed", "processes that hold a lock on a file that was removed from this path: as holders"),
    (
        "record",
        "the content of the lock file: pid, user, host, namespace, since, command, who, pid_file, mode, token, and",
    ),
    (
        "record.holder",
        "the state of the process that wrote the record: alive, ended, closed, perhaps, other-namespace, other-host, \
         unchecked, or stale (the record of an earlier lock)",
    ),
    ("hidden", "true if some processes cannot be inspected by this user"),
    ("fcntl", "with --file: an fcntl(2) lock: mode, start, length (0: to the end), and its holders, as above"),
    (
        "lease",
        "a file lease (fcntl(2)), which keeps other processes from opening the lock file, so that it is held: its holders, as above",
    ),
    (
        "promised_run",
        "the run on which calls with --coalesce rely that have ended: owed (true if its waiter has ended), waiter_pid",
    ),
    ("remedy", "the suggested next step, the text of the line `hint:`"),
    (
        "remote",
        "with a server: name, server, state, holder, holders (more than one if the lease is shared), waiters (in `list`: an array next to locks and tasks, for all \
         names)",
    ),
];

/// Show whether a lock is held, and by which process
///
/// Without a name, all locks and tasks are listed, as by `list`. The exit status is 0 if the lock is held and 1 if it is free. If a lock with the same name has a file in the system scope
/// (--system), it is shown after that of the user, unless `ABA_LOCK_DIR` or `ABA_LOCK_SCOPE` is set; the exit status does not depend
/// on it. For a free lock, the process that acquired it last is shown, if its file has a record of that. If the lock is logged (`aba-lock log --enable`), its usual duration and the end of the last run
/// are shown, too. For a lock that is held, the processes below each holder are shown, down to those that do the
/// work: at most 24 processes, and the function of the kernel in which the last ones sleep. A holder that is stopped, by Ctrl-Z for
/// example, is called that, and the hint says how to continue it, or the processes below it that are stopped. The waiters follow in their order. Not shown are a stopped waiter of
/// flock(1), a stopped one that asks for a shared lock, and, in a container, some waiters outside of it. The command acquires no
/// lock, so it never makes an attempt of another process fail. It shows the locks in `ABA_LOCK_DIR`. To see a lock of another user,
/// set this variable to the directory of that user, `.aba` in the home directory. Only root can do that, and only root can see the
/// processes of other users.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("lock").args(["name", "key", "file"]))]
pub(crate) struct StatusArgs {
    /// The name of the lock [default: list all locks and tasks]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Show the lock of this text: see aba-lock-lock(1)
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<OsString>,

    /// Show the locks on this file or directory, including those of fcntl(2)
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<PathBuf>,

    /// Check only whether descriptor N of the calling script holds the lock
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), requires = "lock")]
    pub(crate) fd: Option<i32>,

    /// With --fd: also check that the server confirms the lease, if there is one
    #[arg(long, requires_all = ["fd", "name"], hide = true)]
    pub(crate) lease: bool,

    /// With --fd: check whether the calling script has acquired the lock itself, and has not inherited it
    #[arg(long, requires_all = ["fd", "name"], hide = true)]
    pub(crate) acquired: bool,

    /// Also show the holder at this server; an empty URL means none [default: the server of the environment]
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "fd"])]
    pub(crate) server: Option<String>,

    /// Print nothing; only set the exit status
    #[arg(short, long, requires = "lock")]
    pub(crate) quiet: bool,

    /// Print a JSON object
    #[arg(long, conflicts_with_all = ["quiet", "fd"])]
    pub(crate) json: bool,

    /// Show only the lock that all users of this machine share: see aba-lock-lock(1)
    #[arg(long, conflicts_with = "file")]
    pub(crate) system: bool,
}

/// List all locks and tasks, with holders, ages and waiters
///
/// Held locks are printed first. The command acquires no lock. The locks that all users of this machine share (--system) are listed after
/// those of the user, and if there are both, the column SCOPE says which is which. If `ABA_LOCK_DIR` or `ABA_LOCK_SCOPE` is set, only the
/// locks of that directory or scope are listed.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// List only locks that are held and tasks that are running
    #[arg(long)]
    pub(crate) held: bool,

    /// Print a JSON object with two arrays, locks and tasks
    #[arg(long)]
    pub(crate) json: bool,

    /// Also list the locks at this server; an empty URL means none [default: the server of the environment]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Show the list full-screen and keep it up to date; q quits, the arrow keys scroll
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,

    /// List only the locks that all users of this machine share
    #[arg(long)]
    pub(crate) system: bool,

    /// Use colours: auto (on a terminal, if the environment agrees), always or never [default: auto]
    #[arg(long, alias = "colour", value_name = "WHEN", value_parser = colour_choice(), hide_possible_values = true)]
    pub(crate) color: Option<ColourChoice>,
}
