//! The options of `doctor`, the meaning of its exit statuses, and the members of its JSON.

use super::value::colour_choice;
use aba_lock::base::environment::ColourChoice;
use clap::{Args, ValueHint};
use std::path::PathBuf;

pub(crate) const EXIT_STATUS: [(&str, &str); 3] =
    [("0", "no problem was found"), ("1", "at least one problem was found"), ("2", "wrong usage")];

/// The members of the object that `doctor --json` prints.
pub(crate) const JSON: [(&str, &str); 7] = [
    ("version", "the version of this helper"),
    ("wrong", "the number of findings with the level `wrong`"),
    ("findings", "a list of objects, each with:"),
    ("check", "the subject of the check, such as locking or state root"),
    ("level", "fine, note (worth knowing; locks work all the same) or wrong"),
    ("found", "the result, as a sentence"),
    ("hint", "how to fix the problem, or null"),
];

/// Check that locks work on this machine, and explain how to fix problems
///
/// The checks cover: the helper, the shell library and the completions, and whether their versions match; variables of the
/// environment and resource limits; /proc and inotify; the state root, its file system and its free space; whether a lock there
/// excludes another open file and another process; the lock files and the tasks.
///
/// Each finding is fine, a note (worth knowing; locks work all the same) or wrong. The command changes nothing, acquires no
/// lock that another process could want, and leaves no new files. In a script or a shell that has sourced the shell library,
/// `aba_lock_doctor` runs the same checks for the helper and the library that it uses.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the findings as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Also check this copy of the shell library
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) library: Option<PathBuf>,

    /// The version of the shell library that the calling script has sourced
    #[arg(long, value_name = "VERSION")]
    pub(crate) sourced: Option<String>,

    /// Check the directory of the locks that all users of this machine share
    #[arg(long)]
    pub(crate) system: bool,

    /// Use colours: auto (on a terminal, if the environment agrees), always or never [default: auto]
    #[arg(long, alias = "colour", value_name = "WHEN", value_parser = colour_choice(), hide_possible_values = true)]
    pub(crate) color: Option<ColourChoice>,
}
