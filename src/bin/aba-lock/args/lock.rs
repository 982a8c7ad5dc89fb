//! The options of `lock` and `unlock`, and the meaning of their exit statuses.

use super::value::{coalescing, parse_signal, parse_span, priority};
use aba_lock::lock::request::Coalescing;
use aba_lock::os::{MAX_SLOTS, Priority};
use clap::{ArgGroup, Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The exit statuses of all commands together, for the page of `aba-lock`.
pub(crate) const ALL_EXIT_STATUS: [(&str, &str); 12] = [
    ("0", "the lock was acquired; with a command: the command succeeded"),
    ("1", "the answer is no: `status` reports a free lock"),
    ("2", "wrong usage"),
    ("75", "not acquired: another process holds the lock, or waiting would be a deadlock (-E changes it)"),
    ("76", "the lock file was replaced while it was opened: open it again"),
    ("80", "--coalesce or --skip-ok with --fd: not acquired, and the script should end with success"),
    ("124", "timed out while waiting (-E changes it)"),
    (
        "125",
        "aba-lock itself failed: for example, the file cannot be opened, or its file system does not support locks",
    ),
    ("126", "the command cannot be run"),
    ("127", "the command was not found"),
    ("128+n", "signal n ended the command, or the wait for the lock"),
    ("other", "the exit status of the command"),
];

/// The exit statuses of `lock`: all but 1.
pub(crate) const EXIT_STATUS: [(&str, &str); 11] = {
    let [done, _, usage, busy, replaced, covered, timed_out, failed, cannot_run, not_found, signal, other] =
        ALL_EXIT_STATUS;
    [done, usage, busy, replaced, covered, timed_out, failed, cannot_run, not_found, signal, other]
};

pub(crate) const UNLOCK_EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "released; with a name: the lock is free, or the processes that held it no longer do"),
    ("2", "wrong usage"),
    ("75", "another process holds the lock; with --kill: refused, or the holders did not end"),
    ("76", "the descriptor is not open on the lock file"),
    ("125", "aba-lock itself failed"),
];

/// Acquire a lock for a command (-- CMD) or a script (--fd)
///
/// With -- CMD, aba-lock acquires the lock and then becomes CMD, which keeps the pid, the terminal, the signals and the exit
/// status. The lock is held until CMD and every child that inherited it have ended. A CMD that closes inherited descriptors
/// would release the lock too early. For ssh, sudo and doas, aba-lock therefore turns on --no-inherit by itself. Give that
/// option yourself for other such commands, and if env, nice or nohup precedes them.
///
/// With --fd, the lock is acquired on a descriptor that the calling script has opened on the lock file. It is held until the
/// script, and every process that inherited the descriptor, have closed it or ended. These processes share the lock: a call
/// with --fd on a descriptor that one of them has locked succeeds at once, as with flock(1).
///
/// Several locks are acquired in the order of their names, either all or none. A nested call succeeds at once if a calling
/// script holds the lock and this command inherited its descriptor. With --fd, that may be another descriptor than N. But a script
/// that opens the file on the descriptor that it inherited closes its copy of the lock, and the call is a conflict. In ksh and mksh,
/// whose children inherit no descriptors, write `aba-lock lock --fd 9 NAME 9<&9`. A shared lock is never made exclusive in place, not
/// even with --file: release it first.
///
/// Waiters for an exclusive lock, including flock(1), get it in the order in which they began to wait. A call that arrives at
/// the moment of a release can get the lock before them. While a process waits for an exclusive lock, a new call for a shared one
/// or for a slot waits after it, and with -n it is refused, so overlapping holders do not keep an exclusive waiter out. This order is not kept
/// by shared callers of flock(1), by those that may only read the file, on network file systems such as NFS, and for a call below
/// a holder of the same shared lock, which is granted at once. A wait that is interrupted, for example by a signal that a script
/// handles, continues at the end of the queue. A waiter that is stopped (Ctrl-Z) makes shared ones after it wait, and
/// a shared one makes all of them wait. A call for
/// several locks begins to wait for the second one when it holds the first.
#[derive(Debug, Default, Args)]
#[command(override_usage = "aba-lock lock [OPTIONS] NAME... -- CMD [ARG]...\n       \
                            aba-lock lock [OPTIONS] NAME -c 'SHELL LINE'\n       \
                            aba-lock lock [OPTIONS] --key TEXT... -- CMD [ARG]...\n       \
                            aba-lock lock [OPTIONS] --file PATH [--file PATH]... -- CMD [ARG]...\n       \
                            aba-lock lock [OPTIONS] NAME --fd N")]
