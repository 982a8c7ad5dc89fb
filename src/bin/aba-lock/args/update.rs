//! The options of `update` and `write`, and the meaning of their exit statuses.

use super::value::parse_span;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "the file was changed, or there was nothing to change"),
    (
        "1",
        "refused: the new content is empty, or --check did not accept it, or another process changed the file, its \
         path or its lock during the update",
    ),
    ("2", "wrong usage"),
    ("75", "another process updates the file (-n), or waiting for that update would be a deadlock"),
    ("124", "timed out while waiting (-t)"),
    ("125", "the file cannot be read or written; it is unchanged"),
    ("126, 127", "CMD, or the command of --check, cannot be run (126) or was not found (127)"),
    (
        "128+n",
        "signal n ended CMD or aba-lock; the file is unchanged, unless the signal arrived while it was being replaced",
    ),
    ("other", "the exit status of CMD; aba-lock did not change the file"),
];

/// Change a file with a command, without losing the changes of other writers
///
/// CMD reads the old content from standard input and prints the new content. With --in-place it edits a private copy instead.
/// The lock, FILE.lock next to FILE, is held from reading the file until it is replaced by a rename. Readers need no lock, and
/// never see a half-written file. If CMD fails, FILE is not replaced, and aba-lock exits with the status of CMD.
///
/// CMD must not write to FILE itself. If it does, or if a process that does not use the lock does, FILE stays as that process
/// left it (status 1). If FILE was truncated (`sed s/a/b/ f >f`), its old content, up to 1 MiB, is saved as FILE.saved.
///
/// Symbolic links are followed, and the lock is next to the file to which they lead. Mode, owner, access control list and
/// extended attributes are kept. However, if you may write to FILE but may not change its owner, for example as a member of its
/// group, you own FILE afterwards, as with an editor. Other hard links keep the old content. If the new content equals the old
/// content, nothing is written.
///
/// If the update is killed (SIGKILL), CMD is killed, too. Processes that CMD started go on, but cannot change FILE.
///
/// Try a new CMD with --dry-run --diff. For example, one of the two programs named yq prints JSON unless it has the option -y.
#[derive(Debug, Args)]
#[command(override_usage = "aba-lock update [OPTIONS] FILE [--] CMD [ARG]...\n       \
                            aba-lock update [OPTIONS] --in-place FILE [--] CMD [ARG]... {} [ARG]...")]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) how: Rewrite,

    /// Let CMD edit a private copy, whose path replaces {} in its arguments
    ///
    /// In a script for a shell, use `"$ABA_COPY"`.
    #[arg(short, long)]
    pub(crate) in_place: bool,

    /// The bash that runs CMD if CMD is an exported function
    #[arg(long, value_name = "BASH", value_hint = ValueHint::ExecutablePath, hide = true)]
    pub(crate) shell: Option<OsString>,

    /// With --shell: BASH first runs the script on this descriptor, which describes another shell; CMD may be a function of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..), requires = "shell", hide = true)]
    pub(crate) state: Option<i32>,

    /// The command that makes the new content
    #[arg(index = 2, trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    #[arg(value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Replace a file with standard input, either completely or not at all
///
/// The lock, FILE.lock next to FILE, is held while the input is read. Links, attributes and changes by other processes are
/// handled as by `aba-lock update`.
///
/// A program that computes the input from FILE (`jq .a f | aba-lock write f`) reads FILE before the lock is held, so changes by
/// other processes are lost. Use `aba-lock update` for it.
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

    /// Replace FILE only if CMD accepts the new content, such as 'jq empty'; may be repeated
    ///
    /// sh runs CMD with the new content as its input and in the file `$1`. If the option is repeated, the commands run in
    /// order, and each must succeed.
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

    /// Give up after TIME: 30, 1.5, 90s, 1h30m; 0 means do not wait [default: wait forever]
    #[arg(short, long, value_name = "TIME", value_parser = parse_span, overrides_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,

    /// Print no messages about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whether FILE was changed
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}
