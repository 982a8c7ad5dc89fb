//! The `aba-lock` command: parse, run, exit.

// The runtime that `fn main` starts with costs a tenth of the helper's start-up (it reads /proc/self/maps and
// sets up a signal stack), and it ignores SIGPIPE, which a command that we become would inherit.
#![no_main]

mod args;
mod cmd;
mod complete;
mod exit;
mod parse;
mod report;

use aba_lock::error::Error;
use aba_lock::sys;

/// Where the C library starts us.
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: no other function of this name is linked in: there is no `fn main`.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    sys::fill_standard_descriptors();
    if let Some(status) = complete::answer_shell() {
        return status;
    }
    let status = match parse::command() {
        Ok(command) => {
            let done = cmd::run(command);
            report::unlogged(false);
            done.unwrap_or_else(|error| {
                let status = exit::of(&error);
                match error {
                    Error::GivenUp { signal } => sys::die_of(signal),
                    Error::Interrupted { .. } => {
                        report::failure(&error);
                        sys::die_of(status - 128);
                    }
                    _ => report::failure(&error),
                }
                status
            })
        }
        Err(error) => {
            report::usage(&error);
            error.exit_code()
        }
    };
    if report::is_printed() { status } else { exit::FAILED }
}
