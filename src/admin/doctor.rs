//! The checks of `aba-lock doctor`: everything that a lock depends on is examined, and each check reports a
//! [`Finding`](finding::Finding), with a hint if something is wrong.
//!
//! The checks change nothing. They leave no file, and take no lock that another process could need: mutual exclusion is
//! tried on a new file that has no name, or a name only for a moment. If a check cannot be made, that is a finding,
//! too, and the next checks still run.
//!
//! Each finding is reported immediately. Checks that can hang, for example on a dead file server, come last, so that
//! the user sees what was checked before.
//!
//! Each file holds the checks of one subject. `root` calls `files`, `locking` and `mounts`; `proc` calls `mounts`.

mod builtin;
mod environment;
mod event_log;
mod files;
pub mod finding;
pub mod installed;
mod limits;
mod locking;
pub(crate) mod mounts;
mod proc;
mod root;

use finding::Report;
use installed::{BundledFiles, ShellLibrary};

/// Runs all checks.
pub fn examine_machine(bundled: &BundledFiles, library: ShellLibrary, report: Report) {
    installed::check_helpers(bundled, report);
    installed::check_library(bundled, library, report);
    builtin::check_builtin(bundled.version, library.path, report);
    installed::check_completions(bundled, report);
    environment::check_environment(report);
    limits::check_limits(report);
    proc::check_proc(report);
    root::check_root(report);
}
