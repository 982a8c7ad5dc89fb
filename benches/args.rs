//! The command line of the benchmarks.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

pub(crate) enum Form {
    Table,
    Json,
    Markdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// A free lock by descriptor and by command, and a refusal
    Startup,
    /// Scripts in bash: sourcing the library, one lock, a nested call, the release, with each way to load the library
    Source,
    /// From the release to the next holder
    Handover,
    /// 2, 8, 64 and 512 processes that contend for one lock
    Throughput,
    /// 1 to 1,000 waiters: their time, memory and processor time
    Waiters,
    /// Tasks, compared with a function in plain bash, and among 10 to 10,000 others
    RunOnce,
    /// An update of a file, compared with flock(1), sync(1) and mv(1)
    Update,
    /// Numbers, compared with a lock, with 10 and 10,000 rows
    Reserve,
    /// status and list of 10, 1,000 and 10,000 locks, and status next to 2,000 processes
    List,
}

impl Part {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }
}

/// Compares aba-lock with flock(1), plain bash, and bare system calls, in one run
///
/// The helper is the one in `ABA_LOCK_BIN`. `make bench` builds it as it is shipped, and sets the variable.
#[derive(Debug, Parser)]
#[command(name = "aba-lock-bench", after_long_help = AFTER)]
pub(crate) struct Args {
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,

    /// Number of rounds; a tenth of it if a round takes milliseconds, a hundredth if it takes a second, and fewer after ten seconds
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: u32,

    /// Maximum number of processes that contend for one lock
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) up_to: u32,

    /// Also measure this helper in the parts `startup` and `source`, for example one for another C library
    #[arg(long, value_name = "HELPER")]
    pub(crate) compare: Option<PathBuf>,

    /// Also measure this builtin for bash in the part `source`
    #[arg(long, value_name = "FILE")]
    pub(crate) builtin: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the table of docs/performance.md
    #[arg(long)]
    markdown: bool,

    /// Also draw cost against size into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

const AFTER: &str = "\
With --json:
  date, cpu, cores, kernel, load, helper, flock, bash, rounds
                   the time (UTC) and the machine; load is the average of the minute before
  rows             of each row:
  part, row        the measured operation
  size, size_of    the number, and its unit: waiters, locks; null in a row without a size
  unit             of `value`: us (microseconds), per_second, or KiB
  rounds           the number that was counted, for each side
  sides            ours first; of each:
  side             aba-lock, flock(1), floor, ...
  value            median; in addition, minimum, p10, p90 (of a hundred, the 10th and the 90th) and maximum
  cpu_us           median processor time, user and system; null if it was not measured
  peak_kib         largest peak memory of a single process; null if it was not measured
  ratio            ours to this side's, round by round, the median; null in our own
  ratio_low, ratio_high
                   it lies between them with 95 % (of fewer than six rounds: the lowest and the highest)
  cpu_ratio        the same ratio for the processor time; null if it was not measured";

impl Args {
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        Part::value_variants().iter().copied().filter(|part| self.only.is_empty() || self.only.contains(part))
    }

    pub(crate) fn form(&self) -> Form {
        match (self.json, self.markdown) {
            (true, _) => Form::Json,
            (_, true) => Form::Markdown,
            _ => Form::Table,
        }
    }
}
