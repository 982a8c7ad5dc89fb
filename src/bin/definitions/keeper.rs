//! The definitions of all options and arguments. They are also the source of the help, the man page and the completion,
//! so the helper, the program that writes the man pages, and the tests include this file.

// The docs of the definitions are help texts, in which brackets are not links.
#![allow(rustdoc::broken_intra_doc_links)]
#![allow(clippy::option_option, reason = "an option with a value that may be left out, as clap reads it")]

#[allow(
    clippy::duplicate_mod,
    reason = "programs that include this file may include the definitions of the helper, too"
)]
#[path = "../aba-lock/args/repeat.rs"]
mod repeat;

use aba_lock::base::duration::{self, TIME_RULE};
use aba_lock::base::version::VERSION;
use clap::{Args, Parser, Subcommand};
use repeat::allow_repeated_flags;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The exit statuses of `lease`.
pub(crate) const LEASE_STATUS: [(&str, &str); 9] = [
    ("0", "success; `show`: the lease is held"),
    ("1", "`show`: the lease is free"),
    ("2", "wrong usage"),
    (
        "75",
        "another process holds the lease; `renew`: the lease is lost; `run`: it was lost, and the command succeeded",
    ),
    ("124", "timed out while waiting"),
    ("125", "no server answers, the server refused the request, or an operation on this machine failed"),
    ("126", "`run`: the command cannot be run"),
    ("127", "`run`: the command was not found"),
    ("any", "`run`: the status of the command, or 128 + n if signal n ended it"),
];

/// The environment variables.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "ABA_LOCK_SERVER",
        "the address of the server: https://HOST:PORT for a lock service, or etcd://HOST:PORT,HOST:PORT for etcd",
    ),
    (
        "ABA_LOCK_SERVER_SECRET_FILE",
        "a file that holds the bearer token for a lock service, or USER:PASSWORD for etcd. Without --quiet, a command that acquires \
         a lease warns if every user of this machine can read the file, or if the secret is sent over the network without TLS",
    ),
    (
        "ABA_LOCK_SERVER_CACERT",
        "a file with the CA certificates that the server's certificate is checked against, in PEM format",
    ),
    (
        "ABA_LOCK_SERVER_CERT, ABA_LOCK_SERVER_KEY",
        "files with a client certificate and its key, in PEM format and without a passphrase",
    ),
    (
        "ABA_LOCK_TTL",
        "the time to live of a lease: the lease ends if it is not renewed for this long, such as 30s or 2m [default: 30s]",
    ),
    (
        "ABA_LOCK_ON_LOST",
        "the reaction to the loss of a script's lease: term (end the script), warn (only report it), or a shell command [default: term]",
    ),
];

/// Examples: the command, and its effect.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    (
        "aba-lock lease run --server https://locks.example.org:8080 --max-wait 20m deploy -- ./deploy.sh",
        "one step of a CI job: wait for the lease, name its holder every minute, fail after twenty minutes; release the lease at the end",
    ),
    (
        "aba-lock lease acquire --ttl 2h --max-wait 20m --output \"$GITHUB_OUTPUT\" deploy",
        "acquire a lease for later steps, which get its id as the output `lease`",
    ),
    (
        "LEASE=$(aba-lock lease acquire --server etcd://10.0.0.1:2379 --ttl 10m deploy) || exit",
        "first step of a CI job: acquire a lease that lasts ten minutes, or end the job",
    ),
    (
        "aba-lock lease renew \"$LEASE\"",
        "a later step: extend the lease by ten minutes from now (ABA_LOCK_SERVER is set)",
    ),
    ("aba-lock lease release \"$LEASE\"", "last step: release the lease"),
    ("aba-lock lease show deploy", "show the holder of the lease and its waiters"),
    ("aba-lock lease list --json | jq -r '.[].name'", "print the names of all leases that are held"),
];

/// Formats rows for the help, each with the text below its term.
fn format_rows(title: &str, rows: &[(&str, &str)]) -> String {
    rows.iter().fold(format!("{title}:\n"), |text, (term, meaning)| format!("{text}  {term}\n      {meaning}\n"))
}

fn format_after_help() -> String {
    let width = LEASE_STATUS.iter().map(|(status, _)| status.len()).max().unwrap_or(0) + 2;
    let statuses = LEASE_STATUS
        .iter()
        .fold("Exit status:\n".to_owned(), |text, (status, meaning)| format!("{text}  {status:width$}{meaning}\n"));
    format!("{statuses}\n{}\n{}", format_rows("Environment", ENVIRONMENT), format_rows("Examples", EXAMPLES))
}

/// Holds leases at a lock service or an etcd cluster, and binds them to the lifetime of local scripts
#[derive(Debug, Parser)]
// Users call `aba-lock lease`, which becomes this program.
#[command(name = "aba-lock-keeper", bin_name = "aba-lock", version = VERSION, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(mut_subcommand("lease", |lease| lease.after_help(format_after_help())))]
#[command(mut_subcommands(allow_repeated_flags))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: KeeperCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeeperCommand {
    #[command(subcommand)]
    Lease(LeaseCommand),
    #[command(hide = true)]
    Hold(HoldArgs),
    #[command(hide = true)]
    Release(ScriptLockArgs),
}

