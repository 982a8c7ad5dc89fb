//! `doctor`: examines this machine and the installed files.

use super::init::LIBRARY;
use crate::args::doctor::DoctorArgs;
use crate::output::findings::Findings;
use crate::{complete, exit};
use aba_lock::admin::doctor::{self, Library, Ours};

pub(crate) fn run(args: &DoctorArgs) -> i32 {
    let ours = Ours { version: env!("CARGO_PKG_VERSION"), library: LIBRARY, completions: complete::INSTALLED };
    let library = Library { path: args.library.as_deref(), sourced: args.sourced.as_deref() };
    let mut findings = Findings::new(args.json);
    doctor::examine(&ours, library, &mut |finding| findings.report(&finding));
    if findings.print_summary() { exit::DONE } else { exit::NO }
}
