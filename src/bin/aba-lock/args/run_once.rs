//! The options of `run-once`, the meaning of its exit statuses, the files of a task and the members of its JSON.

use super::value::parse_span;
use clap::{ArgGroup, Args, ValueHint};
use std::ffi::OsString;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "the task was started, is running or has finished; the answer is yes"),
    ("1", "the answer is no; there is no such task, or no command to run"),
    ("2", "wrong usage"),
    ("75", "the task would wait for itself, or another program holds its lock without running it"),
    ("124", "timed out while waiting; the task continues"),
    ("125", "aba-lock itself failed"),
    ("126", "the command cannot be run"),
    ("127", "the command was not found"),
    ("other", "with --wait: the exit status of the task; 128+n if signal n ended the task, or the wait"),
];

/// The files of a task.
pub(crate) const FILES: [(&str, &str); 8] = [
    ("lock", "locked (flock(2)) while the task runs"),
    ("pid", "the pid of the command, which leads its process group; exists only while the command runs"),
    ("exit", "the exit status; --ttl goes by the age of this file"),
    ("log.out, log.err", "the output and the error output; log is a link to the first"),
    ("*.1, *.prev", "the logs of the previous run, and the logs from before the last reset"),
    ("cmd.sh", "the saved command and its directory, as bash declares them"),
    ("cmd, cwd", "the command and its directory, for people to read"),
    ("history", "one line for each event: STARTED, COMPLETE, SIGNAL, MAX_TIME, VALIDATE, RESET, TTL_EXPIRED"),
];

/// The members of each task in `run-once --json`. Unknown values are null.
pub(crate) const JSON: [(&str, &str); 14] = [
    ("id", "the id of the task"),
    ("key", "the text from which the id was derived (--key)"),
    ("state", "new, running, succeeded, failed or interrupted"),
    ("pid", "the pid of the command, while it runs"),
    ("exit_status", "the exit status, a number"),
    ("started", "the time of the start: RFC 3339, UTC"),
    ("finished", "the time of the end: RFC 3339, UTC"),
    ("age_seconds", "the time since the start if the task is running, otherwise since the end"),
    ("max_time_seconds", "the maximum time of the present run (--max-time), or the one that ended the last run"),
    ("max_time_over", "true if the maximum time ended the last run"),
    ("remaining_seconds", "the time until its processes are ended"),
    ("duration_seconds", "the duration of the run"),
    ("command", "the saved command, a list of words"),
    ("directory", "the directory in which the command runs"),
];

/// The options of which the last one on the command line is used.
const MODES: [&str; 10] =
    ["start", "wait", "peek", "active", "running", "stdout", "stderr", "exit_status", "reset", "list"];

/// Run a command once for each ID; later calls wait for it or read its result
///
/// The first call with -- CMD starts CMD in the background, in the current directory. A supervisor that is detached from the
/// caller watches it. Later calls with the same ID find the task running or finished. A result is kept until --ttl, --purge or
/// --reset removes it. A task that was ended by a signal (status 128 to 165) counts as interrupted: the next start or wait runs
/// it again, with the CMD of that call, or with the saved one. A task that --max-time ended has failed.
///
/// An option that has no effect in the chosen mode is refused, except CMD, --message, --quiet, --no-validate and --failure-note.
///
/// CMD is used by --start and --wait. Its standard input is empty, and its output goes to logs. The variable `ABA_LOCK_TASK` of
/// its environment names the task and the run. CMD inherits no lock. The call itself inherits the locks of the caller, so they
/// are held while --wait waits.
///
/// If the task is running, or has finished, with another command than CMD, then CMD is ignored. A message says so, unless --quiet
/// is given.
#[derive(Debug, Default, Args)]
#[command(override_usage = "aba-lock run-once [OPTIONS] -i ID [-- CMD [ARG]...]\n       \
                            aba-lock run-once -G | -F | --list")]
#[command(group = ArgGroup::new("on").args(["id", "key", "reset_all", "reset_failed", "list", "json"]).required(true).multiple(true))]
pub(crate) struct RunOnceArgs {
    /// The id of the task: letters, digits and . _ - : @ +
    #[arg(short, long, value_name = "ID")]
    pub(crate) id: Option<String>,

    /// Use any text as the id, such as a URL or a command line
    ///
    /// The id is then derived from TEXT, as the name of a lock: see aba-lock-lock(1). `--list` shows TEXT, and --json also the id.
    #[arg(long, value_name = "TEXT", conflicts_with = "id")]
    pub(crate) key: Option<OsString>,

