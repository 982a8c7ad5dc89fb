//! The options of `lock` and `unlock`, and the meaning of their exit statuses.

use super::value::{parse_seconds, parse_signal, parse_span};
use clap::{ArgGroup, Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 11] = [
    ("0", "acquired, done, yes"),
    ("1", "no: `status` says that it is free"),
    ("2", "wrong usage"),
    ("75", "not acquired: held by another, or waiting would be a deadlock (-E changes it)"),
    ("76", "the lock file was replaced while it was opened: open it again"),
    ("124", "timed out waiting (-E changes it)"),
    ("125", "aba-lock itself failed: cannot open, no space, locking not supported here"),
    ("126", "the command cannot be run"),
    ("127", "the command was not found"),
    ("128+n", "signal n ended the command, or the wait for the lock"),
    ("other", "the command's own"),
];

pub(crate) const UNLOCK_EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "released; with a name: free, or who had it has it no more"),
    ("2", "wrong usage"),
    ("75", "held by another; with --kill: refused, or they could not be ended"),
    ("76", "the descriptor is not open on the lock file"),
    ("125", "aba-lock itself failed"),
];

/// Take a lock, and hold it for a script (--fd) or while a command runs (-- CMD)
///
/// With --fd the lock is taken on a descriptor that the calling script has open on the lock file, and stays
/// until the script and everything that inherited the descriptor have closed it, by ending or otherwise. They share
/// it: a call with --fd on a descriptor that another process of them has locked is granted at once, as by flock(1).
///
/// With -- CMD the process becomes CMD: pid, signals, terminal and exit status are CMD's own, and the lock
/// lives as long as CMD or a child that inherited it. A CMD that closes the descriptors it was given would
/// drop the lock: for ssh, sudo and doas, which are known to, --no-inherit is in force by itself. Say it yourself
/// for others, and where such a command stands behind env, nice or nohup.
///
/// Several locks are acquired in the order of their names, all or none. A lock is granted at once if a calling script holds it
/// and this command inherited its descriptor: a nested call is no conflict. With --fd, a nested call on another descriptor is
/// a conflict, unless the script lists its own descriptor in the environment, as with `export ABA_LOCK_FDS=9`. A shared lock
/// is never made exclusive in place, not even with --file: release it first.
///
/// Processes that wait for an exclusive lock, also with flock(1), get it in the order in which they began to wait. A call that
/// comes in the instant of a release can get the lock before them. A shared lock is granted whenever no process holds an
/// exclusive one, even while a process waits for that: the waiter may then wait forever. A wait that is interrupted, such as
/// by a signal that a script handles, continues at the end of the queue. A call for several locks begins to wait for the
/// second one when it holds the first.
#[derive(Debug, Default, Args)]
#[command(override_usage = "aba-lock lock [OPTIONS] NAME... -- CMD [ARG]...\n       \
                            aba-lock lock [OPTIONS] --file PATH [--file PATH]... -- CMD [ARG]...\n       \
                            aba-lock lock [OPTIONS] NAME --fd N")]
