//! `init`: prints the commands that load the shell library, and a line that makes it use this helper.

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

/// The start of the command that ends the fast part of the library. An empty line follows the command.
const FAST_PART_END: &str = "\n[[ ${BASH_SOURCE-} != \"$0\"";

pub(crate) fn run(args: &InitArgs) -> i32 {
    let helper = std::env::current_exe().ok();
    match args.shell {
        ShellName::Bash => {
            // Bash parses a file faster than a text, because the file can end after its fast part. A file with the output
            // is a copy of the library. Other shells have no `source`.
            if let Some(library) = helper.as_deref().and_then(find_installed_library).filter(|_| !is_output_a_file()) {
                stream::print(&format!("\\. {}\n", quote_path(&library)));
            } else {
                let (before, after) = split_library();
                stream::print(before);
                stream::print(after);
            }
            // The library then uses this helper, even if another one is on PATH, unless ABA_LOCK_BIN names one.
            if let Some(helper) = helper {
                stream::print(&format!("[[ ${{ABA_LOCK_BIN:-}} ]] || ABA_LOCK_BIN={}\n", quote_path(&helper)));
            }
        }
    }
    exit::DONE
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

/// Returns the path of the library that was installed with this helper, if its text is that of this version.
fn find_installed_library(helper: &Path) -> Option<PathBuf> {
    let library = helper.parent()?.parent()?.join("share/aba-lock/aba-lock.bash");
    let is_text = |path: &Path, text: &str| fs::read(path).is_ok_and(|found| found == text.as_bytes());
    let is_fast = || is_text(&library, FAST_LIBRARY) && is_text(&library.with_file_name(WHOLE_LIBRARY), LIBRARY);
    (is_fast() || is_text(&library, LIBRARY)).then_some(library)
}
