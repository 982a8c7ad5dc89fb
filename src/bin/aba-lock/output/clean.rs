//! The output of `clean`.

use super::holder::{describe_holder, describe_last_taker};
use super::stream::{print, print_error};
use super::text::{describe_file_type, escape_controls};
use aba_lock::base::duration::format_span;
use aba_lock::base::names::LockName;
use aba_lock::base::text::format_io_error;
use aba_lock::error::Error;
use aba_lock::lock::clean::{Fate, KeepReason};

/// Prints the fate of each lock file, task or pid file, and counts them.
#[derive(Debug)]
pub(crate) struct CleanReport {
    dry_run: bool,
    quiet: bool,
    removed: u32,
    left: u32,
    failed: u32,
    /// The locks of all users, if they are not cleaned although the user has chosen no scope.
    system_locks: Vec<LockName>,
}

impl CleanReport {
    pub(crate) fn new(dry_run: bool, quiet: bool) -> Self {
        Self { dry_run, quiet, removed: 0, left: 0, failed: 0, system_locks: Vec::new() }
    }

    /// Makes the report say that these locks of all users are not cleaned.
    pub(crate) fn with_system_locks(self, system_locks: Vec<LockName>) -> Self {
        Self { system_locks, ..self }
    }

    /// Prints the fate of one item. `what` is its kind.
    pub(crate) fn report_item(&mut self, what: &str, name: &str, fate: Fate<impl Into<Error>>) {
        let line = match fate {
            Fate::Removed => {
                self.removed += 1;
                let would = if self.dry_run { "would remove" } else { "removed" };
                format!("{would} {what} {name}\n")
            }
            Fate::Depends => {
                self.removed += 1;
                format!(
                    "would remove {what} {name}, unless another process holds it; holders cannot be seen from here\n"
                )
            }
            Fate::Left(why) => {
                self.left += 1;
                let would = if self.dry_run { "would leave" } else { "left" };
                let is_of_system =
                    matches!(why, KeepReason::Missing) && self.system_locks.iter().any(|lock| lock.as_str() == name);
                let elsewhere =
                    if is_of_system { " in the scope user; add --system for that of all users" } else { "" };
                format!("{would} {what} {name}: {}{elsewhere}\n", describe_reason(&why))
            }
            Fate::Failed(error) => {
                self.failed += 1;
                return print_error(&error.into());
            }
        };
        if !self.quiet {
            print(&line);
        }
    }

    /// Prints the counts. Returns true if nothing failed.
    pub(crate) fn print_summary(&self) -> bool {
        if !self.quiet {
            let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
            let (removed, left) = if self.dry_run { ("to remove", "to leave") } else { ("removed", "left") };
            let scope = if self.system_locks.is_empty() {
                ""
            } else {
                " (scope user; for the locks of all users, add --system)"
            };
            print(&format!("{} {removed}, {} {left}{failed}{scope}\n", self.removed, self.left));
        }
        self.failed == 0
    }
}

fn describe_reason(why: &KeepReason) -> String {
    match why {
        KeepReason::Missing => "it does not exist".to_owned(),
        KeepReason::Held(holding) => format!("held by {}", describe_holder(holding)),
        KeepReason::MayBeHeld(record, belief) => {
            format!("{}; that process may still hold it", describe_last_taker(record, *belief))
        }
        KeepReason::Open => "another process has it open".to_owned(),
        KeepReason::TooNew(age) => format!("it was used {} ago", format_span(*age)),
        KeepReason::RunOwed => "it owes a run to calls with --coalesce".to_owned(),
        KeepReason::ForeignData => "it has content that aba-lock did not write".to_owned(),
        KeepReason::OtherUser(owner) => format!("it belongs to {}", escape_controls(owner)),
        KeepReason::NotRegular(kind) => describe_file_type(kind),
        KeepReason::Replaced => "another file has replaced it".to_owned(),
        KeepReason::OpenUnknown(error) => {
            format!("cannot determine whether another process has it open: {}", format_io_error(error))
        }
        KeepReason::ProcessUnknown => "/proc does not show the processes of this pid namespace".to_owned(),
        KeepReason::Running(pid) => format!("it is running, pid {pid}"),
        KeepReason::Interrupted => "it was interrupted, and the next start or wait runs it again".to_owned(),
        KeepReason::Unfinished => "it has no result".to_owned(),
        KeepReason::TaskBusy => "another process holds its lock".to_owned(),
        KeepReason::ForeignFiles => "its directory has files that run-once did not write".to_owned(),
    }
}