#[command(group = ArgGroup::new("what").args(["names", "key", "file"]).multiple(true).required(true))]
#[command(group = ArgGroup::new("how").args(["fd", "bind", "command", "shell_line", "await_open"]).required(true))]
#[command(group = ArgGroup::new("program").args(["command", "shell_line"]))]
#[command(group = ArgGroup::new("script").args(["fd", "bind", "await_open"]))]
#[command(group = ArgGroup::new("ends").args(["max_time", "replace"]).multiple(true))]
pub(crate) struct LockArgs {
    /// The name of the lock: letters, digits and . _ - : @ +
    #[arg(index = 1, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Use any text as the name, such as a URL, a path or a command line; may be repeated
    ///
    /// The name is then derived from TEXT: a readable part of it, `+`, and 40 hexadecimal digits of its SHA-256, so two texts never
    /// share a lock. `aba-lock path --name --key TEXT` prints it. Messages, `status` and `list` show TEXT, which is in the record
    /// of the holder, where a text of more than 500 bytes is cut. If TEXT begins with `-`, write `--key=TEXT`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Vec<OsString>,

    /// Lock this file or directory instead of a name; may be repeated
    ///
    /// The content of the file does not change. Several files are locked either all or none.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with_all = ["names", "key"])]
    pub(crate) file: Vec<PathBuf>,

    /// With --file: lock the file with fcntl(2), as dpkg, certbot and `SQLite` do, and not with flock(2)
    ///
    /// The lock excludes POSIX locks on any part of the file, those of fcntl(2) and lockf(3), and it is held like other locks: by CMD
    /// and every child that inherited it, or with --fd by the script. It excludes no lock of flock(2), so all callers must give
    /// --fcntl. The content of the file does not change. If the file does not exist, it is created. An exclusive lock needs a file
    /// that you may write to. A CMD that locks the same file itself is refused this lock, or waits forever. apt-get and certbot do that: for
    /// these, run `aba-lock wait --file PATH` first, or use their own options, such as `-o DPkg::Lock::Timeout=60`. dpkg leaves the
    /// lock to its caller if `DPKG_FRONTEND_LOCKED` is set.
    ///
    /// Messages and `status` name the process that holds the lock. The kernel does not name the processes that wait. A wait that
    /// would be a deadlock is only refused if the lock is held by a process that started this one, and waits for it. The option
    /// cannot be combined with --slots, --priority, --coalesce and --replace, which lock parts of the file themselves, nor with
    /// --max-time, because the kernel does not say which call acquired such a lock. On Linux only.
    #[arg(long, conflicts_with_all = ["slots", "priority", "coalesce", "replace", "max_time", "bind"])]
    pub(crate) fcntl: bool,

    /// Lock descriptor N, which the calling script has opened on the lock file
    ///
    /// Give one descriptor for each NAME, --key or --file, in the same order, the names first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: Vec<i32>,

    /// Hold the lock in a process that is bound to the calling script, which has the reading end of a pipe open as descriptor N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..), hide = true)]
    #[arg(conflicts_with_all = ["fd", "max_time"])]
    pub(crate) bind: Vec<i32>,

    /// Fail at once if another process holds the lock [default]
    #[arg(short = 'n', long, overrides_with_all = ["wait", "timeout"])]
    pub(crate) nonblock: bool,

