//! The definitions of all options and arguments. Help, manual pages and completions are made from them.
//!
//! The tests in `tests/cli` include this folder, too.

#![allow(clippy::option_option, reason = "clap reads an option with an optional value as this")]

pub(crate) mod clean;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod examples;
pub(crate) mod flock;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod man;
pub(crate) mod metrics;
pub(crate) mod page;
pub(crate) mod repeat;
pub(crate) mod reserve;
pub(crate) mod run_once;
pub(crate) mod status;
pub(crate) mod update;
pub(crate) mod value;
pub(crate) mod wait;

use aba_lock::base::version::VERSION;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;

/// Lock shell scripts and commands, so that two copies do not run at the same time
#[derive(Debug, Parser)]
#[command(name = "aba-lock", version = VERSION, after_help = page::after_root_help())]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(infer_subcommands = false)]
#[command(mut_subcommands(page::add_tables))]
#[command(defer(page::group_commands))]
#[command(mut_subcommands(repeat::allow_repeated_flags))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Invocation,
}

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Invocation {
    Lock(lock::LockArgs),
    Flock(flock::FlockArgs),
    Unlock(lock::UnlockArgs),
    Wait(wait::WaitArgs),
    Status(status::StatusArgs),
    List(status::ListArgs),
    Log(log::LogArgs),
    Clean(clean::CleanArgs),
    Path(PathArgs),
    RunOnce(run_once::RunOnceArgs),
    Update(update::UpdateArgs),
    Write(update::WriteArgs),
    Doctor(doctor::DoctorArgs),
    Metrics(metrics::MetricsArgs),
    Reserve(reserve::ReserveArgs),
    Release(reserve::ReleaseArgs),
    Exclude(reserve::ExcludeArgs),
    Migrate(reserve::MigrateArgs),
    Lease(LeaseArgs),
    Init(InitArgs),
    Completions(man::CompletionsArgs),
    Man(man::ManArgs),
}

/// Print the path of a lock file
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// The name of the lock
    #[arg(value_name = "NAME", required_unless_present = "key")]
    pub(crate) name: Option<String>,

    /// The lock of this text: see aba-lock-lock(1)
    #[arg(long, value_name = "TEXT", conflicts_with = "name")]
    pub(crate) key: Option<OsString>,

    /// Print the name of the lock instead of the path
    #[arg(long = "name", id = "print_name", conflicts_with = "create")]
    pub(crate) print_name: bool,

    /// Create the file, and its directory, if they do not exist
    #[arg(long)]
    pub(crate) create: bool,

    /// Keep the file open until this script has opened it, and print how to open it: for the shell library
    #[arg(long, value_name = "PID", requires_all = ["create", "name"], hide = true)]
    pub(crate) open_for: Option<u32>,

    /// Use the locks that all users of this machine share: see aba-lock-lock(1)
    #[arg(long)]
    pub(crate) system: bool,
}

/// Hold and show leases at a lease server that several machines share
///
/// The program aba-lock-keeper carries out these commands: see `aba-lock lease --help` or aba-lock-lease(1).
#[derive(Debug, Args)]
#[command(disable_help_flag = true, override_usage = "aba-lock lease run|acquire|renew|release|show|list [OPTIONS]")]
pub(crate) struct LeaseArgs {
    /// The command and its options, which are passed to aba-lock-keeper
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    pub(crate) words: Vec<OsString>,
}

/// Print the functions for a shell, for `eval "$(aba-lock init bash)"`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The shell that evaluates the output: bash, zsh, sh (also dash, busybox, ksh, mksh, yash) or fish
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) shell: ShellName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellName {
    Bash,
    Zsh,
    #[value(aliases = ["ash", "busybox", "dash", "ksh", "ksh93", "mksh", "yash"])]
    Sh,
    Fish,
}
