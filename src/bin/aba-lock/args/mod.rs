//! Every option and argument. Help, man pages and completions are made from this.

#![allow(clippy::option_option, reason = "an option with a value that may be left out, as clap reads it")]

pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod flock;
pub(crate) mod metrics;
pub(crate) mod repeat;
pub(crate) mod reserve;

use aba_lock::force::parse_signal;
use aba_lock::store::{parse_seconds, parse_span};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the exit statuses mean.
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

/// What the exit statuses of `status` mean.
pub(crate) const STATUS_STATUS: [(&str, &str); 4] =
    [("0", "held, here or elsewhere"), ("1", "free"), ("2", "wrong usage"), ("125", "it cannot be known from here")];

/// What the exit statuses of `list` mean.
pub(crate) const LIST_STATUS: [(&str, &str); 3] =
    [("0", "done"), ("2", "wrong usage"), ("125", "the state root cannot be read")];

/// What the exit statuses of `unlock` mean.
pub(crate) const UNLOCK_STATUS: [(&str, &str); 5] = [
    ("0", "released; with a name: free, or who had it has it no more"),
    ("2", "wrong usage"),
    ("75", "held by another; with --kill: refused, or they could not be ended"),
    ("76", "the descriptor is not open on the lock file"),
    ("125", "aba-lock itself failed"),
];

/// What the exit statuses of `clean` mean.
pub(crate) const CLEAN_STATUS: [(&str, &str); 3] = [
    ("0", "done, also if something was left"),
    ("2", "wrong usage"),
    ("125", "something was to go, and could not be removed, as for a missing permission"),
];

/// What the exit statuses of `run-once` mean.
pub(crate) const RUN_ONCE_STATUS: [(&str, &str); 9] = [
    ("0", "started, running or finished; yes"),
    ("1", "no; nothing to run"),
    ("2", "wrong usage"),
    ("75", "a task would wait for itself, or another program holds its lock without running it"),
    ("124", "timed out waiting; the task goes on"),
    ("125", "aba-lock itself failed"),
    ("126", "the command cannot be run"),
    ("127", "the command was not found"),
    ("other", "of --wait: the task's own; 128+n if signal n ended the task, or the wait"),
];

/// What the exit statuses of `update` and `write` mean.
pub(crate) const UPDATE_STATUS: [(&str, &str); 9] = [
    ("0", "changed, or there was nothing to change"),
    (
        "1",
        "refused: the new content is empty, or --check did not accept it, or the file, its path or its lock was changed \
         during the update",
    ),
    ("2", "wrong usage"),
    ("75", "another process updates it (-n), or that update waits for this one (a deadlock)"),
    ("124", "timed out waiting (-t)"),
    ("125", "it cannot be read or written; it is unchanged"),
    ("126, 127", "the command, or that of --check, cannot be run (126) or was not found (127)"),
    (
        "128+n",
        "the command, or aba-lock, got signal n; the file is unchanged, unless the signal came while it was replaced",
    ),
    ("other", "the command's own; aba-lock did not change the file"),
];

/// The files of a task.
pub(crate) const RUN_ONCE_FILES: [(&str, &str); 8] = [
    ("lock", "locked (flock(2)) while the task runs"),
    ("pid", "the process of the command, which leads its group; only while it runs"),
    ("exit", "its exit status; its age is what --ttl goes by"),
    ("log.out, log.err", "what it printed; log leads to the first"),
    ("*.1, *.prev", "the logs of the run before, and those from before the last reset"),
    ("cmd.sh", "the saved command and its directory, as bash declares them"),
    ("cmd, cwd", "the same for people: the command, the directory"),
    ("history", "a line an event: STARTED, COMPLETE, SIGNAL, VALIDATE, RESET, TTL_EXPIRED"),
];

/// What `run-once --json` says of a task; null where that is not known or does not apply.
pub(crate) const RUN_ONCE_JSON: [(&str, &str); 10] = [
    ("id", "the task"),
    ("state", "new, running, succeeded, failed or interrupted"),
    ("pid", "the process of the command, while it runs"),
    ("exit_status", "how it ended, a number"),
    ("started", "since when it runs: RFC 3339, UTC"),
    ("finished", "when it ended: RFC 3339, UTC"),
    ("age_seconds", "how long it runs, or since when it has ended"),
    ("duration_seconds", "how long it took"),
    ("command", "the saved command, a list of words"),
    ("directory", "where that runs"),
];