    /// Wait until the lock is free, or for at most TIME: --wait=60 or -w=5m
    #[arg(short, long, value_name = "TIME", value_parser = parse_span, overrides_with = "nonblock")]
    #[arg(num_args = 0..=1, require_equals = true)]
    pub(crate) wait: Option<Option<Duration>>,

    /// Give up after TIME: 30, 1.5, 90s, 1h30m; 0 means do not wait
    ///
    /// This limits the wait, not CMD. To limit the time for which the lock is held, use --max-time.
    #[arg(short, long, value_name = "TIME", value_parser = parse_span, overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,

    /// End all holders of the lock after TIME: SIGTERM, and SIGKILL after --grace
    ///
    /// The time begins when the lock is acquired. A small process, the watcher, then ends each process that holds the lock through
    /// this call: CMD, children that inherited it, and with --fd the script. It also ends processes that ignore SIGTERM, are
    /// stopped, or left the session. A message on the standard error of CMD or the script says so. The exit status is that of CMD:
    /// 143 if SIGTERM ended it. The watcher ends with the last holder. If it is killed, the lock has no limit any more. A nested
    /// call for a lock that is already held is refused, because the lock keeps the limit of its acquisition. With a server, the
    /// wait for the lease is part of the time. A process that a holder starts while it handles SIGTERM, to clean up, gets no signal
    /// before SIGKILL. With --grace 0, only SIGKILL is sent. With --no-inherit, only CMD is ended, because the processes that it
    /// starts do not hold the lock. A holder that changes the mode of the lock with flock(1) acquires it anew, without the limit.
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) max_time: Option<Duration>,

    /// With --max-time or --replace: send SIGKILL to processes that still hold the lock after TIME [default: 5]
    #[arg(long, value_name = "TIME", value_parser = parse_span, requires = "ends")]
    pub(crate) grace: Option<Duration>,

    /// Acquire a shared lock, which several processes can hold at the same time
    #[arg(short, long, overrides_with = "exclusive")]
    pub(crate) shared: bool,

    /// Acquire an exclusive lock, which only one process can hold [default]
    #[arg(short = 'x', long)]
    pub(crate) exclusive: bool,

    /// Let up to N processes hold the lock at the same time; the others wait in order (N is 1 to 1024)
    ///
    /// CMD gets the number of its slot, 1 to N, in `ABA_LOCK_SLOT`. All callers must give the same N. A call with another N is
    /// refused with status 75, also at the end of a wait, until no process holds the lock. An exclusive call without --slots waits
    /// until no slot is held, and new calls with --slots wait after it. A shared lock excludes no slot. With --slots, only one NAME
    /// can be given: slots of several locks could cause deadlocks. With a server, N is the number for all machines. The file must be
    /// writable, and on a local disk: network file systems such as NFS have no such locks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
    #[arg(conflicts_with_all = ["shared", "exclusive"])]
    pub(crate) slots: Option<u32>,

    /// Wait with this priority: high, normal or low. Waiters with a higher one get the lock first [default: normal]
    ///
    /// When the lock is released, the waiters with the highest priority get it first, and those of one priority in the order in
    /// which they came, but those that have let a higher one pass can change places with each other. A holder is never interrupted.
    /// After a process has begun to wait, at most one caller with a lower priority gets the lock before it: one that was about to
    /// run. Calls without this option that find the lock free are not counted: they look at no waiter. flock(1) counts as high.
    /// `low` may wait forever while others come. With -n, the call is refused if a process with a higher priority waits. Waiters
    /// for a shared lock have priorities, too. A waiter that is stopped (SIGSTOP) keeps those with a lower priority waiting.
    ///
    /// The file must be writable, and on a local disk: network file systems such as NFS have no such locks. The option cannot be
    /// combined with --slots, which are granted in the order of the calls, nor with a server, which knows no priorities.
    #[arg(long, value_name = "LEVEL", value_parser = priority(), hide_possible_values = true)]
    pub(crate) priority: Option<Priority>,

    /// End at once if another caller already waits: its run covers this call. Otherwise wait until the lock is free
    ///
    /// For commands that bring something up to date, such as a build or a mirror. During a run, one caller waits, and starts the next
    /// run. Each later caller ends with status 0, or 80 with --fd, because that run starts after its call. So of 50 calls during a
    /// run, one more run follows. All callers must do the same work. A run without --coalesce covers no call, but it is waited for.
    ///
    /// A run that fails covers the calls before it (--coalesce=started, the default). With --coalesce=strict, which needs -- CMD, a
    /// call waits in any case, and ends with status 0 only after a run that started after it has succeeded; only runs of strict callers
    /// count. CMD then runs as a child.
    ///
    /// No caller relies on one with --timeout, which may give up. With -n, the call is refused with status 75 if the lock is held and
    /// no caller waits. A covered call does not run the command of --on-busy. If the waiter is killed, or its script ends, the promised
    /// run is owed: `status` shows it, and the next call with --coalesce runs. A nested call, inside of a holder of the lock, runs.
    ///
    /// The lock file keeps the numbers of the runs in extended attributes. So it must be writable, and on a local disk: network
    /// file systems such as NFS, and tmpfs before Linux 6.6, are refused. The option cannot be combined with --shared or --slots,
    /// because there is no one holder whose end begins the next run; with --replace, which leaves no run to wait for; with several
    /// locks, because one of them may be covered and another one not; nor with a server, which does not know the waiters of other
    /// machines.
    #[arg(long, value_name = "HOW", value_parser = coalescing(), conflicts_with_all = ["shared", "slots"])]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "started", hide_possible_values = true)]
    pub(crate) coalesce: Option<Coalescing>,

    /// End the process that holds the lock, and take its place: the newest of several callers gets the lock
    ///
    /// The holders are ended as `aba-lock unlock --kill` does it: SIGTERM, and SIGKILL after --grace. They get a message on their
    /// standard error, and their exit status is their own, 143 after SIGTERM. The call then waits for the lock, for at most
    /// --timeout if that is given. With a TIME of 0, no holder is ended.
    ///
    /// If a newer call with --replace comes before this one holds the lock, this one ends with status 75. So the last one of several
    /// calls runs. One call at a time ends the holder, with its own --grace. The others wait for that call.
    ///
    /// Only holders that acquired the lock with aba-lock are ended: those with a record, and those of --replace and --slots. A lock
    /// of flock(1) has no record, and with --file no holder has one, so give --replace in all calls for the file. Other holders,
    /// and shared ones of several calls, are waited for, which a message says. If a holder is a process that started this call, or
    /// cannot be examined or signalled, the call fails with status 75. Calls without --replace that already wait for the lock get
    /// it first.
    ///
    /// With --replace, only one NAME can be given, and no server: the newest caller of one lock can be an earlier one of another,
    /// so it would end a holder and then not run, and a lease cannot be taken from its holder. -n is refused, because the end of a
    /// holder takes time, and so are --shared and --slots, which can hold the lock next to other holders, --coalesce, which leaves
    /// its work to a later run, and --priority, because the newest caller comes first. The file must be writable, and on a local
    /// disk. The search for deadlocks begins only after the holder was asked to end.
    #[arg(long, conflicts_with_all = ["shared", "slots", "coalesce", "priority"])]
    pub(crate) replace: bool,

    /// Print no message if the lock file was replaced (status 76)
    ///
    /// For callers that then open the file again.
    #[arg(long, requires = "script")]
    pub(crate) reopen: bool,

    /// Exit with status 77 instead of waiting, or with 78 if SIGINT or SIGQUIT is ignored: the caller starts the wait
    #[arg(long, requires = "script", hide = true)]
    pub(crate) try_first: bool,

    /// Continue a wait that began this long ago: contention is in the event log already
    #[arg(long, value_name = "TIME", value_parser = parse_span, requires = "script", hide = true)]
    pub(crate) waited: Option<Duration>,

    /// Let SIGINT and SIGQUIT end the wait, although a shell has its background jobs ignore them
    #[arg(long, requires = "script", hide = true)]
    pub(crate) heed_keyboard: bool,

    /// Acquire nothing: wait as for the lock until the lock file can be opened, because no process has a file lease on it
    #[arg(long, hide = true)]
    pub(crate) await_open: bool,

    /// Do not pass the lock to CMD: release it when CMD ends, even if its children still run
    ///
    /// aba-lock holds the lock while CMD runs as its child. If aba-lock is killed with SIGKILL, CMD is killed, too (Linux), but
    /// processes that CMD started go on without the lock. A script uses `aba_lock_operation --no-inherit`.
    #[arg(short = 'o', long, conflicts_with = "fd")]
    pub(crate) no_inherit: bool,

    /// Exit with status N if the lock is held by another process or the wait timed out
    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Description of the holder, shown to waiters (not with --file, which writes nothing)
    #[arg(long, value_name = "TEXT")]
    pub(crate) who: Option<String>,

    /// Run CMD with sh if another process holds the lock, such as 'tmux attach -t build'
    ///
    /// `$1` and `$ABA_LOCK_NAME` are the lock. With a wait, CMD runs if the wait timed out or would be a deadlock. Its exit status
    /// is that of the call.
    #[arg(long, value_name = "CMD", requires = "program", conflicts_with = "fd")]
    pub(crate) on_busy: Option<String>,

    /// Write the pid of the holder to this file
    ///
    /// The path must not be a symbolic link or the lock file, and each holder of a shared lock needs a file of its own. CMD
    /// then runs as a child, as with --no-inherit, but inherits the lock, and the file is removed when CMD ends. With --fd, the
    /// script must remove it. After SIGKILL the file stays, and its number may become that of another process: see `aba-lock
    /// clean --pid-file`.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) pid_file: Option<PathBuf>,

    /// Also lock NAME for all machines that use this server [default: the server of the environment]
    ///
    /// The URL is https://host:port, or etcd://h1:2379,h2:2379. An empty URL means no server.
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    pub(crate) server: Option<String>,

    /// With a server: time after which a lease expires if it cannot be renewed; 10s to 3660d [default: 30s]
    ///
    /// Without a server, this option and --on-lost are wrong usage, unless --server is empty. `ABA_LOCK_TTL` and
    /// `ABA_LOCK_ON_LOST` have the same meaning, and no effect without a server.
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) ttl: Option<Duration>,

    /// Action if the lease is lost: term, warn, or a command for sh [default: term]
    ///
    /// term ends the holders of the lock, warn only prints a warning. In a command, `$1` and `$ABA_LOCK_NAME` are the lock.
    #[arg(long, value_name = "HOW")]
    pub(crate) on_lost: Option<String>,

    /// Exit with status 0 and no message if the lock is held by another process or the wait timed out
    ///
    /// For jobs of cron and timers that may be skipped while the last one still runs. The event log shows the skipped call. With --fd,
    /// the status is 80 instead, because the script has no lock. Deadlocks are reported as usual.
    #[arg(long, conflicts_with_all = ["on_busy", "conflict_exit_code"])]
    pub(crate) skip_ok: bool,

    /// Print no messages about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print how long it took to acquire the lock
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// Run this line with $SHELL -c, or /bin/sh -c, as flock(1) does: a builtin, a pipeline, or several commands
    #[arg(short = 'c', long = "command", value_name = "SHELL LINE", value_hint = ValueHint::CommandString)]
    pub(crate) shell_line: Option<OsString>,

    /// The command to run while the lock is held
    ///
    /// CMD is a program. For a builtin or a pipeline, use -c. For a function of a script, call `aba_lock_operation` in the script.
    #[arg(index = 2, last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,

    /// Use the lock that all users of this machine share, in /run/lock/aba-lock
    ///
    /// Locks of root and of users with the same name exclude each other there. Every user can hold such a lock. The first call by root
    /// creates the directory, with mode 1777. `ABA_LOCK_SCOPE=system` does the same for all commands, unless
    /// `ABA_LOCK_DIR` is set. Tasks (`run-once`) and numbers (`reserve`) stay those of the user.
    ///
    /// In a directory that all users share, such as this one, the user who has created a lock file can remove or replace it while the
    /// lock is held. The next call then locks the new file, and the lock has two holders. Each call checks after the grant that the
    /// path leads to the file that it has locked, and `aba_lock_check` finds a later replacement, but nothing prevents it. A lock file
    /// that root has created can be replaced only by root: `aba-lock path --system --create NAME`, after each boot. `clean` of root
    /// removes it again. Where a group shares a directory without the sticky bit, each member can replace all files.
    #[arg(long, conflicts_with = "file")]
    pub(crate) system: bool,
}

