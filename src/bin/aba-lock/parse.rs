//! Turns the command line into an [`Invocation`], which `cmd` runs, or into an error of clap, which `main` prints.

mod effect;
mod plain;

use crate::args::flock::{COMMAND, FlockArgs};
use crate::args::lock::LockArgs;
use crate::args::repeat::allow_repeated_flags;
use crate::args::{Cli, Invocation, LeaseArgs};
use aba_lock::base::duration::parse_span;
use aba_lock::base::environment::shell;
use aba_lock::os;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser};
use std::ffi::OsString;

/// Returns the invocation of a process that was called as `flock`.
pub(crate) fn parse_as_flock() -> Invocation {
    Invocation::Flock(FlockArgs { called: "flock", words: os::words().skip(1).collect() })
}

/// Parses the command line. The error of clap is also the answer to `--help` and `--version`.
///
/// Defining the options of all commands takes longer than the rest of most calls. So the command line is parsed in up
/// to three steps, until one succeeds:
///
/// 1. Common calls of scripts are parsed without clap (`plain`).
/// 2. Only the options of the named command are defined.
/// 3. All commands are defined. This step reports the errors.
pub(crate) fn parse_command() -> Result<Invocation, clap::Error> {
    parse_plain(os::words().skip(1)).map_or_else(parse_with_clap, Ok)
}

/// Does the second and the third step. It is a function of its own, because most calls need neither its code nor its stack.
#[inline(never)]
fn parse_with_clap() -> Result<Invocation, clap::Error> {
    let has_effect = |invocation: &Invocation| effect::find_ineffective_option(invocation).is_none();
    let parsed = parse_named(os::words().skip(1)).filter(has_effect);
    let mut invocation = parsed.map_or_else(|| parse_all(os::words()), Ok)?;
    if let Invocation::Lock(args) = &mut invocation
        && let Some(line) = args.shell_line.take()
    {
        args.command = vec![shell(), "-c".into(), line];
    }
    Ok(invocation)
}

fn parse_all(words: impl Iterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let mut words: Vec<OsString> = words.collect();
    if words.len() < 2 {
        // Without arguments, `aba-lock` prints its help instead of an error.
        words.push("--help".into());
    }
    let invocation = Cli::try_parse_from(words)?.command;
    match effect::find_ineffective_option(&invocation) {
        Some(mistake) => Err(Cli::command().error(ErrorKind::ValueValidation, mistake)),
        None => Ok(invocation),
    }
}

fn parse_plain(mut words: impl Iterator<Item = OsString>) -> Option<Invocation> {
    match words.next()?.to_str()? {
        "lock" => plain::parse_lock(words).map(Invocation::Lock),
        "unlock" => plain::parse_unlock(words).map(Invocation::Unlock),
        "status" => plain::parse_status(words).map(Invocation::Status),
        "run-once" => plain::parse_run_once(words).map(Invocation::RunOnce),
        _ => None,
    }
}

fn parse_named(mut words: impl Iterator<Item = OsString>) -> Option<Invocation> {
    Some(match words.next()?.to_str()? {
        "lock" => Invocation::Lock(parse_only(words)?),
        "flock" => Invocation::Flock(FlockArgs { called: COMMAND, words: words.collect() }),
        "unlock" => Invocation::Unlock(parse_only(words)?),
        "wait" => Invocation::Wait(parse_only(words)?),
        "status" => Invocation::Status(parse_only(words)?),
        "list" => Invocation::List(parse_only(words)?),
        "clean" => Invocation::Clean(parse_only(words)?),
        "path" => Invocation::Path(parse_only(words)?),
        "update" => Invocation::Update(parse_only(words)?),
        "write" => Invocation::Write(parse_only(words)?),
        "doctor" => Invocation::Doctor(parse_only(words)?),
        "metrics" => Invocation::Metrics(parse_only(words)?),
        "log" => Invocation::Log(parse_only(words)?),
        "reserve" => Invocation::Reserve(parse_only(words)?),
        "release" => Invocation::Release(parse_only(words)?),
        "exclude" => Invocation::Exclude(parse_only(words)?),
        "migrate" => Invocation::Migrate(parse_only(words)?),
        "run-once" => Invocation::RunOnce(parse_only(words)?),
        // The keeper defines the commands of `lease`, so it prints their help.
        "help" if words.next()? == "lease" => {
            Invocation::Lease(LeaseArgs { words: words.chain(["--help".into()]).collect() })
        }
        "lease" => Invocation::Lease(LeaseArgs { words: words.collect() }),
        _ => return None,
    })
}

fn parse_only<A: Args>(words: impl Iterator<Item = OsString>) -> Option<A> {
    let definition = allow_repeated_flags(A::augment_args(clap::Command::new("aba-lock").no_binary_name(true)));
    A::from_arg_matches(&definition.try_get_matches_from(words).ok()?).ok()
}

/// Returns the first number or time, such as `60` or `1m`, that follows one of the long options, or a word of short options that ends in one of
/// `letters`, such as `-qw`, and that option. The user may have meant it as a value.
pub(crate) fn find_number_after(long: &[&str], letters: &[char]) -> Option<(String, String)> {
    let mut previous = String::new();
    for word in os::words().skip(1).take_while(|word| word != "--") {
        let word = word.to_string_lossy().into_owned();
        let is_short = previous.starts_with('-') && !previous.starts_with("--") && previous.ends_with(letters);
        if is_time(&word) && (is_short || long.contains(&previous.as_str())) {
            return Some((previous, word));
        }
        previous = word;
    }
    None
}

/// Returns the descriptors of the calling script, one for each lock. Empty if there is none.
pub(crate) fn choose_descriptors(args: &LockArgs) -> &[i32] {
    if args.bind.is_empty() { &args.fd } else { &args.bind }
}

/// Returns true if the calling script holds the locks.
pub(crate) fn is_for_script(args: &LockArgs) -> bool {
    !choose_descriptors(args).is_empty() || args.await_open
}

pub(crate) fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for a word that is a time to wait for flock(1) or timeout(1), such as `60`, `0.5` or `1m`.
pub(crate) fn is_time(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && (is_number(word) || parse_span(word).is_some())
}
