//! `aba-lock flock`, and the helper when it is called `flock`.
//!
//! The command runs as a child that inherits the lock, as with flock(1), and this process waits for it. Becoming the
//! command would be cheaper, but a command that closes its descriptors (`ssh`, `sudo`, a script with `exec 3>log` if
//! the lock is on descriptor 3) would release the lock while it works, and which commands do so is not known in
//! advance. So this process becomes the command only with `--no-fork`.

use crate::args::Cli;
use crate::args::flock::format_usage;
use crate::exit::flock as exit;
use crate::output::flock as output;
use aba_lock::base::environment::shell;
use aba_lock::base::target::{Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::flock::arguments::{self, FlockArguments, FlockCall, FlockCommand, FlockTarget};
use aba_lock::lock::flock::lockable::{FlockOperation, Lockable};
use aba_lock::lock::flock::numbers::Timeout;
use aba_lock::lock::inherit;
use aba_lock::os;
use clap::CommandFactory;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn run(args: crate::args::flock::FlockArgs) -> Result<i32, Error> {
    match arguments::parse(args.words) {
        Ok(FlockArguments::Help) => output::print_help(build_definition(args.called)),
        Ok(FlockArguments::Version) => output::print_version(),
        Ok(FlockArguments::Lock(call)) => return lock_file(*call),
        Err(error) => {
            output::print_misuse(&error, args.called);
            return Ok(exit::USAGE);
        }
    }
    Ok(exit::DONE)
}

/// Returns the definition of `flock` for clap, with the name by which the user called it.
fn build_definition(called: &'static str) -> clap::Command {
    let all = Cli::command();
    let own = all.find_subcommand("flock").cloned().unwrap_or_default();
    own.bin_name(called).override_usage(format_usage(called))
}

fn lock_file(call: FlockCall) -> Result<i32, Error> {
    let operation = FlockOperation { mode: call.options.mode, wait: choose_wait(&call), range: call.range };
    let impossible = call.options.timeout == Some(Timeout::Impossible);
    let opened = match &call.target {
        FlockTarget::Descriptor(_) if impossible => return Ok(fail_without_timer()),
        FlockTarget::File(name) => Lockable::open(Path::new(name), operation),
        FlockTarget::Descriptor(fd) => Lockable::from_descriptor(*fd, operation),
    };
    let mut lockable = match opened {
        // As with flock(1), the file has been created by now.
        Ok(_) if impossible => return Ok(fail_without_timer()),
        Ok(lockable) => lockable,
        Err(error @ (LockError::Busy { .. } | LockError::TimedOut { .. })) => {
            if let (true, FlockTarget::File(name)) = (call.options.verbose, &call.target) {
                output::report_contention(&error.into(), &Target::file(Path::new(name)), operation);
            }
            return Ok(i32::from(call.options.conflict));
        }
        Err(error) => return Ok(report_error(&error.into())),
    };
    let target = call.options.verbose.then(|| Target { label: lockable.label(), ..Target::file(&lockable.path()) });
    let started = Instant::now();
    let mut waits = target.as_ref().map(|target| || output::report_wait(target, operation));
    let done = lockable.lock(waits.as_mut().map(|waits| waits as &mut dyn FnMut())).map_err(Error::from);
    match (done, &target) {
        (Ok(()), target) => {
            if target.is_some() {
                output::print_locked(started.elapsed());
            }
            run_command(call, &lockable)
        }
        (Err(error @ Error::Lock(LockError::Busy { .. } | LockError::TimedOut { .. })), target) => {
            if let Some(target) = target {
                output::report_contention(&error, target, operation);
            }
            Ok(i32::from(call.options.conflict))
        }
        (Err(error), _) => Ok(report_error(&error)),
    }
}

fn choose_wait(call: &FlockCall) -> Wait {
    match call.options.timeout {
        _ if call.options.nonblock => Wait::No,
        Some(Timeout::After(Duration::ZERO)) => Wait::No,
        Some(Timeout::After(limit)) => Wait::For(limit),
        Some(Timeout::Impossible) | None => Wait::Forever,
    }
}

/// Runs the command, if there is one. Otherwise the lock stays on the descriptor of the caller.
fn run_command(call: FlockCall, lockable: &Lockable) -> Result<i32, Error> {
    let words = match call.command {
        None => return Ok(exit::DONE),
        Some(FlockCommand::Words(words)) => words,
        Some(FlockCommand::Shell(text)) => vec![shell(), "-c".into(), text],
    };
    if call.options.verbose {
        output::print_executing(&words[0]);
    }
    let not_run = |error: &io::Error| {
        output::report_not_run(&words[0], error);
        Ok(exit::status_for_command(error))
    };
    if let Err(error) = lockable.set_inheritable(!call.options.close) {
        return Ok(report_error(&error.into()));
    }
    let command = match os::PreparedCommand::new(&words, &[]) {
        Ok(command) => command,
        Err(error) => return not_run(&error),
    };
    if call.options.no_fork {
        return not_run(&command.exec_as_parent());
    }
    // With --close, the child does not hold the lock. If this process is killed, the child is killed too, so that it
    // does not run without the lock.
    let mut child = match command.spawn(call.options.close) {
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