/// What `status --json` says of a lock, and `list --json` of each; null where that is not known or does not apply.
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

/// What the variables of the environment do.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "ABA_LOCK_DIR",
        "where the lock files are: an absolute path, which is made if it is missing [default: ~/.aba; the home directory \
         itself is never made]",
    ),
    ("ABA_LOCK_TIMEOUT", "wait so many seconds when no option says how long"),
    (
        "ABA_LOCK_LOG",
        "append a line of JSON for each event to this file, or send it to this socket, syslog or journald; a failure of that \
         is reported on standard error, also with --quiet, and changes nothing else",
    ),
    ("ABA_LOCK_SERVER", "lock for all machines that use this server, too: see aba-lock-lease(1)"),
    ("ABA_LOCK_KEEPER", "where aba-lock-keeper is [default: beside aba-lock, else on PATH]"),
    (
        "NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM",
        "whether output has colours: see https://no-color.org and https://bixense.com/clicolors",
    ),
    ("ABA_LOCK_FDS", "set for commands, and by scripts: the descriptors on which locks are handed down"),
    ("RUN_ONCE_DIR", "where the tasks are, an absolute path [default: runner in the directory of the locks]"),
    ("ABA_NUMBER", "set for the commands of `reserve`: the number that they have"),
    ("ABA_FILE", "set for the commands of `update` and `write`: the absolute path of FILE, with links resolved"),
    (
        "ABA_COPY",
        "set for the command of --in-place: the path of the copy; for that of --check: the path of the new content, as in $1",
    ),
    ("ABA_LOCK_NAME", "set for the commands of --on-busy and --on-lost: the name of the lock, or its file, as in $1"),
    ("ABA_LOCK_UPDATING", "set for the commands of updates: the updates that started them"),
    ("ABA_LOCK_TASK", "set for the commands of tasks: the task, and which run of it"),
    ("ABA_LOCK_TOKEN", "set for commands: the fencing token, a number that grows with each exclusive lock"),
];

/// Examples: the command that they are of, what to type, and what it does.
pub(crate) const EXAMPLES: &[(&str, &str, &str)] = &[
    ("lock", "aba-lock lock backup -- rsync -a src/ dst/", "run rsync, unless another `backup` runs"),
    ("lock", "aba-lock lock -t 60 backup -- ./backup.sh", "the same, but wait a minute for it"),
    ("lock", "aba-lock lock db cache -- ./migrate.sh", "hold two locks, or none"),
    ("lock", "aba-lock lock --on-busy 'tmux attach -t build' build -- ./build.sh", "join the build that runs"),
    (
        "lock",
        "aba-lock lock --fd 200 backup",
        "in a script, after `exec 200<>\"$(aba-lock path --create backup)\"`: what aba_lock_operation does",
    ),
    (
        "lock",
        "aba-lock lock --server etcd://10.0.0.1:2379 deploy -- ./deploy.sh",
        "on one of all machines that use this etcd",
    ),
    ("flock", "aba-lock flock -n /run/lock/backup ./backup.sh", "as `flock -n /run/lock/backup ./backup.sh`"),
    ("flock", "ln -s \"$(command -v aba-lock)\" ~/bin/flock", "have it by that name, if ~/bin comes first in PATH"),
    ("unlock", "aba-lock unlock --fd 200 backup", "release it before the script ends"),
    ("unlock", "aba-lock unlock backup --kill --grace 30", "end who has it, and wait until it is free"),
    ("status", "aba-lock status backup", "see who has it, and who waits"),
    ("status", "aba-lock status --json backup | jq '.holders[].pid'", "the same for a program"),
    ("list", "aba-lock list --held", "see all that is held, or runs"),
    ("list", "aba-lock list --watch", "watch it change"),
    ("clean", "aba-lock clean --dry-run", "see which lock files nobody needs"),
    ("clean", "aba-lock clean -q --older-than 30d --tasks", "from cron: remove what was not used for a month"),
    ("doctor", "aba-lock doctor", "see what is wrong here, and how to mend it"),
    (
        "metrics",
        "aba-lock metrics | aba-lock write --create /var/lib/node_exporter/textfile/aba_lock.prom",
        "from cron: for the textfile collector, which never reads half of it",
    ),
    ("run-once", "aba-lock run-once -i fetch -- make download", "start it in the background, once"),
    ("run-once", "aba-lock run-once -w -i fetch", "later: wait for it, and exit with its status"),
    ("run-once", "aba-lock run-once -w -i fetch -- make download", "the same, but run it now if nobody has"),
    (
        "run-once",
        "aba-lock run-once -w -t 3600 -i latest -- ./look-up; aba-lock run-once -o -i latest",
        "its output, at most an hour old",
    ),
    ("run-once", "aba-lock run-once -r -i fetch", "end it, and forget its outcome"),
    ("run-once", "aba-lock run-once --list", "see all tasks"),
    (
        "update",
        "aba-lock update hosts.yaml -- yq '.web.ip = \"10.0.0.7\"'",
        "set one value, while other processes may set others",
    ),
    ("update", "aba-lock update --in-place hosts.txt -- sed -i s/a/b/ {}", "with a command that edits a file"),
    (
        "update",
        "aba-lock update --check 'jq empty' --backup f.json -- ./migrate",
        "refuse content that is not JSON, and keep the old one in f.json~",
    ),
    ("update", "aba-lock update --dry-run --diff f.conf -- sed s/a/b/", "see what would change"),
    ("write", "./generate | aba-lock write --create out.conf", "nothing is written if it prints nothing"),
    ("reserve", "PORT=$(aba-lock reserve) || exit", "this directory's port; the same one the next time"),
    ("reserve", "PORT=$(aba-lock reserve --tag web --prefer 6080) || exit", "a second one, 6080 if that is free"),
    ("reserve", "aba-lock reserve --group web,db --dotenv .env", "WEB_PORT and DB_PORT, both or none, into .env"),
    ("reserve", "aba-lock reserve --tag test -- ./run-tests", "$ABA_NUMBER is its own as long as it runs"),
    (
        "reserve",
        "aba-lock reserve --pool gpu --range 0-7 -- ./train",
        "one of eight of something else, given back when it ends",
    ),
    ("release", "aba-lock release --all-tags", "give back all ports of this directory"),
    ("exclude", "aba-lock exclude 5432 6000-6010", "never give these"),
    ("migrate", "aba-lock migrate --from ~/old --to ~/new", "after `mv ~/old ~/new`"),
    ("lease", "aba-lock lease acquire --server etcd://10.0.0.1:2379 --ttl 10m deploy", "for the steps of a CI job"),
    ("init", "eval \"$(aba-lock init bash)\"", "have aba_lock_operation in this shell or script"),
];

