//! The options of `reserve`, `release`, `exclude` and `migrate`, and the tables below them.

use super::value::parse_seconds;
use aba_lock::number::probe::Probe;
use aba_lock::number::range::NumberRange;
use clap::{Args, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "reserved, released, done, yes"),
    ("1", "no: none is reserved (--check) or excluded (--remove); two numbers for one key (`migrate`)"),
    ("2", "wrong usage, also of a group file"),
    ("75", "no number is free, or the one that --require asks for is not"),
    ("124", "timed out waiting for the registry (-t)"),
    ("125", "aba-lock itself failed; no number is given out of a registry that is damaged"),
    ("126, 127", "the command cannot be run, was not found"),
    ("128+n", "signal n ended the command"),
    ("other", "the command's own"),
];

/// The files of a pool.
pub(crate) const FILES: [(&str, &str); 4] = [
    ("reserve/POOL", "the registry: a line a number that is kept, and the exclusions"),
    ("reserve/POOL.lock", "locked (flock(2)) while a number is chosen and written down"),
    ("reserve/POOL.d/N.lock", "locked while a command has the number N"),
    ("reserve/POOL.damaged*", "a registry that was found to be damaged"),
];

/// The members of each number in `reserve --list --format json`. Unknown values are null.
pub(crate) const JSON: [(&str, &str); 9] = [
    ("pool", "its pool"),
    ("number", "the number"),
    ("kind", "kept or leased"),
    ("tag", "what the directory calls it"),
    ("directory, gone", "the directory, and whether that is certainly gone"),
    ("age_seconds", "how long it has been reserved"),
    ("unused_seconds", "how long ago it was last asked for, to the minute; null if leased"),
    ("in_use", "whether somebody uses it"),
    ("by", "who: a list of pid and command"),
];

/// The options that make the call a query instead of a reservation.
const OTHERS: [&str; 5] = ["list", "check", "prune", "expire", "recover"];

/// The options that choose a number and the form of the output.
const GIVING: [&str; 11] = [
    "range",
    "prefer",
    "require",
    "exclude",
    "group",
    "group_file",
    "dotenv",
    "no_inherit",
    "command",
    "probe",
    "format",
];

/// Reserve a number, a port by default, that nobody else gets
///
/// Prints the number that this directory has, and gives it one if it has none: the lowest that is free. It is the same one
/// each time, until it is released. With --tag a directory has several.
///
/// With -- CMD the number is another one, that CMD has as long as it runs: in `ABA_NUMBER`. The kernel gives it back
/// when CMD ends, however it ends. The process becomes CMD, as with `lock`. A CMD that closes the descriptors it was given
/// would lose it: for ssh, sudo and doas, --no-inherit is in force by itself. Say it yourself for others, and where such a
/// command stands behind env, nice or nohup.
///
/// A number is free if nobody has it here, it is not excluded, and a trial bind finds nobody else who uses it.
#[derive(Debug, Args)]
#[command(override_usage = "aba-lock reserve [OPTIONS] [-- CMD [ARG]...]\n       \
                            aba-lock reserve --group TAG,TAG... [OPTIONS] [-- CMD [ARG]...]\n       \
                            aba-lock reserve --list | --check | --prune | --expire DAYS | --recover")]
pub(crate) struct ReserveArgs {
    /// Which of the numbers of the directory: letters, digits and . _ - : @ +
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// Of this directory [default: where we are]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// Out of this pool of numbers: letters, digits, _ and - [default: ports]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,

    /// Out of these numbers [default, of ports: 5000-7000]
    #[arg(long, value_name = "A-B", value_parser = parse_range)]
    pub(crate) range: Option<NumberRange>,

    /// This one, if it can be had; if not, say why on stderr, and give another
    #[arg(long, value_name = "N", value_parser = parse_number, overrides_with = "require")]
    pub(crate) prefer: Option<u32>,

    /// This one, or fail
    #[arg(long, value_name = "N", value_parser = parse_number, overrides_with = "prefer")]
    pub(crate) require: Option<u32>,

    /// What is in use: a bind fails with tcp or udp, on the loopback addresses, and on all addresses with wildcard; or none
    /// [default, of ports: tcp,udp]
    #[arg(long, value_name = "LIST", value_parser = parse_probe)]
    pub(crate) probe: Option<Probe>,

    /// None of these numbers, this time
    #[arg(long, value_name = "N|A-B", value_parser = parse_range, value_delimiter = ',')]
    pub(crate) exclude: Vec<NumberRange>,

    /// Several numbers one after the other, one a tag: all of them, or none
    #[arg(long, value_name = "TAG,TAG...", conflicts_with_all = ["tag", "prefer", "require"])]
    pub(crate) group: Option<String>,

    /// The same, as this file describes it: see aba-lock-reserve(7)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["tag", "prefer", "require", "group"])]
    pub(crate) group_file: Option<PathBuf>,

