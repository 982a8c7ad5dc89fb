//! `doctor`: examines this machine and the installed files.

use super::init::{FAST_LIBRARY, LIBRARY, OTHER_LIBRARIES, split_library};
use crate::args::doctor::DoctorArgs;
use crate::output::findings::Findings;
use crate::{complete, exit};
use aba_lock::admin::doctor;
use aba_lock::admin::doctor::installed::{BundledFiles, ShellLibrary};
use aba_lock::base::environment::choose_colours;

pub(crate) fn run(args: &DoctorArgs) -> i32 {
    if let Some(choice) = args.color {
        choose_colours(choice);
    }
    let bundled = BundledFiles {
        version: env!("CARGO_PKG_VERSION"),
        library: LIBRARY,
        fast_library: FAST_LIBRARY,
        printed_library: split_library(),
        other_libraries: OTHER_LIBRARIES,
        completions: complete::INSTALLED,
    };
    let library = ShellLibrary { path: args.library.as_deref(), sourced: args.sourced.as_deref() };
    let mut findings = Findings::new(args.json);
    doctor::examine_machine(&bundled, library, &mut |finding| findings.report(&finding));
    if findings.print_summary() { exit::DONE } else { exit::NO }
}
