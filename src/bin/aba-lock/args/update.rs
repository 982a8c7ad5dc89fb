//! The options of `update` and `write`, and the meaning of their exit statuses.

use super::value::parse_seconds;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "changed, or there was nothing to change"),
    (
        "1",
        "refused: the new content is empty, or --check did not accept it, or the file, its path or its lock was changed \
         during the update",
    ),
    ("2", "wrong usage"),
    ("75", "another process updates it (-n), or that update waits for this one (a deadlock)"),
    ("124", "timed out waiting (-t)"),
    ("125", "it cannot be read or written; it is unchanged"),
    ("126, 127", "the command, or that of --check, cannot be run (126) or was not found (127)"),
    (
        "128+n",
        "the command, or aba-lock, got signal n; the file is unchanged, unless the signal came while it was replaced",
    ),
    ("other", "the command's own; aba-lock did not change the file"),
];

/// Change a file through a command, so that no writer loses what another wrote
///
/// CMD gets the old content on its input and prints the new one; with --in-place it edits a private copy. The lock,
/// FILE.lock next to FILE, is held from the read to the rename; readers need none, and never see half of it. If CMD fails, FILE
/// is not replaced, and CMD's status is the exit status.
///
/// Links are followed, and the lock is next to the file to which they lead. Mode, owner, access control list and extended
/// attributes are kept. But if you may write to FILE and may not change its owner, such as a member of its group, you own FILE
/// afterwards, as with an editor. Other hard links keep the old content. If the new content is the old one, nothing is written.
///
/// CMD must not write to FILE itself. If it does, or if another process that does not use the lock does, FILE stays as that
/// process left it (status 1). If FILE was truncated (`sed s/a/b/ f >f`), its old content, up to 1 MiB, is saved as
/// FILE.saved.
#[derive(Debug, Args)]
#[command(override_usage = "aba-lock update [OPTIONS] FILE [--] CMD [ARG]...\n       \
                            aba-lock update [OPTIONS] --in-place FILE [--] CMD [ARG]... {} [ARG]...")]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) how: Rewrite,

    /// CMD edits a private copy, whose path takes the place of {} in its words (in text for a shell, use `"$ABA_COPY"`)
    #[arg(short, long)]
    pub(crate) in_place: bool,

    /// This bash runs CMD if it is a function that was exported to it
    #[arg(long, value_name = "BASH", value_hint = ValueHint::ExecutablePath)]
    pub(crate) shell: Option<OsString>,

    /// With --shell: BASH first runs the script on this descriptor, which describes another shell; CMD may be a function of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..), requires = "shell", hide = true)]
    pub(crate) state: Option<i32>,

    /// The command that makes the new content
    #[arg(index = 2, trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    #[arg(value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Replace the content of a file by standard input, all of it or nothing
///
/// The lock, FILE.lock next to FILE, is held while the input is read. Links, attributes and changes by other processes are
/// handled as by `aba-lock update`.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) how: Rewrite,
}

/// The common options of `update` and `write`.
#[derive(Debug, Args)]
pub(crate) struct Rewrite {
    /// The file
    #[arg(index = 1, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Refuse the new content unless this command accepts it, such as 'jq empty': sh runs it, with the new content on its input
    /// and in the file `$1`. If repeated, the commands run in their order, and each must accept it
    #[arg(long, value_name = "CMD")]
    pub(crate) check: Vec<String>,

    /// Create FILE if it does not exist
    #[arg(long)]
    pub(crate) create: bool,

    /// Keep the old content in FILE followed by SUFFIX [default: ~]
    #[arg(long, value_name = "SUFFIX", num_args = 0..=1, require_equals = true, default_missing_value = "~")]
    pub(crate) backup: Option<String>,

    /// Print the changes, as `diff -u` does
    #[arg(long)]
    pub(crate) diff: bool,

    /// Do everything except the replacement of FILE
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Accept empty new content
    #[arg(long)]
    pub(crate) allow_empty: bool,

    /// Fail at once if another process updates FILE
    #[arg(short = 'n', long, overrides_with = "timeout")]
    pub(crate) nonblock: bool,

    /// Wait for at most SECONDS (fractions are allowed) [default: until it is free]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,

    /// Print no messages about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whether FILE was changed
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}
