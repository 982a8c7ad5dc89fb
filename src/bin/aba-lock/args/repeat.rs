//! The rule for options that are given twice, and its part that clap does not apply by itself: flags may be repeated.
//!
//! An option with a value either collects all its values (a `Vec`) or is refused the second time, because using only
//! the last value would silently drop the first. A flag may be repeated, because that changes nothing.

use clap::{ArgAction, Command};

/// Lets every flag of `command`, and of its subcommands, be repeated.
pub(crate) fn allow_repeated_flags(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            let itself = arg.get_id().clone();
            arg.overrides_with(itself)
        } else {
            arg
        }
    });
    command.mut_subcommands(allow_repeated_flags)
}