fn table(title: &str, rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 2;
    rows.iter().fold(format!("{title}:\n"), |text, (left, right)| format!("{text}  {left:width$}{right}\n"))
}

fn examples(command: &str) -> String {
    let own = EXAMPLES.iter().filter(|(of, _, _)| *of == command);
    own.fold("Examples:\n".to_owned(), |text, (_, typed, does)| format!("{text}  {typed}\n      {does}\n"))
}

/// What stands below the options of a command. Said here and not beside its arguments, so that a call does not pay for it.
fn with_tables(command: clap::Command, status: &[(&str, &str)], files: &str) -> clap::Command {
    let status = table("Exit status", status);
    let long = format!("{status}\n{files}{}", examples(command.get_name()));
    command.after_help(status).after_long_help(long)
}

/// Keeps two copies of the same shell operation from running at once, and says who is in the way
#[derive(Debug, Parser)]
#[command(name = "aba-lock", version, after_help = table("Exit status", &EXIT_STATUS) + "\n" + &table("Environment", ENVIRONMENT))]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(infer_subcommands = false, disable_help_subcommand = true)]
#[command(mut_subcommand("lock", |lock| with_tables(lock, &EXIT_STATUS, "")))]
#[command(mut_subcommand("flock", |flock| with_tables(flock, &flock::STATUS, &(table("Environment", &flock::ENVIRONMENT) + "\n"))))]
#[command(mut_subcommand("status", |status| with_tables(status, &STATUS_STATUS, &(table("With --json", &STATUS_JSON) + "\n"))))]
#[command(mut_subcommand("list", |list| with_tables(list, &LIST_STATUS, &(table("With --json, of each lock", &STATUS_JSON) + "\n"))))]
#[command(mut_subcommand("unlock", |unlock| with_tables(unlock, &UNLOCK_STATUS, "")))]
#[command(mut_subcommand("clean", |clean| with_tables(clean, &CLEAN_STATUS, "")))]
#[command(mut_subcommand("update", |update| with_tables(update, &UPDATE_STATUS, "")))]
#[command(mut_subcommand("write", |write| with_tables(write, &UPDATE_STATUS, "")))]
#[command(mut_subcommand("doctor", |doctor| {
    with_tables(doctor, &doctor::DOCTOR_STATUS, &format!("{}\n", table("With --json", &doctor::DOCTOR_JSON)))
}))]
#[command(mut_subcommand("metrics", |metrics| {
    let own = table("Metrics", &metrics::METRICS.map(|(name, _, help)| (name, help)));
    let log = table("In each line of the event log", &events::EVENT_LOG);
    with_tables(metrics, &metrics::METRICS_STATUS, &format!("{own}\n{log}\n"))
}))]
#[command(mut_subcommand("reserve", |reserve| {
    let files = table("Files, in ABA_LOCK_DIR", &reserve::FILES);
    let json = table("With --list --format json, of each number", &reserve::JSON);
    with_tables(reserve, &reserve::STATUS, &format!("{files}\n{json}\n"))
}))]
#[command(mut_subcommand("release", |release| with_tables(release, &reserve::STATUS, "")))]
#[command(mut_subcommand("exclude", |exclude| with_tables(exclude, &reserve::STATUS, "")))]
#[command(mut_subcommand("migrate", |migrate| with_tables(migrate, &reserve::STATUS, "")))]
#[command(mut_subcommand("run-once", |run_once| {
    let files = table("Files, in RUN_ONCE_DIR/ID", &RUN_ONCE_FILES);
    with_tables(run_once, &RUN_ONCE_STATUS, &format!("{files}\n{}\n", table("With --json, of each task", &RUN_ONCE_JSON)))
}))]
#[command(mut_subcommands(repeat::allow_repeated_flags))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Lock(Lock),
    Flock(flock::Flock),
    Unlock(Unlock),
    Status(Status),
    List(List),
    Clean(Clean),
    Path(Path),
    RunOnce(RunOnce),
    Update(Update),
    Write(Write),
    Doctor(doctor::Doctor),
    Metrics(metrics::Metrics),
    Reserve(reserve::Reserve),
    Release(reserve::Release),
    Exclude(reserve::Exclude),
    Migrate(reserve::Migrate),
    Lease(Lease),
    Init(Init),
}

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
pub(crate) struct Lock {
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
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, overrides_with = "nonblock")]
    #[arg(num_args = 0..=1, require_equals = true)]
    pub(crate) wait: Option<Option<Duration>>,

    /// Give up after this many seconds; fractions are allowed, and 0 tries once
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, overrides_with = "nonblock")]
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
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "fd", hide = true)]
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
    #[arg(long, value_name = "TIME", value_parser = span)]
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
pub(crate) struct Unlock {
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
    #[arg(long, value_name = "SIGNAL", value_parser = signal, requires = "name", conflicts_with = "fd")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "TERM")]
    pub(crate) kill: Option<i32>,

