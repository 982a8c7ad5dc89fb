//! The options of `clean`, and the meaning of its exit statuses.

use super::value::parse_span;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "done, also if something was left"),
    ("2", "wrong usage"),
    ("125", "something was to go, and could not be removed, as for a missing permission"),
];

/// Remove lock files that nobody holds
///
/// Each is removed under its own lock, after a check that it is still that file, and only if no other process has it open:
/// a held one stays, there are never two holders, and nobody is told that it is "already running". What is left is said,
/// with the reason. (A plain flock(1) that opens a file at this very moment locks a removed one.)
///
/// Free lock files cost nothing: this is for those who like their directories tidy.
#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// These locks [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Also remove tasks that have succeeded or failed, with their logs; not those that run or were interrupted
    #[arg(long, conflicts_with = "names")]
    pub(crate) tasks: bool,

    /// Only what was last taken, or has ended, before so long: 30, 30s, 10m, 2h, 7d, 2w
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
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
