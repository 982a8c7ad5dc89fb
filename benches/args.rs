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
    /// A lock that nobody else has: by descriptor, by command, and what a refusal takes
    Startup,
    /// What a script pays: sourcing the library, one lock
    Source,
    /// From the release to the next holder
    Handover,
    /// 2, 8, 64 and 512 who want one lock at once
    Throughput,
    /// 1 to 1,000 who wait: their time, memory and processor time
    Waiters,
    /// Tasks, beside a function in plain bash, and among 10 to 10,000 others
    RunOnce,
    /// A file that is updated, beside flock(1), sync(1) and mv(1)
    Update,
    /// Numbers, beside a lock, with 10 and 10,000 rows
    Reserve,
    /// status and list of 10, 1,000 and 10,000 locks
    List,
}

impl Part {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }
}

/// Compares aba-lock with flock(1), plain bash, and the least that the kernel does for it, in one run
///
/// The helper is that in `ABA_LOCK_BIN`: `make bench` builds it as it is shipped, and sets that.
#[derive(Debug, Parser)]
#[command(name = "aba-lock-bench", after_long_help = AFTER)]
pub(crate) struct Args {
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,

    /// How many rounds; a tenth of them where a round takes milliseconds, a hundredth where it takes a second, and fewer when a row has
    /// taken ten seconds
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: u32,

    /// No more than so many processes at once that want one lock
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) up_to: u32,

    /// Print one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the table of the README
    #[arg(long)]
    markdown: bool,

    /// Also draw cost against size into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

const AFTER: &str = "\
With --json:
  date, cpu, cores, kernel, load, helper, flock, bash, rounds
                   when (UTC), and on what; load is the average of the minute before
  rows             of each row:
  part, row        what was measured
  size, size_of    how many, and of what: waiters, locks; null in a row that has no size
  unit             of `value`: us (microseconds), per_second, or KiB
  rounds           how many were counted, of each side
  sides            ours first; of each:
  side             aba-lock, flock(1), floor, ...
  value            median; beside it minimum, p10, p90 (of a hundred, the 10th and the 90th) and maximum
  cpu_us           median processor time, user and system; null where it was not taken
  peak_kib         largest peak memory of a single process; null where it was not taken
  ratio            ours to this side's, round by round, the median; null in our own
  ratio_low, ratio_high
                   it lies between them with 95 % (of fewer than six rounds: the lowest and the highest)";

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