    /// With --kill: SIGKILL those that have it still after this time [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "kill")]
    pub(crate) grace: Option<Duration>,
}

/// Remove lock files that nobody holds
///
/// Each is removed under its own lock, after a check that it is still that file, and only if no other process has it open:
/// a held one stays, there are never two holders, and nobody is told that it is "already running". What is left is said,
/// with the reason. (A plain flock(1) that opens a file at this very moment locks a removed one.)
///
/// Free lock files cost nothing: this is for those who like their directories tidy.
#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// These locks [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Also remove tasks that have succeeded or failed, with their logs; not those that run or were interrupted
    #[arg(long, conflicts_with = "names")]
    pub(crate) tasks: bool,

    /// Only what was last taken, or has ended, before so long: 30, 30s, 10m, 2h, 7d, 2w
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) older_than: Option<Duration>,

    /// Instead of lock files, remove this pid file if the process that it names has ended; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["names", "tasks", "older_than"])]
    pub(crate) pid_file: Vec<PathBuf>,

    /// Say what would be removed, and change nothing; no lock is taken
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Say nothing but what failed
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(crate) quiet: bool,
}

/// Say whether a lock is held, and by whom
///
/// Exits with 0 if it is held and with 1 if it is free. It takes no lock, so it never makes another's try
/// fail. Other users' processes can be seen by root alone.
#[derive(Debug, Args)]
pub(crate) struct Status {
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
pub(crate) struct List {
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

/// The letters that say what is to be done: the last one wins.
const MODES: [&str; 10] =
    ["start", "wait", "peek", "active", "running", "stdout", "stderr", "exit_status", "reset", "list"];

/// Run a command once for an id; everyone else waits for it, or reads its outcome
///
/// The first call with -- CMD starts it in the background, in the calling directory, under a supervisor that is
/// nobody's child and has nothing of the caller's open. Others with the same id find it running, or finished. A task
/// that was ended by a signal (status 128 to 165) counts as interrupted: the next start or wait runs it again, with the
/// CMD that is given, else with the saved one.
///
/// CMD is for --start and --wait. It gets no input, and its output goes to logs. A variable of its environment tells
/// which run of which task it belongs to (see below). CMD inherits no lock. The call itself inherits the locks of the caller,
/// and so they are held while --wait waits.
#[derive(Debug, Default, Args)]
#[command(override_usage = "aba-lock run-once [OPTIONS] -i ID [-- CMD [ARG]...]\n       \
                            aba-lock run-once -G | -F | --list")]
#[command(group = ArgGroup::new("on").args(["id", "reset_all", "reset_failed", "list", "json"]).required(true).multiple(true))]
pub(crate) struct RunOnce {
    /// The task: letters, digits and . _ - : @ +
    #[arg(short, long, value_name = "ID")]
    pub(crate) id: Option<String>,

