//! The options of `man` and `completions`.

use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

/// The variables that choose the program that shows a page.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("MANPAGER, PAGER", "the pager, a shell command, without man(1) of man-db [default: less, more or cat]"),
    ("LESS", "the options of less [default: FRX]"),
    ("NO_COLOR, CLICOLOR, TERM", "control whether the pager gets bold and underlined text"),
];

/// Show a manual page, also where none is installed
///
/// The helper contains all pages. On a terminal, man(1) of man-db shows the page, and without it a pager. Otherwise, the page is
/// printed as text.
#[derive(Debug, Args)]
#[command(override_usage = "aba-lock man [--roff] [PAGE]\n       aba-lock man --list | --write DIR")]
pub(crate) struct ManArgs {
    /// The name of the page, such as aba-lock.bash, or of a command [default: aba-lock]
    ///
    /// If two pages have one name, add the section: aba-lock-reserve.7.
    #[arg(value_name = "PAGE")]
    pub(crate) page: Option<String>,

    /// List the pages
    #[arg(long, conflicts_with_all = ["page", "roff", "write"])]
    pub(crate) list: bool,

    /// Print the source of the page, for man(1), mandoc(1) or groff(1)
    #[arg(long, conflicts_with = "write")]
    pub(crate) roff: bool,

    /// Write the sources of all pages into man1, man7 and man8 in DIR, such as ~/.local/share/man, where man(1) finds them
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "page")]
    pub(crate) write: Option<PathBuf>,
}

/// Print the script that completes commands, options and names with TAB
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell of the script: bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) shell: CompletedShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}