    /// How to print numbers: plain, export, fish, dotenv, json; how to print the list: table, json, tsv
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) format: Option<Format>,

    /// Also write the numbers into this file, as `NAME=N`; its other lines stay as they are
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "command")]
    pub(crate) dotenv: Option<PathBuf>,

    /// List what is reserved, in all pools if none is named: by whom, for how long, and whether it is in use
    #[arg(long, conflicts_with_all = ["check", "prune", "expire", "recover"])]
    #[arg(conflicts_with_all = &GIVING[..10])]
    pub(crate) list: bool,

    /// Print the number that is reserved, and reserve none: exit with 1 if there is none
    #[arg(long, conflicts_with_all = ["prune", "expire", "recover"], conflicts_with_all = GIVING)]
    pub(crate) check: bool,

    /// Give back the numbers of directories that are certainly gone, and print which
    #[arg(long, conflicts_with = "recover", conflicts_with_all = GIVING, conflicts_with_all = ["tag", "path"])]
    pub(crate) prune: bool,

    /// Give back the numbers that were not asked for in so many days and are not in use, and print which
    #[arg(long, value_name = "DAYS", conflicts_with = "recover")]
    #[arg(conflicts_with_all = &GIVING[..9], conflicts_with_all = ["tag", "path", "format"])]
    pub(crate) expire: Option<u32>,

    /// Make a new registry of what can be read of a damaged one, which is kept
    #[arg(long, conflicts_with_all = GIVING, conflicts_with_all = ["tag", "path", "dry_run"])]
    pub(crate) recover: bool,

    /// Do everything but write: it makes no file
    #[arg(long, conflicts_with_all = ["command", "list", "check"])]
    pub(crate) dry_run: bool,

    /// Keep the number from CMD's children: it is given back when CMD ends, whatever CMD left behind
    #[arg(short = 'o', long, requires = "command")]
    pub(crate) no_inherit: bool,

    /// Wait so long at most for the registry; fractions are allowed [default: until it is free]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, conflicts_with_all = ["list", "check"])]
    pub(crate) timeout: Option<Duration>,

    /// Say nothing of preferences that are not met, numbers that are in use, and waits
    #[arg(short, long, conflicts_with_all = ["list", "check"])]
    pub(crate) quiet: bool,

    /// The command that has the number
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments, conflicts_with_all = OTHERS)]
    #[arg(conflicts_with = "format")]
    pub(crate) command: Vec<OsString>,
}

/// The format of printed numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Plain,
    Export,
    Fish,
    Dotenv,
    Json,
    Table,
    Tsv,
}

/// Give back a number that a directory keeps
///
/// That there is nothing to give back is no failure. A number that a command has is given back when the command ends.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Which of the numbers of the directory [default: the one without a tag]
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// All of them
    #[arg(long, conflicts_with = "tag")]
    pub(crate) all_tags: bool,

    /// Of this directory, which may be gone [default: where we are]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// Also of the directories below it
    #[arg(long)]
    pub(crate) recursive: bool,

    /// Out of this pool of numbers [default: ports]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,

    /// Print what would be given back, and give nothing back
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Wait so long at most for the registry; fractions are allowed [default: until it is free]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// Exclude numbers from being given
///
/// Who has such a number keeps it, and is told on stderr.
#[derive(Debug, Args)]
pub(crate) struct ExcludeArgs {
    /// The numbers
    #[arg(value_name = "N|A-B", value_parser = parse_range, required_unless_present = "list")]
    pub(crate) ranges: Vec<NumberRange>,

    /// Give them again; each as it was excluded
    #[arg(long, requires = "ranges")]
    pub(crate) remove: bool,

    /// Print what is excluded
    #[arg(long, conflicts_with_all = ["ranges", "timeout"])]
    pub(crate) list: bool,

    /// Of this pool of numbers [default: ports]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,

    /// Wait so long at most for the registry; fractions are allowed [default: until it is free]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// Keep the numbers of a directory after it was moved
///
/// The numbers of DIR and of the directories below it, in all pools, become those of the same directories in the new
/// place.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Where it was
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) from: PathBuf,

    /// Where it is
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,

    /// Print what would be changed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Wait so long at most for each registry; fractions are allowed [default: until it is free]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
}

fn parse_range(text: &str) -> Result<NumberRange, &'static str> {
    NumberRange::parse(text).ok_or("not a number, or a range such as 5000-7000 of at most a million")
}

fn parse_number(text: &str) -> Result<u32, &'static str> {
    aba_lock::number::range::parse_number(text).ok_or("not a number")
}

fn parse_probe(text: &str) -> Result<Probe, &'static str> {
    Probe::parse(text).ok_or("not a list of tcp, udp and wildcard, nor none")
}