    /// Start it in the background, unless it runs or has finished [default]
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) start: bool,

    /// Wait until it has finished, and exit with its status; start it if it was never run, and show its output then
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) wait: bool,

    /// Exit with 0 if it has finished, also if it failed, else with 1
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) peek: bool,

    /// Exit with 0 if it runs or has finished, else with 1
    #[arg(short = 'A', long, overrides_with_all = MODES)]
    pub(crate) active: bool,

    /// Exit with 0 if it runs, otherwise with 1. A task whose lock another program holds counts as running
    #[arg(short = 'R', long, overrides_with_all = MODES)]
    pub(crate) running: bool,

    /// Print what it wrote to stdout, in this run or the last
    #[arg(short = 'o', long, overrides_with_all = MODES)]
    pub(crate) stdout: bool,

    /// Print what it wrote to stderr
    #[arg(short = 'e', long, overrides_with_all = MODES)]
    pub(crate) stderr: bool,

    /// Print its exit status; without one, print nothing and exit with 1
    #[arg(short = 'E', long, overrides_with_all = MODES)]
    pub(crate) exit_status: bool,

    /// End it if it runs (SIGTERM, after 5 s SIGKILL), and forget it
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) reset: bool,

    /// End and remove all tasks
    #[arg(short = 'G', long)]
    pub(crate) reset_all: bool,

    /// Forget the tasks that failed or were interrupted, unless they run again
    #[arg(short = 'F', long)]
    pub(crate) reset_failed: bool,

    /// List the tasks, with their state
    #[arg(long, overrides_with_all = MODES)]
    pub(crate) list: bool,

    /// List the tasks as a JSON array
    #[arg(long, conflicts_with_all = &MODES[..9])]
    pub(crate) json: bool,

    /// With --wait: remove the task and its logs afterwards
    #[arg(short = 'c', long)]
    pub(crate) purge: bool,

    /// First forget an outcome that is older than this, or dated in the future; a failure after 30 s, if that is less
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) ttl: Option<Duration>,

    /// With --wait: wait so long at most; the task goes on
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,

    /// With --wait: say this while waiting; nothing, if it is empty [default: Waiting for task: ID]
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// With --wait: no message while waiting, and no end of the log after a failure
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// With --wait: show the output also of a run that another started
    #[arg(long)]
    pub(crate) follow: bool,

    /// With --wait: if the wait finds that the task has succeeded, run the saved command again, and take its result for the
    /// outcome. Not if this call has run the task, or another call has since this one began
    #[arg(long, overrides_with = "no_validate")]
    pub(crate) validate: bool,

    /// Do not validate [default]
    #[arg(short = 'S', long, overrides_with = "validate")]
    pub(crate) no_validate: bool,

    /// With --start: also write stderr to the log of stdout; --follow then shows it twice
    #[arg(long)]
    pub(crate) combined_log: bool,

    /// With --wait: say this behind the end of the log after a failure
    #[arg(long, value_name = "TEXT")]
    pub(crate) failure_note: Option<String>,

    /// The command to run
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Change a file through a command, so that no writer loses what another wrote
///
/// CMD gets the old content on its input and prints the new one; with --in-place it edits a private copy. The lock,
/// FILE.lock next to FILE, is held from the read to the rename; readers need none, and never see half of it. If CMD fails, FILE
/// is not replaced, and CMD's status is the exit status.
///
/// Links are followed, and the lock is next to the file to which they lead. Mode, owner, access control list and extended
/// attributes are kept. But if you may write to FILE and may not change its owner, such as a member of its group, you own FILE
/// afterwards, as with an editor. Other hard links keep the old content. If the new content is the old one, nothing is written.
///
/// CMD must not write to FILE itself. If it does, or if another process that does not use the lock does, FILE stays as that
/// process left it (status 1). If FILE was truncated (`sed s/a/b/ f >f`), its old content, up to 1 MiB, is saved as
/// FILE.saved.
#[derive(Debug, Args)]
#[command(override_usage = "aba-lock update [OPTIONS] FILE [--] CMD [ARG]...\n       \
                            aba-lock update [OPTIONS] --in-place FILE [--] CMD [ARG]... {} [ARG]...")]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) how: Rewrite,

    /// CMD edits a private copy, whose path takes the place of {} in its words (in text for a shell, use `"$ABA_COPY"`)
    #[arg(short, long)]
    pub(crate) in_place: bool,

    /// This bash runs CMD if it is a function that was exported to it
    #[arg(long, value_name = "BASH", value_hint = ValueHint::ExecutablePath)]
    pub(crate) shell: Option<OsString>,

    /// With --shell: BASH first runs the script on this descriptor, which describes another shell; CMD may be a function of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..), requires = "shell", hide = true)]
    pub(crate) state: Option<i32>,

    /// The command that makes the new content
    #[arg(index = 2, trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    #[arg(value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Replace the content of a file by standard input, all of it or nothing
