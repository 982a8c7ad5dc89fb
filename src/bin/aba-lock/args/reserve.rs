//! The options of `reserve`, `release`, `exclude` and `migrate`, and the tables that the help prints below them.

use super::value::{parse_days, parse_span};
use aba_lock::number::probe::Probe;
use aba_lock::number::range::NumberRange;
use clap::{Args, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "reserved, released or done; the answer is yes"),
    (
        "1",
        "the answer is no: no number is reserved (--check) or excluded (--remove); or `migrate` found two numbers for \
         one key",
    ),
    ("2", "wrong usage, or an error in a group file"),
    ("75", "no number is free, or the number of --require is taken"),
    ("124", "timed out while waiting for the registry (-t)"),
    ("125", "aba-lock itself failed; if a registry is damaged, no number of it is given out"),
    ("126, 127", "the command cannot be run (126) or was not found (127)"),
    ("128+n", "signal n ended the command"),
    ("other", "the exit status of the command"),
];

/// The files of a pool.
pub(crate) const FILES: [(&str, &str); 4] = [
    ("reserve/POOL", "the registry: one line for each number that is kept, and the exclusions"),
    ("reserve/POOL.lock", "locked (flock(2)) while a number is chosen and recorded"),
    ("reserve/POOL.d/N.lock", "locked while a command holds the number N"),
    ("reserve/POOL.damaged*", "copies of registries that were found to be damaged"),
];

/// The members of each number in `reserve --list --format json`. Unknown values are null.
pub(crate) const JSON: [(&str, &str); 9] = [
    ("pool", "the pool of the number"),
    ("number", "the number"),
    ("kind", "kept (for a directory) or leased (to a command)"),
    ("tag", "the tag of the number in its directory"),
    ("directory, gone", "the directory, and true if it certainly no longer exists"),
    ("age_seconds", "the time since the number was reserved"),
    ("unused_seconds", "the time since the number was last requested, to the minute; null if leased"),
    ("in_use", "true if a process uses the number"),
    ("by", "the processes that use it: a list of pid and command"),
];

/// The options that make the call a query instead of a reservation.
const OTHERS: [&str; 5] = ["list", "check", "prune", "expire", "recover"];

