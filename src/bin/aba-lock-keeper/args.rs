//! The definitions of all options and arguments. They are also the source of the help, the man page and the completion, so the
//! helper, the program that writes the man pages, and the tests include this file.

// The docs of the definitions are help texts, in which brackets are not links.
#![allow(rustdoc::broken_intra_doc_links)]
#![allow(clippy::option_option, reason = "an option with a value that may be left out, as clap reads it")]

#[allow(
    clippy::duplicate_mod,
    reason = "programs that include this file may include the definitions of the helper, too"
)]
#[path = "../aba-lock/args/repeat.rs"]
mod repeat;

use aba_lock::base::duration::{parse_seconds, parse_span};
use clap::{Args, Parser, Subcommand};
use repeat::allow_repeated_flags;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The exit statuses of `lease`.
pub(crate) const LEASE_STATUS: [(&str, &str); 6] = [
    ("0", "acquired, done; held"),
    ("1", "`show` says that it is free"),
    ("2", "wrong usage"),
    ("75", "held by another; `renew`: it is lost"),
    ("124", "timed out waiting"),
    ("125", "no server answers, it refused, or something here failed"),
];

/// The environment variables.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("ABA_LOCK_SERVER", "the address of the server: https://host:port of a lock service, or etcd://h1:2379,h2:2379"),
    (
        "ABA_LOCK_SERVER_SECRET_FILE",
        "a file with the bearer token for a lock service, or with USER:PASSWORD for etcd. A command that acquires a lease warns, \
         unless it is quiet, if every user of this machine can read the file, or if the secret leaves the machine without TLS",
    ),
    ("ABA_LOCK_SERVER_CACERT", "a file with the certificates of whom to trust, in PEM form"),
    ("ABA_LOCK_SERVER_CERT, ABA_LOCK_SERVER_KEY", "files with a client certificate and its key, in PEM form"),
    ("ABA_LOCK_TTL", "how long a lease lasts that is not renewed, such as 30s or 2m [default: 30s]"),
    ("ABA_LOCK_ON_LOST", "what to do when a script's lease is lost: term, warn, or a command [default: term]"),
];

/// Examples: the command, and its effect.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    (
        "LEASE=$(aba-lock lease acquire --server etcd://10.0.0.1:2379 --ttl 10m deploy) || exit",
        "in the first step of a CI job: the lease lasts ten minutes",
    ),
    ("aba-lock lease renew \"$LEASE\"", "in a later step, with ABA_LOCK_SERVER set: ten minutes more"),
    ("aba-lock lease release \"$LEASE\"", "in the last step"),
    ("aba-lock lease show deploy", "see who has it, and who waits"),
];

/// Formats a table for the help.
fn format_table(title: &str, rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 2;
    rows.iter().fold(format!("{title}:\n"), |text, (left, right)| format!("{text}  {left:width$}{right}\n"))
}

fn format_after_help() -> String {
    let examples = EXAMPLES
        .iter()
        .fold("Examples:\n".to_owned(), |text, (typed, does)| format!("{text}  {typed}\n      {does}\n"));
    format!("{}\n{}\n{examples}", format_table("Exit status", &LEASE_STATUS), format_table("Environment", ENVIRONMENT))
}

/// Keeps leases at a lock service or an etcd cluster, and binds them to the life of local scripts
#[derive(Debug, Parser)]
#[command(name = "aba-lock-keeper", version, disable_help_subcommand = true)]
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

/// Leases by themselves, at a server that several machines share
///
/// For what is not one process, such as the steps of a CI job: `acquire` prints what the lease is called, for the others.
///
/// A lease is a lock that ends by itself when it is not renewed in time. A script that is one process has no need of this:
/// `aba_lock_operation` and `aba-lock lock` with --server keep the lease as long as the script lives.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum LeaseCommand {
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

/// Where the leases are.
#[derive(Debug, Args)]
pub(crate) struct ServerOption {
    /// The server: https://host:port of a lock service, or etcd://h1:2379,h2:2379 [default: that of the environment]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

/// Acquire a lease, and print what it is called
#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    /// What to lock: letters, digits and . _ - : @ +
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// How long it lasts if it is not renewed: 30, 90s, 10m, 2h; at least 10 s [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) ttl: Option<Duration>,

    #[command(flatten)]
    pub(crate) wait: WaitOptions,

    /// Say this of the holder, to those who wait
    #[arg(long, value_name = "TEXT")]
    pub(crate) who: Option<String>,

    /// Print it as a JSON object, with its fencing token
    #[arg(long)]
    pub(crate) json: bool,

    /// Say nothing about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How long to wait.
#[derive(Debug, Args)]
pub(crate) struct WaitOptions {
    /// Fail at once if another has it [default]
    #[arg(short = 'n', long, overrides_with_all = ["wait", "timeout"])]
    pub(crate) nonblock: bool,

    /// Wait until it is free, or at most this many seconds: --wait=60 or -w=60, as --timeout 60
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_wait, overrides_with = "nonblock")]
    #[arg(num_args = 0..=1, require_equals = true)]
    pub(crate) wait: Option<Option<Duration>>,

    /// Give up after this many seconds; fractions are allowed, and 0 tries once
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_wait, overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,
}

/// Make a lease last as long again, from now on
#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    /// What `acquire` printed
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,
}

/// Give a lease back; fine if it is gone
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// What `acquire` printed
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,
}

/// Say who has a name, and who waits
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// Print it as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List all leases: who has them, and how many wait
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// Print it as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Called by `aba-lock lock` when the local locks are held
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) at: ServerOption,

    /// A lock that is held here: NAME/DESCRIPTOR/TOKEN/fresh or NAME/DESCRIPTOR/TOKEN/held
    #[arg(long = "lock", value_name = "LOCK", required = true)]
    pub(crate) locks: Vec<String>,

    /// The script that has the descriptors open
    #[arg(long, value_name = "PID")]
    pub(crate) script: Option<u32>,

    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) ttl: Option<Duration>,

    #[arg(long, value_name = "HOW")]
    pub(crate) on_lost: Option<String>,

    #[command(flatten)]
    pub(crate) wait: WaitOptions,

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

/// Called by the shell library when it has closed its descriptor: waits until the lease was given back
#[derive(Debug, Args)]
pub(crate) struct SettleArgs {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The token of the local lock
    #[arg(value_name = "TOKEN")]
    pub(crate) token: u64,
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).ok_or("not a time span such as 30s, 10m or 2h")
}

fn parse_wait(text: &str) -> Result<Duration, &'static str> {
    parse_seconds(text).ok_or("not a number of seconds")
}
