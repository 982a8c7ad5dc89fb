//! The doctor: looks at everything that a lock depends on here, and says of each thing that it is fine, or what is wrong
//! and how to mend it.
//!
//! Looking changes nothing: it takes no lock that another could want, and makes no file that stays. Whether locks shut
//! out is tried on a file without a name. What cannot be looked at is a finding, too: no check ends the others.
//!
//! The findings are told one by one, in an order in which what can hang (a dead server) comes late: where it hangs,
//! the last line tells what came before.

mod environment;
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

/// Looks at everything, and tells of each finding at once.
pub fn examine_machine(bundled: &BundledFiles, library: ShellLibrary, report: Report) {
    installed::check_helpers(bundled, report);
    installed::check_library(bundled, library, report);
    installed::check_completions(bundled, report);
    environment::check_environment(report);
    limits::check_limits(report);
    proc::check_proc(report);
    root::check_root(report);
}
