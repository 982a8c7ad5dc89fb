//! The options of `doctor`, the meaning of its exit statuses, and the members of its JSON.

use clap::{Args, ValueHint};
use std::path::PathBuf;

pub(crate) const EXIT_STATUS: [(&str, &str); 3] =
    [("0", "nothing is wrong"), ("1", "something is wrong"), ("2", "wrong usage")];

/// The members of the object that `doctor --json` prints.
pub(crate) const JSON: [(&str, &str); 7] = [
    ("version", "of this helper"),
    ("wrong", "how many findings are wrong"),
    ("findings", "a list, each with:"),
    ("check", "what was looked at, such as locking or state root"),
    ("level", "fine, note (worth to know; locks work all the same) or wrong"),
    ("found", "a sentence"),
    ("hint", "how to mend it, or null"),
];

/// Look at all that locks depend on here, and say what is wrong and how to mend it
///
/// Helper, shell library and completions, and whether they are of one version; variables and limits; /proc and inotify;
/// the state root, its file system and room; whether locks shut out there, between two opens and between two processes;
/// lock files and tasks. Each finding is fine, a note (worth to know; locks work all the same), or wrong. Nothing is
/// changed, no lock that another could want is taken, and no file is left. In a script or a shell that has the shell
/// library, `aba_lock_doctor` asks with what that uses.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Look also at this copy of the shell library
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) library: Option<PathBuf>,

    /// The calling script has sourced this version of the shell library
    #[arg(long, value_name = "VERSION")]
    pub(crate) sourced: Option<String>,
}