/// The options that choose a number and the form of the output.
const GIVING: [&str; 12] = [
    "number",
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

/// Reserve a number, by default a port, that no other caller gets
///
/// Without CMD, aba-lock prints the number that belongs to this directory. If the directory has none, it gets the lowest free
/// number, and keeps it until it is released. With --tag, a directory can have several numbers.
///
/// With -- CMD, CMD gets a different number, in `ABA_NUMBER`, for as long as it runs. The kernel releases the number when CMD
/// ends, no matter how it ends. aba-lock becomes CMD, as with `lock`. A CMD that closes inherited descriptors would release the
/// number too early. For ssh, sudo and doas, aba-lock therefore turns on --no-inherit by itself. Give that option yourself for
/// other such commands, and if env, nice or nohup precedes them.
///
/// A pool thus also limits how many commands run at the same time: three with `--pool build --range 1-3`. A call does not wait for
/// a free number.
///
/// A number is free if it is not reserved, it is not excluded, and a trial bind of the port succeeds.
#[derive(Debug, Args)]
#[command(override_usage = "aba-lock reserve [OPTIONS] [N] [-- CMD [ARG]...]\n       \
                            aba-lock reserve --group TAG,TAG... [OPTIONS] [-- CMD [ARG]...]\n       \
                            aba-lock reserve --list | --check | --prune | --expire DAYS | --recover")]
pub(crate) struct ReserveArgs {
    /// The same as --prefer N, for numbers above 100
    #[arg(index = 1, value_name = "N", value_parser = parse_bare_number, conflicts_with_all = ["prefer", "require"])]
    pub(crate) number: Option<u32>,

    /// The tag of the number in this directory: letters, digits and . _ - : @ +
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// The directory that keeps the number [default: the current directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// The pool of numbers: letters, digits, _ and - [default: ports]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,

    /// Choose from the numbers A to B [default for ports: 5000-7000]
    ///
    /// A directory that already has a number keeps it. If that number is outside the range, this is reported.
    #[arg(long, value_name = "A-B", value_parser = parse_own_range)]
    pub(crate) range: Option<NumberRange>,

    /// Choose N if it is free; otherwise print the reason and choose another number
    ///
    /// Without --range, N can be any port. --port N is the same.
    #[arg(long, alias = "port", value_name = "N", value_parser = parse_number, overrides_with = "require")]
    pub(crate) prefer: Option<u32>,

    /// Choose N, or fail if it is not free
    #[arg(long, value_name = "N", value_parser = parse_number, overrides_with = "prefer")]
    pub(crate) require: Option<u32>,

    /// How to test that a port is free: tcp, udp, wildcard, or none [default for ports: tcp,udp]
    ///
    /// A port is in use if a bind to the loopback addresses fails with tcp or udp. With wildcard, a bind to all addresses is
    /// tried, too.
    #[arg(long, value_name = "LIST", value_parser = parse_probe)]
    pub(crate) probe: Option<Probe>,

    /// Do not choose these numbers this time; may be repeated
    ///
    /// A directory that already has such a number keeps it, and this is reported.
    #[arg(long, value_name = "N|A-B", value_parser = parse_range, value_delimiter = ',')]
    pub(crate) exclude: Vec<NumberRange>,

    /// Reserve one number for each tag, consecutive if possible, either all or none
    #[arg(long, value_name = "TAG,TAG...", conflicts_with_all = ["number", "tag", "prefer", "require"])]
    pub(crate) group: Option<String>,

    /// Reserve the groups that this file describes: see aba-lock-reserve(7)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["number", "tag", "prefer", "require", "group"])]
    pub(crate) group_file: Option<PathBuf>,

    /// Output format of numbers: plain, export, fish, dotenv, json; of --list: table, json, tsv
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) format: Option<Format>,

    /// Also write the numbers to this file as `NAME=N`; its other lines are kept
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "command")]
    pub(crate) dotenv: Option<PathBuf>,

    /// List the reserved numbers of all pools, or of --pool, with their owners, age and use
    #[arg(long, conflicts_with_all = ["check", "prune", "expire", "recover"])]
    #[arg(conflicts_with_all = &GIVING[..11])]
    pub(crate) list: bool,

    /// Print the number that is reserved, or exit with 1; never reserve one
    #[arg(long, conflicts_with_all = ["prune", "expire", "recover"], conflicts_with_all = GIVING)]
    pub(crate) check: bool,

    /// Release the numbers of directories that certainly no longer exist, and print them
    #[arg(long, conflicts_with = "recover", conflicts_with_all = GIVING, conflicts_with_all = ["tag", "path"])]
    pub(crate) prune: bool,

    /// Release the numbers that were not requested for DAYS and are not in use, and print them
    #[arg(long, value_name = "DAYS", value_parser = parse_days, conflicts_with = "recover")]
    #[arg(conflicts_with_all = &GIVING[..10], conflicts_with_all = ["tag", "path", "format"])]
    pub(crate) expire: Option<u32>,

    /// Make a new registry from the readable lines of a damaged one, which is kept
    #[arg(long, conflicts_with_all = GIVING, conflicts_with_all = ["tag", "path", "dry_run"])]
    pub(crate) recover: bool,

    /// Print the result, but write nothing
    #[arg(long, conflicts_with_all = ["command", "list", "check"])]
    pub(crate) dry_run: bool,

    /// Do not pass the number to CMD: release it when CMD ends, even if its children still run
    #[arg(short = 'o', long, requires = "command")]
    pub(crate) no_inherit: bool,

    /// Give up after TIME if other processes keep the registry locked [default: wait forever]
    #[arg(short, long, value_name = "TIME", value_parser = parse_span, conflicts_with_all = ["list", "check"])]
    pub(crate) timeout: Option<Duration>,

    /// Print no messages about preferences, numbers in use, and waiting; with CMD, also none if no number is free
    #[arg(short, long, conflicts_with_all = ["list", "check"])]
    pub(crate) quiet: bool,

    /// The command that holds the number while it runs
    #[arg(index = 2, last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    #[arg(conflicts_with_all = OTHERS)]
    #[arg(conflicts_with = "format")]
    pub(crate) command: Vec<OsString>,
}