/// Release a lock of the calling script (--fd), or end its holders (--kill)
///
/// With --fd, the lock is released at once for every copy of the descriptor, including those that children inherited. With only
/// a name, nothing is released, because the lock belongs to other processes: they are printed.
///
/// With --kill, the processes that hold the lock, and those that they start before they end, are ended. Waiters are not.
/// Before each signal, aba-lock checks by pid, start time and pid namespace that the process is still the same one, and
/// that it holds the lock. If that cannot be checked, the call is refused with status 75. This concerns processes of another
/// user, on another host or in another pid namespace, and the calling script itself.
///
/// With --file, locks of fcntl(2) on any part of the file count, too, such as those of dpkg, `SQLite` and `lock --fcntl`. If --kill ends
/// the holders of both kinds, those of flock(2) come first. The kernel does not say which call acquired a lock of `lock --fcntl`: a
/// process that inherited it and was started after the call gets a signal only while its parent is one of the holders.
///
/// Also for root, the name is that of a lock in `ABA_LOCK_DIR`. To end the holder of a lock of another user, root sets this variable
/// to the directory of that user, `.aba` in the home directory. If the lock is free, a message says so, and the status is 0.
#[derive(Debug, Default, Args)]
#[command(override_usage = "aba-lock unlock --fd N [--server URL] [NAME]\n       \
                            aba-lock unlock NAME|--key TEXT|--file PATH [--kill[=SIGNAL] [--grace TIME]]")]
