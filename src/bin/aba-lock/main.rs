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

/// Where the C library starts us.
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: no other function of this name is linked in: there is no `fn main`.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    aba_lock::sys::fill_standard_descriptors();
    if let Some(status) = complete::answer_shell() {
        return status;
    }
    match parse::command() {
        Ok(command) => cmd::run(command).unwrap_or_else(|error| {
            report::failure(&error);
            let status = exit::of(&error);
            if status == exit::INTERRUPTED {
                aba_lock::sys::die_of_interrupt();
            }
            status
        }),
        Err(error) => {
            report::usage(&error);
            error.exit_code()
        }
    }
}