#[command(group = ArgGroup::new("what").args(["names", "file"]).required(true))]
#[command(group = ArgGroup::new("how").args(["fd", "command"]).required(true))]
pub(crate) struct LockArgs {
    /// What to lock: letters, digits and . _ - : @ +
    #[arg(index = 1, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Lock this file or directory instead of a name; its content stays as it is. Repeat it to lock several, all or none
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) file: Vec<PathBuf>,

    /// Lock the file that the calling script has open on this descriptor (one for each NAME or --file, in their order)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: Vec<i32>,

    /// Fail at once if another has it [default]
    #[arg(short = 'n', long, overrides_with_all = ["wait", "timeout"])]
    pub(crate) nonblock: bool,

    /// Wait until it is free, or at most this many seconds: --wait=60 or -w=60, as --timeout 60
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, overrides_with = "nonblock")]
    #[arg(num_args = 0..=1, require_equals = true)]
    pub(crate) wait: Option<Option<Duration>>,

    /// Give up after this many seconds; fractions are allowed, and 0 tries once
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,

    /// Share it with others who share it
    #[arg(short, long, overrides_with = "exclusive")]
    pub(crate) shared: bool,

    /// Shut everyone else out [default]
    #[arg(short = 'x', long)]
    pub(crate) exclusive: bool,

    /// Say nothing if the lock file was replaced (status 76): the caller opens it again
    #[arg(long, requires = "fd")]
    pub(crate) reopen: bool,

    /// Exit with status 77 instead of waiting, or with 78 if SIGINT or SIGQUIT is ignored: the caller starts the wait
    #[arg(long, requires = "fd", hide = true)]
    pub(crate) try_first: bool,

    /// Continue a wait that began this long ago: contention is in the event log already
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, requires = "fd", hide = true)]
    pub(crate) waited: Option<Duration>,

    /// Let SIGINT and SIGQUIT end the wait, although a shell has its background jobs ignore them
    #[arg(long, requires = "fd", hide = true)]
    pub(crate) heed_keyboard: bool,

    /// Keep the lock from CMD and its children: it is released when CMD ends, whatever CMD left behind
    #[arg(short = 'o', long, requires = "command", conflicts_with = "fd")]
    pub(crate) no_inherit: bool,

    /// Exit with this status when another has it or the wait timed out
    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Say this of the holder, to those who wait (not with --file, where nothing is written)
    #[arg(long, value_name = "TEXT")]
    pub(crate) who: Option<String>,

    /// Run this with sh if another process holds it, such as 'tmux attach -t build'; `$1` and `$ABA_LOCK_NAME` are the lock
    #[arg(long, value_name = "CMD", requires = "command", conflicts_with = "fd")]
    pub(crate) on_busy: Option<String>,

    /// Write the holder's pid into this file, which must not be a link. CMD then runs as a child, as with --no-inherit, but
    /// inherits the lock, and the file is removed when CMD ends. With --fd, the script must remove it. After SIGKILL the file
    /// stays, and its number may become that of another process: see `aba-lock clean --pid-file`. It must not be the lock file,
    /// and holders of a shared lock need a file each
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) pid_file: Option<PathBuf>,

    /// Lock it for all machines that use this server, too: https://host:port, or etcd://h1:2379,h2:2379; empty for none
    /// [default: that of the environment]
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "shared"])]
    pub(crate) server: Option<String>,

    /// With a server: how long the lease lasts if it cannot be renewed, at least 10 s [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) ttl: Option<Duration>,

    /// If the lease is lost: term ends the holders of the lock, warn only reports it, anything else is run with sh; `$1` and
    /// `$ABA_LOCK_NAME` are the lock [default: term]
    #[arg(long, value_name = "HOW")]
    pub(crate) on_lost: Option<String>,

    /// Say nothing about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Say how long it took to get the lock
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// The command to run under the lock
    #[arg(index = 2, last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Release a lock that is held on a descriptor of the calling script
///
/// With --fd the lock is released at once for every copy of the descriptor, also for those that children
/// inherited. Without it, nothing can be released: the lock belongs to other processes, and they are named.
///
/// With --kill these are ended, and what they start meanwhile; not who waits for the lock. Before each signal it is
/// checked that the process is the one that was seen, by its pid, start time and pid namespace, and has the lock. What
/// cannot be checked so is refused (75): another user's process, one of another host or pid namespace, and the calling
/// script itself.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("what").args(["name", "fd"]).required(true).multiple(true))]
pub(crate) struct UnlockArgs {
    /// The lock
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The descriptor on which the calling script holds it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: Option<i32>,

    /// With --fd: give the lease back too, if the lock was taken for all machines that use this server
    /// [default: that of the environment]
    #[arg(long, value_name = "URL", requires = "fd")]
    pub(crate) server: Option<String>,

    /// End the processes that have it, with this signal (TERM, SIGTERM, 15) [default: TERM], and wait until it is free
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal, requires = "name", conflicts_with = "fd")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "TERM")]
    pub(crate) kill: Option<i32>,

    /// With --kill: SIGKILL those that have it still after this time [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, requires = "kill")]
    pub(crate) grace: Option<Duration>,
}