    /// First forget the result of the task if it is older than TIME; without this, a success is kept forever
    ///
    /// Only for --start, --wait, --peek, --active, --running and --exit-status. This is not a limit for the wait, which --timeout sets. The age counts from the end of the run: for one run a day, put the date into the id. A result that is dated in the future counts as too old, too. A failure expires after 30 seconds if TIME is longer.
    #[arg(short, long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) ttl: Option<Duration>,

    /// With --wait: remove the task, its result and its logs afterwards, so that the next call runs it again
    #[arg(short = 'c', long)]
    pub(crate) purge: bool,

    /// Start the task in the background, unless it is running or has finished [default]
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) start: bool,

    /// Wait until the task has finished, and exit with its status
    ///
    /// If the task was never started, start it, and show its output.
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) wait: bool,

    /// Exit with 0 if the task has finished (even if it failed), otherwise with 1
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) peek: bool,

    /// Exit with 0 if the task is running or has finished, otherwise with 1
    #[arg(short = 'A', long, overrides_with_all = MODES)]
    pub(crate) active: bool,

    /// Exit with 0 if the task is running, otherwise with 1
    ///
    /// A task whose lock another program holds counts as running.
    #[arg(short = 'R', long, overrides_with_all = MODES)]
    pub(crate) running: bool,

    /// Print what the task wrote to standard output, in this run or the last one
    ///
    /// If the task was never started or was reset, exit with 1. With --quiet, this is not reported.
    #[arg(short = 'o', long, overrides_with_all = MODES)]
    pub(crate) stdout: bool,

    /// Print what the task wrote to standard error
    #[arg(short = 'e', long, overrides_with_all = MODES)]
    pub(crate) stderr: bool,

    /// Print the exit status of the task; if there is none, print nothing and exit with 1
    #[arg(short = 'E', long, overrides_with_all = MODES)]
    pub(crate) exit_status: bool,

    /// End the task if it is running, and forget its result
    ///
    /// The task gets SIGTERM, and SIGKILL after 5 seconds. It is not an error if there is no such task.
    #[arg(short, long, overrides_with_all = MODES)]
    pub(crate) reset: bool,

    /// End and remove all tasks
    #[arg(short = 'G', long, conflicts_with_all = ["id", "command"], conflicts_with_all = MODES)]
    pub(crate) reset_all: bool,

    /// Forget the tasks that failed or were interrupted, unless they are running again
    #[arg(short = 'F', long, conflicts_with_all = ["id", "command"], conflicts_with_all = MODES)]
    pub(crate) reset_failed: bool,

    /// List the tasks, with their states
    #[arg(long, overrides_with_all = MODES)]
    pub(crate) list: bool,

    /// List the tasks as a JSON array
    #[arg(long, conflicts_with_all = &MODES[..9])]
    pub(crate) json: bool,

    /// Give up after TIME; the task continues. Implies --wait
    #[arg(short = 'W', long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,

    /// End the run after TIME: SIGTERM to all its processes, and SIGKILL after --grace
    ///
    /// It limits a run that this call starts. A message in the log of standard error says so. The status of the task is that of CMD: 143
    /// if SIGTERM ended it. The task has then failed, as after any status except 0. So callers that wait for it do not run it again.
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) max_time: Option<Duration>,

    /// With --max-time: send SIGKILL to processes that still run after TIME [default: 5]
    #[arg(long, value_name = "TIME", value_parser = parse_span, requires = "max_time")]
    pub(crate) grace: Option<Duration>,

    /// With --wait: message while waiting; an empty TEXT means none [default: Waiting for task: ID]
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// With --wait: print no message while waiting, and no end of the log after a failure
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// With --wait: also show the output of a run that another call started
    #[arg(long)]
    pub(crate) follow: bool,

    /// With --wait: if the task has succeeded before, run its saved command again, and use that result
    ///
    /// The command does not run again if this call has run the task, or if another call has run it since this call began.
    #[arg(long, overrides_with = "no_validate")]
    pub(crate) validate: bool,

    /// Do not validate [default]
    #[arg(short = 'S', long, overrides_with = "validate")]
    pub(crate) no_validate: bool,

    /// With --start: also write standard error to the log of standard output (--follow then shows it twice)
    #[arg(long)]
    pub(crate) combined_log: bool,

    /// With --wait: print TEXT after the end of the log if the task failed
    #[arg(long, value_name = "TEXT")]
    pub(crate) failure_note: Option<String>,

    /// The command of the task
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}
