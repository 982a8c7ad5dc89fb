//! From the words of the command line to the command.

mod plain;

use crate::args::flock::{COMMAND, FlockArgs};
use crate::args::repeat::allow_repeated_flags;
use crate::args::{Cli, Invocation, LeaseArgs};
use clap::{Args, Parser};
use std::ffi::OsString;

/// The command that is asked for when we are called `flock`.
pub(crate) fn as_flock() -> Invocation {
    Invocation::Flock(FlockArgs { called: "flock", words: std::env::args_os().skip(1).collect() })
}

/// The command that is asked for; or what clap has to say, which is also the answer to `--help` and `--version`.
///
/// To define all commands takes longer than all else that most calls do. So what scripts call most is read without clap
/// where it is plain, and else only the command that is named is defined at first; what is not right by that is for the whole
/// definition to answer.
pub(crate) fn command() -> Result<Invocation, clap::Error> {
    let words = || std::env::args_os().skip(1);
    plain(words()).or_else(|| named(words())).map_or_else(|| Cli::try_parse().map(|cli| cli.command), Ok)
}

fn plain(mut words: impl Iterator<Item = OsString>) -> Option<Invocation> {
    match words.next()?.to_str()? {
        "lock" => plain::lock(words).map(Invocation::Lock),
        "unlock" => plain::unlock(words).map(Invocation::Unlock),
        "run-once" => plain::run_once(words).map(Invocation::RunOnce),
        _ => None,
    }
}

fn named(mut words: impl Iterator<Item = OsString>) -> Option<Invocation> {
    Some(match words.next()?.to_str()? {
        "lock" => Invocation::Lock(only(words)?),
        "flock" => Invocation::Flock(FlockArgs { called: COMMAND, words: words.collect() }),
        "unlock" => Invocation::Unlock(only(words)?),
        "status" => Invocation::Status(only(words)?),
        "list" => Invocation::List(only(words)?),
        "clean" => Invocation::Clean(only(words)?),
        "path" => Invocation::Path(only(words)?),
        "update" => Invocation::Update(only(words)?),
        "write" => Invocation::Write(only(words)?),
        "doctor" => Invocation::Doctor(only(words)?),
        "metrics" => Invocation::Metrics(only(words)?),
        "reserve" => Invocation::Reserve(only(words)?),
        "release" => Invocation::Release(only(words)?),
        "exclude" => Invocation::Exclude(only(words)?),
        "migrate" => Invocation::Migrate(only(words)?),
        "run-once" => Invocation::RunOnce(only(words)?),
        "lease" => Invocation::Lease(LeaseArgs { words: words.collect() }),
        _ => return None,
    })
}

fn only<A: Args>(words: impl Iterator<Item = OsString>) -> Option<A> {
    let definition = allow_repeated_flags(A::augment_args(clap::Command::new("aba-lock").no_binary_name(true)));
    A::from_arg_matches(&definition.try_get_matches_from(words).ok()?).ok()
}

/// The word after a bare `--wait` or `-w`, also at the end of several letters.
pub(crate) fn word_after_wait() -> Option<String> {
    let mut words = std::env::args_os().skip(1).take_while(|word| word != "--").skip_while(|word| {
        let word = word.to_string_lossy();
        word != "--wait" && (word.starts_with("--") || !word.starts_with('-') || !word.ends_with('w'))
    });
    words.nth(1)?.into_string().ok()
}