/// Manage leases at a server that several machines share
///
/// A lease is a lock that ends by itself if it is not renewed in time. `run` holds a lease while a command runs, such as one
/// step of a CI job. The other commands are for work that does not run in one process, such as several steps: `acquire` prints the
/// id of the lease, and later steps renew and release the lease with this id.
///
/// A script that runs in one process does not need these commands: `aba_lock_operation` of the shell library, and
/// `aba-lock lock --server URL`, renew the lease until the script exits.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum LeaseCommand {
    Run(RunArgs),
    Acquire(AcquireArgs),
    Renew(RenewArgs),
    Release(ReleaseArgs),
    Show(ShowArgs),
    List(ListArgs),
    #[command(hide = true)]
    Settle(SettleArgs),
    #[command(hide = true)]
    Check(ScriptLockArgs),
    #[command(hide = true)]
    Tokens(ScriptLockArgs),
}

/// The server that holds the leases.
#[derive(Debug, Args)]
pub(crate) struct ServerOption {
    /// Address of the server: https://HOST:PORT (lock service) or etcd://HOST:PORT,HOST:PORT [default: the address in the environment]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

/// Run a command while the lease is held
///
/// Waits for the lease, names its holder at once and then every minute, renews the lease while the command runs, passes signals on to
/// the command and the processes that it started, and releases the lease when the command ends. The exit status is that of the command.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// If the lease is lost: term (end the command), warn (only report it), or a shell command [default: term]
    #[arg(long, value_name = "HOW")]
    pub(crate) on_lost: Option<String>,

    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Acquire a lease, and print its id
#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// Append the lines `lease=ID` and `fencing_token=NUMBER` to FILE, and print nothing
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) output: Option<PathBuf>,

    /// Print the lease as a JSON object, with its fencing token
    #[arg(long)]
    pub(crate) json: bool,
}

/// The lease that a call requests, and how the call waits for it.
#[derive(Debug, Args)]
pub(crate) struct RequestOptions {
    /// Name of the lease: letters, digits and . _ - : @ +
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// Time to live: the lease ends if it is not renewed for this long, such as 90s, 10m or 2h; 10s to 3660d [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) ttl: Option<Duration>,

    #[command(flatten)]
    pub(crate) wait: WaitOptions,

    /// Name the holder again after each TIME of waiting, and when it changes [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) progress: Option<Duration>,

    #[command(flatten)]
    pub(crate) sharing: SharingOptions,

    /// Description of the holder, shown to waiters
    #[arg(long, value_name = "TEXT")]
    pub(crate) who: Option<String>,

    /// Print no messages about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// The limit of the wait.
#[derive(Debug, Args)]
pub(crate) struct WaitOptions {
    /// Fail at once, with status 75, if another process holds the lease [default]
    #[arg(short = 'n', long, overrides_with_all = ["wait", "timeout"])]
    pub(crate) nonblock: bool,

    /// Wait until the lease is free, or for at most TIME: --wait=60 or -w=5m
    #[arg(short, long, value_name = "TIME", value_parser = parse_span, overrides_with = "nonblock")]
    #[arg(num_args = 0..=1, require_equals = true)]
    pub(crate) wait: Option<Option<Duration>>,

    /// Give up after TIME: 30, 1.5, 90s, 1h30m; 0 means do not wait
    #[arg(short, long, visible_alias = "max-wait", value_name = "TIME", value_parser = parse_span)]
    #[arg(overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,
}

/// The mode of a lease.
#[derive(Debug, Args)]
pub(crate) struct SharingOptions {
    /// Share the lease with other processes that request it with this option
    #[arg(short, long, conflicts_with = "slots")]
    pub(crate) shared: bool,

    /// Let up to N processes hold the lease at the same time (1 to 1024); all must give the same N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: Option<u32>,
}

/// Renew a lease: restart its time to live
#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    /// The id that `acquire` printed
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,
}

/// Release a lease; succeeds if the lease has already ended
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The id that `acquire` printed
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,
}

/// Show the holder of a lease and its waiters
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name of the lease
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// Print the lease as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List all leases with their holders and the number of waiters
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// Print the leases as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Acquire the leases of local locks (called by `aba-lock lock`)
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// A lock that is held on this machine: NAME/DESCRIPTOR/TOKEN/fresh or NAME/DESCRIPTOR/TOKEN/held
    #[arg(long = "lock", value_name = "LOCK", required = true)]
    pub(crate) locks: Vec<String>,

    /// The script that has the descriptors open
    #[arg(long, value_name = "PID")]
    pub(crate) script: Option<u32>,

    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) ttl: Option<Duration>,

    #[arg(long, value_name = "HOW")]
    pub(crate) on_lost: Option<String>,

    #[command(flatten)]
    pub(crate) wait: WaitOptions,

    #[command(flatten)]
    pub(crate) sharing: SharingOptions,

    #[arg(long, value_name = "TEXT")]
    pub(crate) who: Option<String>,

    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,

    #[arg(long, value_name = "CMD")]
    pub(crate) on_busy: Option<String>,

    #[arg(short = 'o', long)]
    pub(crate) no_inherit: bool,

    #[arg(long, value_name = "PATH")]
    pub(crate) pid_file: Option<PathBuf>,

    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// A lock that the calling script holds
#[derive(Debug, Args)]
pub(crate) struct ScriptLockArgs {
    /// The descriptor on which the calling script holds it
    #[arg(long, value_name = "N")]
    pub(crate) fd: i32,

    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Wait until the lease is released (called by the shell library after it has closed its descriptor)
#[derive(Debug, Args)]
pub(crate) struct SettleArgs {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The token of the local lock
    #[arg(value_name = "TOKEN")]
    pub(crate) token: u64,
}

fn parse_span(text: &str) -> Result<Duration, String> {
    duration::parse_span(text).ok_or_else(|| format!("not {TIME_RULE}"))
}
