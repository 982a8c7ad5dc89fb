//! `init`: prints the commands that load the library for a shell, and a line that makes it use this helper.

use crate::args::{InitArgs, ShellName};
use crate::exit;
use crate::output::stream;
use aba_lock::admin::doctor::installed::WHOLE_LIBRARY;
use aba_lock::base::text::quote_path;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The text of the shell library.
pub(super) const LIBRARY: &str = include_str!("../../../../shell/aba-lock.bash");

/// The library that `make install` puts in front of the whole one: it has the usual calls, and loads the whole library for others.
pub(super) const FAST_LIBRARY: &str = include_str!("../../../../shell/aba-lock-fast.bash");

/// The name of the file that scripts source, in an installation.
const FAST_LIBRARY_NAME: &str = "aba-lock.bash";

/// The start of the command that ends the fast part of the library. An empty line follows the command.
const FAST_PART_END: &str = "\n[[ ${BASH_SOURCE-} != \"$0\"";

/// The libraries for other shells: the name of the installed file, and its text.
pub(super) const OTHER_LIBRARIES: [(&str, &str); 3] = [SH, ZSH, FISH];

const SH: (&str, &str) = ("aba-lock.sh", include_str!("../../../../shell/aba-lock.sh"));
const ZSH: (&str, &str) = ("aba-lock.zsh", include_str!("../../../../shell/aba-lock.zsh"));
const FISH: (&str, &str) = ("aba-lock.fish", include_str!("../../../../shell/aba-lock.fish"));

/// The line of the library for zsh after which its functions begin. The lines before it load [`SH`].
const ZSH_FUNCTIONS: &str = "# ---- the functions ----\n";

pub(crate) fn run(args: &InitArgs) -> i32 {
    let helper = std::env::current_exe().ok();
    // Bash parses a file faster than a text, because the file can end after its fast part. A file with the output is a copy of
    // the library.
    let installed = helper.as_deref().and_then(|helper| find_installed_library(helper, args.shell));
    if let Some(library) = installed.filter(|_| !is_output_a_file()) {
        // Shells other than bash may have no `source`, and fish has no `\.`.
        let dot = if args.shell == ShellName::Fish { "source" } else { "\\." };
        stream::print(&format!("{dot} {}\n", quote_path(&library)));
    } else {
        match args.shell {
            ShellName::Bash => {
                let (before, after) = split_library();
                stream::print(before);
                stream::print(after);
            }
            ShellName::Sh => stream::print(SH.1),
            ShellName::Zsh => print_library_for_zsh(),
            ShellName::Fish => stream::print(FISH.1),
        }
    }
    // The library then uses this helper, even if another one is on PATH, unless ABA_LOCK_BIN names one.
    if let Some(helper) = helper {
        let helper = quote_path(&helper);
        stream::print(&match args.shell {
            ShellName::Bash => format!("[[ ${{ABA_LOCK_BIN:-}} ]] || ABA_LOCK_BIN={helper}\n"),
            ShellName::Sh | ShellName::Zsh => format!("[ -n \"${{ABA_LOCK_BIN-}}\" ] || ABA_LOCK_BIN={helper}\n"),
            ShellName::Fish => format!("set -q ABA_LOCK_BIN; or set -g ABA_LOCK_BIN {helper}\n"),
        });
    }
    exit::DONE
}

/// Prints the functions as `aba-lock.zsh` loads them: with the emulation and the options that they need.
fn print_library_for_zsh() {
    let functions = ZSH.1.split_once(ZSH_FUNCTIONS).map_or(ZSH.1, |(_, functions)| functions);
    let text = shell_words::join([format!("{}\n{functions}", SH.1)]);
    stream::print(&format!("'builtin' 'emulate' -R zsh -o no_aliases -c {text}\n'builtin' 'eval' \"$__aba_detach\"\n"));
}

/// Returns the text of the library in two parts, without the command between them that ends the fast part: it would end
/// the script that evaluates the text.
pub(super) fn split_library() -> (&'static str, &'static str) {
    let start = LIBRARY.find(FAST_PART_END).map_or(LIBRARY.len(), |at| at + 1);
    let end = LIBRARY[start..].find("\n\n").map_or(LIBRARY.len(), |at| start + at + 1);
    (&LIBRARY[..start], &LIBRARY[end..])
}

fn is_output_a_file() -> bool {
    let output = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    output.and_then(|output| output.metadata()).is_ok_and(|data| data.is_file())
}

/// Returns the path of the library for `shell` that was installed with this helper, if its text is that of this version.
fn find_installed_library(helper: &Path, shell: ShellName) -> Option<PathBuf> {
    let directory = helper.parent()?.parent()?.join("share/aba-lock");
    let has = |name: &str, text: &str| fs::read(directory.join(name)).is_ok_and(|found| found == text.as_bytes());
    let (name, is_installed) = match shell {
        ShellName::Bash => {
            let is_fast = has(FAST_LIBRARY_NAME, FAST_LIBRARY) && has(WHOLE_LIBRARY, LIBRARY);
            (FAST_LIBRARY_NAME, is_fast || has(FAST_LIBRARY_NAME, LIBRARY))
        }
        ShellName::Sh => (SH.0, has(SH.0, SH.1)),
        ShellName::Zsh => (ZSH.0, has(ZSH.0, ZSH.1) && has(SH.0, SH.1)),
        ShellName::Fish => (FISH.0, has(FISH.0, FISH.1)),
    };
    is_installed.then(|| directory.join(name))
}