/// The numbers that are probably meant as a count, such as of commands that run at the same time. A count of 1 is the range 1.
const COUNTS: RangeInclusive<u32> = 2..=100;

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

/// Release a number that a directory keeps
///
/// It is not an error if there is no number to release. The number of a command is released when the command ends.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The tag of the number [default: the number without a tag]
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// Release all numbers of the directory
    #[arg(long, conflicts_with = "tag")]
    pub(crate) all_tags: bool,

    /// The directory, which may no longer exist [default: the current directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// Also release the numbers of the directories below it
    #[arg(long)]
    pub(crate) recursive: bool,

    /// The pool of numbers [default: ports]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,

    /// Print the numbers that would be released, but release none
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Give up after TIME if other processes keep the registry locked [default: wait forever]
    #[arg(short, long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
}

/// Exclude numbers, so that they are never reserved
///
/// A directory or command that already has such a number keeps it, and a warning is printed.
#[derive(Debug, Args)]
pub(crate) struct ExcludeArgs {
    /// The numbers to exclude
    #[arg(value_name = "N|A-B", value_parser = parse_range, required_unless_present = "list")]
    pub(crate) ranges: Vec<NumberRange>,

    /// Remove these exclusions; give each one as it was excluded
    #[arg(long, requires = "ranges")]
    pub(crate) remove: bool,

    /// Print the excluded numbers
    #[arg(long, conflicts_with_all = ["ranges", "timeout"])]
    pub(crate) list: bool,

    /// The pool of numbers [default: ports]
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,

    /// Give up after TIME if other processes keep the registry locked [default: wait forever]
    #[arg(short, long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
}

/// Keep the numbers of a directory that was moved
///
/// In all pools, the numbers of the old directory, and of the directories below it, then belong to the same directories in the
/// new place.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The old path of the directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) from: PathBuf,

    /// The new path of the directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,

    /// Print the changes, but write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Give up after TIME if other processes keep a registry locked [default: wait forever]
    #[arg(short, long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
}

fn parse_range(text: &str) -> Result<NumberRange, &'static str> {
    let bounds = text.split_once('-').and_then(|(first, last)| parse_number(first).ok().zip(parse_number(last).ok()));
    if bounds.is_some_and(|(first, last)| first > last) {
        return Err("the range ends before it begins");
    }
    NumberRange::parse(text).ok_or("neither a number nor a range of at most a million numbers, such as 5000-7000")
}

/// Parses the range to choose from. A single small number is refused: the user probably means how many numbers there are.
fn parse_own_range(text: &str) -> Result<NumberRange, String> {
    let range = parse_range(text)?;
    if !text.contains('-') && COUNTS.contains(&range.first) {
        return Err(format!("write 1-{text} for {text} numbers, or {text}-{text} for this number only"));
    }
    Ok(range)
}

fn parse_number(text: &str) -> Result<u32, &'static str> {
    aba_lock::number::range::parse_number(text).ok_or("not a number")
}

/// Parses a number without an option. A small number is refused: it could be the number of ports that the user wants.
fn parse_bare_number(text: &str) -> Result<u32, String> {
    let number = parse_number(text)?;
    if number <= *COUNTS.end() {
        return Err(format!("write --prefer {text} for this number, or --group TAG,TAG... for several numbers"));
    }
    Ok(number)
}

fn parse_probe(text: &str) -> Result<Probe, &'static str> {
    Probe::parse(text).ok_or("neither none nor a list of tcp, udp and wildcard, such as tcp,udp")
}
