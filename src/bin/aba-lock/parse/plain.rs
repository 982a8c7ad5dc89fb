//! The plain forms of what scripts call most: read word by word, as clap would read them.
//!
//! To define the options of one command takes clap several times as long as to lock. So the forms that are plain are read
//! here: each option a word of its own, its value the next, at most once, and none that changes or excludes another. All
//! else is `None`, and clap's to answer: what is wrong, what is abbreviated, what is rare. That both read alike what is
//! read here is held by a test (`tests/cli/plain_parser.rs`).

use crate::args::lock::{LockArgs, UnlockArgs};
use crate::args::run_once::RunOnceArgs;
use crate::args::value::parse_seconds;
use std::ffi::OsString;
use std::time::Duration;

/// `aba-lock lock`.
pub(crate) fn lock(mut words: impl Iterator<Item = OsString>) -> Option<LockArgs> {
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
            "--fd" => lock.fd.push(descriptor(&mut words)?),
            "-t" | "--timeout" if lock.timeout.is_none() => {
                lock.timeout = Some(parse_seconds(&value(&mut words)?).ok()?);
            }
            "--who" if lock.who.is_none() => lock.who = Some(value(&mut words)?),
            "-n" | "--nonblock" => once(&mut lock.nonblock)?,
            "-w" | "--wait" if lock.wait.is_none() => lock.wait = Some(None),
            "-s" | "--shared" => once(&mut lock.shared)?,
            "-x" | "--exclusive" => once(&mut lock.exclusive)?,
            "-o" | "--no-inherit" => once(&mut lock.no_inherit)?,
            "-q" | "--quiet" => once(&mut lock.quiet)?,
            "-v" | "--verbose" => once(&mut lock.verbose)?,
            "--reopen" => once(&mut lock.reopen)?,
            "--try-first" => once(&mut lock.try_first)?,
            option if lock.wait.is_none() && limit_of_wait(option).is_some() => lock.wait = Some(limit_of_wait(option)),
            option if option.starts_with('-') => return None,
            name => lock.names.push(name.to_owned()),
        }
    }
    let on_descriptor = !lock.fd.is_empty();
    let plain = !lock.names.is_empty()
        && on_descriptor == lock.command.is_empty()
        && u8::from(lock.nonblock) + u8::from(lock.wait.is_some()) + u8::from(lock.timeout.is_some()) <= 1
        && !(lock.shared && lock.exclusive)
        && !(lock.quiet && lock.verbose)
        && !(on_descriptor && lock.no_inherit)
        && (on_descriptor || !(lock.reopen || lock.try_first));
    plain.then_some(lock)
}

/// `aba-lock run-once`, of one task.
pub(crate) fn run_once(mut words: impl Iterator<Item = OsString>) -> Option<RunOnceArgs> {
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
                task.id = Some(value(&mut words)?);
                continue;
            }
            "-t" | "--ttl" if task.ttl.is_none() => {
                task.ttl = Some(parse_seconds(&value(&mut words)?).ok()?);
                continue;
            }
            "-W" | "--timeout" if task.timeout.is_none() => {
                task.timeout = Some(parse_seconds(&value(&mut words)?).ok()?);
                continue;
            }
            "-q" | "--quiet" => {
                once(&mut task.quiet)?;
                continue;
            }
            "-s" | "--start" => &mut task.start,
            "-w" | "--wait" => &mut task.wait,
            "-p" | "--peek" => &mut task.peek,
            "-A" | "--active" => &mut task.active,
            "-R" | "--running" => &mut task.running,
            "-o" | "--stdout" => &mut task.stdout,
            "-e" | "--stderr" => &mut task.stderr,
            "-E" | "--exit-status" => &mut task.exit_status,
            "-r" | "--reset" => &mut task.reset,
            _ => return None,
        };
        *mode = true;
        modes += 1;
    }
    (task.id.is_some() && modes <= 1).then_some(task)
}

/// `aba-lock unlock`, as scripts release.
pub(crate) fn unlock(mut words: impl Iterator<Item = OsString>) -> Option<UnlockArgs> {
    if words.next()? != "--fd" {
        return None;
    }
    let fd = Some(descriptor(&mut words)?);
    let name = if let Some(name) = words.next() { Some(text(name)?) } else { None };
    let plain = words.next().is_none();
    plain.then_some(UnlockArgs { name, fd, ..UnlockArgs::default() })
}

/// The seconds of `--wait=SECONDS` or `-w=SECONDS`.
fn limit_of_wait(option: &str) -> Option<Duration> {
    let value = option.strip_prefix("--wait=").or_else(|| option.strip_prefix("-w="))?;
    parse_seconds(value).ok()
}

fn descriptor(words: &mut impl Iterator<Item = OsString>) -> Option<i32> {
    value(words)?.parse().ok().filter(|fd| *fd >= 0)
}

fn value(words: &mut impl Iterator<Item = OsString>) -> Option<String> {
    text(words.next()?)
}

fn text(word: OsString) -> Option<String> {
    word.into_string().ok().filter(|word| !word.starts_with('-'))
}

fn once(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}
