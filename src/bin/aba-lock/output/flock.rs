//! The output of `flock`. Messages begin with `flock:`. The lines of `--verbose` that scripts may read are those of
//! flock(1).

use super::holder::{describe_holder, describe_lease, describe_processes, describe_unseen_holder};
use super::stream::{print, print_clap_answer, print_message_as};
use super::text::format_command;
use aba_lock::base::target::Target;
use aba_lock::base::text::format_io_error;
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::flock::arguments::FlockUsageError;
use aba_lock::lock::flock::lockable::FlockOperation;
use aba_lock::lock::holders::{self, LockState, ranges};
use aba_lock::os::Mode;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

fn print_message(text: &str) {
    print_message_as("flock", text, None);
}

/// Prints the help that clap makes from the definition.
pub(crate) fn print_help(definition: clap::Command) {
    if let Err(error) = definition.no_binary_name(true).try_get_matches_from(["-h"]) {
        print_clap_answer(&error);
    }
}

/// Prints the version in the form of flock(1).
pub(crate) fn print_version() {
    print(concat!("flock from aba-lock ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// Reports a command line that cannot be parsed.
pub(crate) fn print_misuse(error: &FlockUsageError, called: &str) {
    print_message_as("flock", &error.to_string(), Some(&format!("see `{called} --help`")));
}

/// Reports that the time of `-w` is too long for a timer.
pub(crate) fn report_no_timer() {
    print_message("cannot set up timer: the time is out of range");
}

/// Reports that the file could not be opened or locked.
pub(crate) fn print_error(error: &Error) {
    print_message(&match error {
        Error::Lock(LockError::Open { path, source, .. }) => {
            format!("cannot open lock file {}: {}", path.display(), format_io_error(source))
        }
        Error::Lock(LockError::Lock { path, source }) => format!("{}: {}", path.display(), format_io_error(source)),
        Error::Lock(LockError::BadDescriptor { fd }) => format!("{fd}: Bad file descriptor"),
        other => other.to_string(),
    });
}

/// Reports that the command could not be run.
pub(crate) fn report_not_run(command: &OsStr, error: &io::Error) {
    let command = format_command(&command.to_string_lossy());
    print_message(&format!("failed to execute {command}: {}", format_io_error(error)));
}

/// Prints for `--verbose` how long it took to lock or release the file.
pub(crate) fn print_locked(took: Duration) {
    print(&format!("flock: getting lock took {:.6} seconds\n", took.as_secs_f64()));
}

/// Prints for `--verbose` the command that is run.
pub(crate) fn print_executing(command: &OsStr) {
    print(&format!("flock: executing {}\n", command.display()));
}

/// Reports for `--verbose` that this process waits for another.
pub(crate) fn report_wait(target: &Target, operation: FlockOperation) {
    print_message(&format!("waiting for {}, held by {}", target.label, describe_other(target, operation)));
}

/// Reports for `--verbose` that another process holds the lock, and that this process does not wait, or has given up.
pub(crate) fn report_contention(error: &Error, target: &Target, operation: FlockOperation) {
    let what = match error {
        Error::Lock(LockError::TimedOut { .. }) => "timeout while waiting to get lock",
        _ => "failed to get lock",
    };
    print_message(what);
    if let Some(lease) = holders::find_lease(&target.path) {
        return print_message(&format!("{} cannot be opened: {}", target.label, describe_lease(&lease)));
    }
    print_message(&format!("{} is held by {}", target.label, describe_other(target, operation)));
}

fn describe_other(target: &Target, operation: FlockOperation) -> String {
    if let Some(range) = operation.range {
        let mode = operation.mode.unwrap_or(Mode::Exclusive);
        let holding = ranges::find_conflicting_range(&target.path, mode, range.start, range.len);
        return match holding {
            Some(holding) if !holding.holders.is_empty() => describe_processes(&holding.holders),
            Some(_) => "a process that cannot be seen from here".to_owned(),
            None => "a process that has released it since".to_owned(),
        };
    }
    let state: LockState = holders::observe_lock(&target.path);
    state.holding.as_ref().map_or_else(|| describe_unseen_holder(&state), describe_holder)
}
