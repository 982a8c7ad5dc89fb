//! A parser for the common calls of scripts, which is faster than clap: clap takes several times as long to define the
//! options of one command as the lock takes.
//!
//! It only accepts plain command lines: each option is one word, its value is in the same word or the next one, no option
//! is repeated, and none changes or excludes another. For all others, such as those with errors, abbreviations or rare options, the
//! parser returns `None`, and clap parses them. A test (`tests/cli/plain_parser.rs`) checks that clap parses each
//! accepted command line to the same result.

use crate::args::lock::{LockArgs, UnlockArgs};
use crate::args::run_once::RunOnceArgs;
use crate::args::status::StatusArgs;
use aba_lock::base::duration::parse_span;
use std::ffi::OsString;

/// Parses the arguments of `aba-lock lock`.
pub(crate) fn parse_lock(mut words: impl Iterator<Item = OsString>) -> Option<LockArgs> {
    let mut lock = LockArgs::default();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--" => {
                lock.command = words.collect();
                if lock.command.is_empty() {
                    return None;
                }
                break;
            }
            "--fd" => lock.fd.push(parse_descriptor(&read_value(&mut words)?)?),
            "-t" | "--timeout" if lock.timeout.is_none() => {
                lock.timeout = Some(parse_span(&read_value(&mut words)?)?);
            }
            "--who" if lock.who.is_none() => lock.who = Some(read_value(&mut words)?),
            "-n" | "--nonblock" => set_once(&mut lock.nonblock)?,
            "-w" | "--wait" if lock.wait.is_none() => lock.wait = Some(None),
            "-s" | "--shared" => set_once(&mut lock.shared)?,
            "-x" | "--exclusive" => set_once(&mut lock.exclusive)?,
            "-o" | "--no-inherit" => set_once(&mut lock.no_inherit)?,
            "-q" | "--quiet" => set_once(&mut lock.quiet)?,
            "-v" | "--verbose" => set_once(&mut lock.verbose)?,
            "--reopen" => set_once(&mut lock.reopen)?,
            "--try-first" => set_once(&mut lock.try_first)?,
            "--heed-keyboard" => set_once(&mut lock.heed_keyboard)?,
            option if option.starts_with('-') => set_lock_value(&mut lock, option)?,
            name => lock.names.push(name.to_owned()),
        }
    }
    let on_descriptor = !(lock.fd.is_empty() && lock.bind.is_empty());
    let plain = !lock.names.is_empty()
        && on_descriptor == lock.command.is_empty()
        && u8::from(lock.nonblock) + u8::from(lock.wait.is_some()) + u8::from(lock.timeout.is_some()) <= 1
        && !(lock.shared && lock.exclusive)
        && !(lock.quiet && lock.verbose)
        && (lock.fd.is_empty() || (lock.bind.is_empty() && !lock.no_inherit))
        && (on_descriptor || !(lock.reopen || lock.try_first || lock.heed_keyboard || lock.waited.is_some()));
    plain.then_some(lock)
}

/// Sets an option of `lock` whose value is in the same word, such as `--fd=200`, or several flags, such as `-qw`.
fn set_lock_value(lock: &mut LockArgs, word: &str) -> Option<()> {
    let (option, value) = match word.split_once('=') {
        Some(parts) => parts,
        // `-t5` is `-t=5`.
        None => match word.split_at_checked(2) {
            Some((option @ "-t", value)) => (option, value),
            _ => return set_lock_flags(lock, word.strip_prefix('-').filter(|letters| !letters.is_empty())?),
        },
    };
    match option {
        "--fd" => lock.fd.push(parse_descriptor(value)?),
        "--bind" => lock.bind.push(parse_descriptor(value).filter(|fd| *fd > 2)?),
        "-w" | "--wait" if lock.wait.is_none() => lock.wait = Some(Some(parse_span(value)?)),
        "-t" | "--timeout" if lock.timeout.is_none() => lock.timeout = Some(parse_span(value)?),
        "--waited" if lock.waited.is_none() => lock.waited = Some(parse_span(value)?),
        "--who" if lock.who.is_none() => lock.who = Some(value.to_owned()),
        _ => return None,
    }
    Some(())
}

/// Sets several flags of `lock` whose letters are in one word. `w` can have a value, so it must be the last one.
fn set_lock_flags(lock: &mut LockArgs, letters: &str) -> Option<()> {
    for (at, letter) in letters.char_indices() {
        match letter {
            'n' => set_once(&mut lock.nonblock)?,
            's' => set_once(&mut lock.shared)?,
            'x' => set_once(&mut lock.exclusive)?,
            'o' => set_once(&mut lock.no_inherit)?,
            'q' => set_once(&mut lock.quiet)?,
            'v' => set_once(&mut lock.verbose)?,
            'w' if at + 1 == letters.len() && lock.wait.is_none() => lock.wait = Some(None),
            _ => return None,
        }
    }
    Some(())
}

