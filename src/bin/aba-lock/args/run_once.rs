//! The options of `run-once`, the meaning of its exit statuses, the files of a task and the members of its JSON.

use super::value::parse_seconds;
use clap::{ArgGroup, Args, ValueHint};
use std::ffi::OsString;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
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

/// The files of a task.
pub(crate) const FILES: [(&str, &str); 8] = [
    ("lock", "locked (flock(2)) while the task runs"),
    ("pid", "the process of the command, which leads its group; only while it runs"),
    ("exit", "its exit status; its age is what --ttl goes by"),
    ("log.out, log.err", "what it printed; log leads to the first"),
    ("*.1, *.prev", "the logs of the run before, and those from before the last reset"),
    ("cmd.sh", "the saved command and its directory, as bash declares them"),
    ("cmd, cwd", "the same for people: the command, the directory"),
    ("history", "a line an event: STARTED, COMPLETE, SIGNAL, VALIDATE, RESET, TTL_EXPIRED"),
];

/// The members of each task in `run-once --json`. Unknown values are null.
pub(crate) const JSON: [(&str, &str); 10] = [
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

/// The options of which the last one on the command line is used.
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
pub(crate) struct RunOnceArgs {
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
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) ttl: Option<Duration>,

    /// With --wait: wait so long at most; the task goes on
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = parse_seconds)]
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
