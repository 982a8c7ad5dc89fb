//! `init`: prints the shell library, and a line that makes it use this helper.

use crate::args::{InitArgs, ShellName};
use crate::exit;
use crate::output::stream;
use aba_lock::base::text::quote_path;

/// The text of the shell library.
pub(super) const LIBRARY: &str = include_str!("../../../../shell/aba-lock.bash");

pub(crate) fn run(args: &InitArgs) -> i32 {
    match args.shell {
        ShellName::Bash => {
            stream::print(LIBRARY);
            // The library then uses this helper, even if another one is on PATH, unless ABA_LOCK_BIN names one.
            if let Ok(helper) = std::env::current_exe() {
                stream::print(&format!("[[ ${{ABA_LOCK_BIN:-}} ]] || ABA_LOCK_BIN={}\n", quote_path(&helper)));
            }
        }
    }
    exit::DONE
}