/// Parses the arguments of `aba-lock run-once` for one task. Accepts `--timeout` only after `--wait`, and no `--ttl` with a mode
/// that ignores it: `effect` examines all other calls.
pub(crate) fn parse_run_once(mut words: impl Iterator<Item = OsString>) -> Option<RunOnceArgs> {
    let mut task = RunOnceArgs::default();
    let mut modes = 0;
    while let Some(word) = words.next() {
        let mode = match word.to_str()? {
            "--" => {
                task.command = words.collect();
                if task.command.is_empty() {
                    return None;
                }
                break;
            }
            "-i" | "--id" if task.id.is_none() => {
                task.id = Some(read_value(&mut words)?);
                continue;
            }
            "-t" | "--ttl" if task.ttl.is_none() && !(task.stdout || task.stderr || task.reset) => {
                task.ttl = Some(parse_span(&read_value(&mut words)?)?);
                continue;
            }
            "-W" | "--timeout" if task.timeout.is_none() && task.wait => {
                task.timeout = Some(parse_span(&read_value(&mut words)?)?);
                continue;
            }
            "-q" | "--quiet" => {
                set_once(&mut task.quiet)?;
                continue;
            }
            "-s" | "--start" => &mut task.start,
            "-w" | "--wait" => &mut task.wait,
            "-p" | "--peek" => &mut task.peek,
            "-A" | "--active" => &mut task.active,
            "-R" | "--running" => &mut task.running,
            "-o" | "--stdout" if task.ttl.is_none() => &mut task.stdout,
            "-e" | "--stderr" if task.ttl.is_none() => &mut task.stderr,
            "-E" | "--exit-status" => &mut task.exit_status,
            "-r" | "--reset" if task.ttl.is_none() => &mut task.reset,
            _ => return None,
        };
        *mode = true;
        modes += 1;
    }
    (task.id.is_some() && modes <= 1).then_some(task)
}

/// Parses the arguments of `aba-lock unlock --fd`.
pub(crate) fn parse_unlock(mut words: impl Iterator<Item = OsString>) -> Option<UnlockArgs> {
    let fd = Some(parse_first_descriptor(&mut words)?);
    let name = if let Some(name) = words.next() { Some(check_value(name)?) } else { None };
    let plain = words.next().is_none();
    plain.then_some(UnlockArgs { name, fd, ..UnlockArgs::default() })
}

/// Parses the arguments of `aba-lock status` for a name.
pub(crate) fn parse_status(mut words: impl Iterator<Item = OsString>) -> Option<StatusArgs> {
    let mut status = StatusArgs::default();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "-q" | "--quiet" => set_once(&mut status.quiet)?,
            "--json" => set_once(&mut status.json)?,
            "--lease" => set_once(&mut status.lease)?,
            "--fd" if status.fd.is_none() => status.fd = Some(parse_descriptor(&read_value(&mut words)?)?),
            option if option.starts_with('-') => {
                let fd = option.strip_prefix("--fd=").filter(|_| status.fd.is_none())?;
                status.fd = Some(parse_descriptor(fd)?);
            }
            name if status.name.is_none() => status.name = Some(name.to_owned()),
            _ => return None,
        }
    }
    let on_descriptor = status.fd.is_some();
    let plain =
        status.name.is_some() && !(status.json && (status.quiet || on_descriptor)) && (on_descriptor || !status.lease);
    plain.then_some(status)
}

/// Parses `--fd N` or `--fd=N` at the beginning of the words.
fn parse_first_descriptor(words: &mut impl Iterator<Item = OsString>) -> Option<i32> {
    let first = words.next()?.into_string().ok()?;
    match first.strip_prefix("--fd")? {
        "" => parse_descriptor(&read_value(words)?),
        value => parse_descriptor(value.strip_prefix('=')?),
    }
}

fn parse_descriptor(value: &str) -> Option<i32> {
    value.parse().ok().filter(|fd| *fd >= 0)
}

fn read_value(words: &mut impl Iterator<Item = OsString>) -> Option<String> {
    check_value(words.next()?)
}

fn check_value(word: OsString) -> Option<String> {
    word.into_string().ok().filter(|word| !word.starts_with('-'))
}

fn set_once(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}
