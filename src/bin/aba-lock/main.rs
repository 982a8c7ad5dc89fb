//! The `aba-lock` command: parses the command line, runs the command, and exits with its status.
//!
//! The modules in their order; each module imports only from those before it:
//!
//! 1. `args`: the definitions of all options, and the tables that the help prints below them
//! 2. `parse`: parses the command line
//! 3. `exit`: the exit statuses
//! 4. `output`: all text that is printed
//! 5. `manual`: the manual pages
//! 6. `complete`: answers the completion scripts of the shells
//! 7. `cmd`: the commands
//!
//! `keeper_args` defines the options of the keeper, which completion and manual pages need. //! `main` is above all of them.

// The Rust runtime that calls `fn main` takes a tenth of the start-up time: it reads /proc/self/maps and sets up a
// signal stack. It also ignores SIGPIPE, and a command that this process becomes would inherit that.
#![no_main]

mod args;
mod cmd;
mod complete;
mod exit;
#[path = "../definitions/keeper.rs"]
#[allow(dead_code, reason = "the keeper reads the values; only the definitions are needed here")]
mod keeper_args;
mod manual;
mod output;
mod parse;

use aba_lock::base::command_error::CommandError;
use aba_lock::error::Error;
use aba_lock::os;
use aba_lock::task::error::TaskError;
use args::Invocation;
use output::{misuse, stream};

#[global_allocator]
static HEAP: os::Heap = os::Heap;

/// The entry point, which the C library calls.
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: there is no `fn main`, so no other function of this name is linked.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, argv: *const *const libc::c_char) -> i32 {
    os::fill_standard_descriptors();
    // SAFETY: the C library passes a valid argument vector.
    unsafe { os::note_words(argv) };
    let invocation = if os::is_called("flock") {
        Ok(parse::parse_as_flock())
    } else {
        if let Some(status) = complete::answer_shell() {
            return status;
        }
        parse::parse_command()
    };
    let (program, not_printed) = if matches!(invocation, Ok(Invocation::Flock(_))) {
        ("flock", exit::flock::NOT_PRINTED)
    } else {
        ("aba-lock", exit::FAILED)
    };
    let status = match invocation {
        Ok(command) => {
            let done = cmd::run(command);
            stream::report_log_failure();
            done.unwrap_or_else(|error| {
                let status = exit::status_for_error(&error);
                match error {
                    Error::Command(CommandError::Signalled { signal }) => os::die_of(signal),
                    Error::Task(TaskError::Interrupted { .. }) => {
                        stream::print_error(&error);
                        os::die_of(status - 128);
                    }
                    _ => stream::print_error(&error),
                }
                status
            })
        }
        Err(error) => {
            if error.use_stderr() {
                misuse::report_usage_error(&error);
            } else {
                stream::print_clap_answer(&error);
            }
            error.exit_code()
        }
    };
    if stream::check_stdout(program) { status } else { not_printed }
}
