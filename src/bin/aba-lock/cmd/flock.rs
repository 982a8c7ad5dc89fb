//! `aba-lock flock`, and the helper when it is called `flock`.
//!
//! The command runs as a child that inherits the lock, as with flock(1), and this process waits for it. Becoming the command would
//! be cheaper, but a command that closes its descriptors (`ssh`, `sudo`, a script with `exec 3>log` if the lock is on descriptor
//! 3) would release the lock while it works, and which commands do so is not known in advance. So only `--no-fork` does that.

use crate::args::Cli;
use crate::args::flock::format_usage;
use crate::exit::flock as exit;
use crate::output::flock as output;
use aba_lock::base::environment::shell;
use aba_lock::base::target::{Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::flock::arguments::{self, Asked, Command, Flock, On};
use aba_lock::lock::flock::lockable::{Lockable, Way};
use aba_lock::lock::flock::numbers::Timeout;
use aba_lock::lock::inherit;
use aba_lock::os;
use clap::CommandFactory;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn run(args: crate::args::flock::FlockArgs) -> Result<i32, Error> {
    match arguments::parse(args.words) {
        Ok(Asked::Help) => output::print_help(build_definition(args.called)),
        Ok(Asked::Version) => output::print_version(),
        Ok(Asked::Lock(flock)) => return lock_file(*flock),
        Err(misused) => {
            output::print_misuse(&misused, args.called);
            return Ok(exit::USAGE);
        }
    }
    Ok(exit::DONE)
}

/// Returns the definition of clap, with the name by which the user called it.
fn build_definition(called: &'static str) -> clap::Command {
    let all = Cli::command();
    let own = all.find_subcommand("flock").cloned().unwrap_or_default();
    own.bin_name(called).override_usage(format_usage(called))
}

fn lock_file(flock: Flock) -> Result<i32, Error> {
    let way = Way { mode: flock.options.mode, wait: choose_wait(&flock), range: flock.range };
    let impossible = flock.options.timeout == Some(Timeout::Impossible);
    let opened = match &flock.on {
        On::Descriptor(_) if impossible => return Ok(fail_without_timer()),
        On::File(name) => Lockable::open(Path::new(name), way),
        On::Descriptor(fd) => Lockable::descriptor(*fd, way),
    };
    let mut lockable = match opened {
        // As with flock(1), the file has been created by now.
        Ok(_) if impossible => return Ok(fail_without_timer()),
        Ok(lockable) => lockable,
        Err(error) => return Ok(report_error(&error.into())),
    };
    let target = flock.options.verbose.then(|| Target { label: lockable.label(), ..Target::file(&lockable.path()) });
    let started = Instant::now();
    let mut waits = target.as_ref().map(|target| || output::report_wait(target, way));
    let done = lockable.lock(waits.as_mut().map(|waits| waits as &mut dyn FnMut())).map_err(Error::from);
    match (done, &target) {
        (Ok(()), target) => {
            if target.is_some() {
                output::print_locked(started.elapsed());
            }
            run_command(flock, &lockable)
        }
        (Err(error @ Error::Lock(LockError::Busy { .. } | LockError::TimedOut { .. })), target) => {
            if let Some(target) = target {
                output::report_contention(&error, target, way);
            }
            Ok(i32::from(flock.options.conflict))
        }
        (Err(error), _) => Ok(report_error(&error)),
    }
}

fn choose_wait(flock: &Flock) -> Wait {
    match flock.options.timeout {
        _ if flock.options.nonblock => Wait::No,
        Some(Timeout::After(Duration::ZERO)) => Wait::No,
        Some(Timeout::After(limit)) => Wait::For(limit),
        Some(Timeout::Impossible) | None => Wait::Forever,
    }
}

/// Runs the command, if there is one. Otherwise the lock stays on the descriptor of the caller.
fn run_command(flock: Flock, lockable: &Lockable) -> Result<i32, Error> {
    let words = match flock.command {
        None => return Ok(exit::DONE),
        Some(Command::Words(words)) => words,
        Some(Command::Shell(text)) => vec![shell(), "-c".into(), text],
    };
    if flock.options.verbose {
        output::print_executing(&words[0]);
    }
    let not_run = |error: &io::Error| {
        output::report_not_run(&words[0], error);
        Ok(exit::status_for_command(error))
    };
    if let Err(error) = lockable.hand_down(!flock.options.close) {
        return Ok(report_error(&error.into()));
    }
    let command = match os::Command::new(&words, &[]) {
        Ok(command) => command,
        Err(error) => return not_run(&error),
    };
    if flock.options.no_fork {
        return not_run(&command.exec_as_parent());
    }
    // A child without the lock is killed when this process is killed, because that releases the lock.
    let mut child = match command.spawn(flock.options.close) {
        Ok(child) => child,
        Err(error) => return not_run(&error),
    };
    let status = child.wait();
    Ok(inherit::check_child_status(&child, status)?)
}

fn fail_without_timer() -> i32 {
    output::report_no_timer();
    exit::SYSTEM
}

fn report_error(error: &Error) -> i32 {
    output::print_error(error);
    exit::status_for_error(error)
}