///
/// The lock, FILE.lock next to FILE, is held while the input is read. Links, attributes and changes by other processes are
/// handled as by `aba-lock update`.
#[derive(Debug, Args)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) how: Rewrite,
}

/// What `update` and `write` have in common.
#[derive(Debug, Args)]
pub(crate) struct Rewrite {
    /// The file
    #[arg(index = 1, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Refuse the new content unless this command accepts it, such as 'jq empty': sh runs it, with the new content on its input
    /// and in the file `$1`. If repeated, the commands run in their order, and each must accept it
    #[arg(long, value_name = "CMD")]
    pub(crate) check: Vec<String>,

    /// Create FILE if it does not exist
    #[arg(long)]
    pub(crate) create: bool,

    /// Keep the old content in FILE followed by SUFFIX [default: ~]
    #[arg(long, value_name = "SUFFIX", num_args = 0..=1, require_equals = true, default_missing_value = "~")]
    pub(crate) backup: Option<String>,

    /// Print the changes, as `diff -u` does
    #[arg(long)]
    pub(crate) diff: bool,

    /// Do everything except the replacement of FILE
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Accept empty new content
    #[arg(long)]
    pub(crate) allow_empty: bool,

    /// Fail at once if another process updates FILE
    #[arg(short = 'n', long, overrides_with = "timeout")]
    pub(crate) nonblock: bool,

    /// Wait for at most SECONDS (fractions are allowed) [default: until it is free]
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,

    /// Print no messages about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whether FILE was changed
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}

/// Print the path of a lock file
#[derive(Debug, Args)]
pub(crate) struct Path {
    /// The lock
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Make the file, and its directory, if they are not there
    #[arg(long)]
    pub(crate) create: bool,
}

/// Leases by themselves, at a server that several machines share
///
/// What follows is for aba-lock-keeper, a program of its own: see `aba-lock lease --help`, or aba-lock-lease(1).
#[derive(Debug, Args)]
#[command(disable_help_flag = true, override_usage = "aba-lock lease acquire|renew|release|show|list [OPTIONS]")]
pub(crate) struct Lease {
    /// For aba-lock-keeper
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    pub(crate) words: Vec<OsString>,
}

/// Print the shell library, for `eval "$(aba-lock init bash)"`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The shell: bash
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
}

fn signal(text: &str) -> Result<i32, &'static str> {
    parse_signal(text).ok_or("not a signal that ends a process")
}

fn span(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).ok_or("not a time span such as 30s, 10m, 2h, 7d or 2w")
}

pub(crate) fn seconds(text: &str) -> Result<Duration, &'static str> {
    parse_seconds(text).ok_or("not a number of seconds")
}