#[command(group = ArgGroup::new("what").args(["name", "key", "file", "fd"]).required(true).multiple(true))]
#[command(group = ArgGroup::new("lock").args(["name", "key", "file"]))]
pub(crate) struct UnlockArgs {
    /// The name of the lock
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The lock of this text: see aba-lock-lock(1)
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<OsString>,

    /// The lock on this file or directory
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<PathBuf>,

    /// The descriptor on which the calling script holds the lock
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: Option<i32>,

    /// With --fd: also release the lease at this server [default: the server of the environment]
    #[arg(long, value_name = "URL", requires = "fd", conflicts_with = "file")]
    pub(crate) server: Option<String>,

    /// Send SIGNAL (TERM, SIGTERM, 15) to the holders, and wait until the lock is free [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, requires = "lock", conflicts_with = "fd")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "TERM")]
    pub(crate) kill: Option<i32>,

    /// With --kill: send SIGKILL to processes that still hold the lock after TIME [default: 5]
    #[arg(long, value_name = "TIME", value_parser = parse_span, requires = "kill")]
    pub(crate) grace: Option<Duration>,

    /// With --kill: print nothing if the lock is free or becomes free
    #[arg(short, long, requires = "kill")]
    pub(crate) quiet: bool,

    /// Use the locks that all users of this machine share: see aba-lock-lock(1)
    #[arg(long, conflicts_with = "file")]
    pub(crate) system: bool,
}
