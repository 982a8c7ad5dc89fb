//! What the helper says as `flock`: little, and by that name. With `--verbose` it is what scripts may read of flock(1), word
//! for word.

use super::{holder, people, plain, print, say, unseen, usage};
use aba_lock::base::target::Target;
use aba_lock::error::{self, Error};
use aba_lock::lock::flock::arguments::Misused;
use aba_lock::lock::flock::lockable::Way;
use aba_lock::lock::holders::{self, State, ranges};
use aba_lock::os::Mode;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

fn sentence(text: &str, hint: Option<&str>) {
    let hint = hint.map(|hint| format!("hint: {}\n", plain(hint))).unwrap_or_default();
    say(&format!("flock: {}\n{hint}", plain(text)));
}

/// The help, as clap makes it of the definition.
pub(crate) fn help(definition: clap::Command) {
    if let Err(error) = definition.no_binary_name(true).try_get_matches_from(["-h"]) {
        usage(&error);
    }
}

/// The version, as the original says its own.
pub(crate) fn version() {
    print(concat!("flock from aba-lock ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// The command line is none.
pub(crate) fn misused(misused: &Misused, called: &str) {
    sentence(&misused.to_string(), Some(&format!("see `{called} --help`")));
}

/// No timer can be set to what `-w` says.
pub(crate) fn no_timer() {
    sentence("cannot set up timer: the time is not one that can be waited for", None);
}

/// It could not be opened, or locked.
pub(crate) fn failure(error: &Error) {
    sentence(
        &match error {
            Error::Open { path, source, .. } => {
                format!("cannot open lock file {}: {}", path.display(), error::reason(source))
            }
            Error::Lock { path, source } => format!("{}: {}", path.display(), error::reason(source)),
            Error::BadDescriptor { fd } => format!("{fd}: Bad file descriptor"),
            other => other.to_string(),
        },
        None,
    );
}

/// The command did not run.
pub(crate) fn not_run(command: &OsStr, error: &io::Error) {
    sentence(
        &format!("failed to execute {}: {}", super::command(&command.to_string_lossy()), error::reason(error)),
        None,
    );
}

/// `--verbose`: it is had, or released.
pub(crate) fn locked(took: Duration) {
    print(&format!("flock: getting lock took {:.6} seconds\n", took.as_secs_f64()));
}

/// `--verbose`: what is run.
pub(crate) fn executing(command: &OsStr) {
    print(&format!("flock: executing {}\n", command.display()));
}

/// `--verbose`: another has it, and we wait.
pub(crate) fn waits(target: &Target, way: Way) {
    sentence(&format!("waiting for {}, held by {}", target.label, who(target, way)), None);
}

/// `--verbose`: another has it, and we do not wait, or not any longer.
pub(crate) fn contended(error: &Error, target: &Target, way: Way) {
    let what = match error {
        Error::TimedOut { .. } => "timeout while waiting to get lock",
        _ => "failed to get lock",
    };
    sentence(what, None);
    sentence(&format!("{} is held by {}", target.label, who(target, way)), None);
}

fn who(target: &Target, way: Way) -> String {
    if let Some(part) = way.range {
        let mode = way.mode.unwrap_or(Mode::Exclusive);
        let holding = ranges::in_the_way(&target.path, mode, part.start, part.len);
        return match holding {
            Some(holding) if !holding.holders.is_empty() => people(&holding.holders),
            Some(_) => "a process that cannot be seen from here".to_owned(),
            None => "a process that has let go since".to_owned(),
        };
    }
    let state: State = holders::of(&target.path);
    state.holding.as_ref().map_or_else(|| unseen(&state), holder)
}
