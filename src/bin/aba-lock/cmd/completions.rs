//! `completions`: prints the script that completes command lines in a shell.

use crate::args::man::{CompletedShell, CompletionsArgs};
use crate::complete::INSTALLED;
use crate::exit;
use crate::output::stream;

pub(crate) fn run(args: &CompletionsArgs) -> i32 {
    let at = match args.shell {
        CompletedShell::Bash => 0,
        CompletedShell::Zsh => 1,
        CompletedShell::Fish => 2,
    };
    stream::print(INSTALLED[at].2);
    exit::DONE
}
