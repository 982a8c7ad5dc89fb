//! The `aba-lock` command: parse, run, exit.

// The runtime that `fn main` starts with costs a tenth of the helper's start-up (it reads /proc/self/maps and
// sets up a signal stack), and it ignores SIGPIPE, which a command that we become would inherit.
#![no_main]

mod args;
mod cmd;
mod complete;
mod exit;
mod output;
mod parse;

use aba_lock::error::Error;
use aba_lock::os;
use args::Invocation;
use output::stream;

/// Where the program lies, for the C library, which asks at each start of a static program, and needs it only to load
/// libraries from beside it. -1 is its own word for "not known", and spares us a look into /proc: 3 % of a call.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: ours stands for the one in libc.a, of the same form, whose object has nothing else in it.
#[unsafe(no_mangle)]
extern "C" fn _dl_get_origin() -> *const libc::c_char {
    std::ptr::without_provenance(usize::MAX)
}

/// Where the C library starts us.
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: no other function of this name is linked in: there is no `fn main`.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, argv: *const *const libc::c_char) -> i32 {
    os::fill_standard_descriptors();
    // SAFETY: the C library gives us the words.
    let asked = if unsafe { os::is_called(argv, c"flock") } {
        Ok(parse::as_flock())
    } else {
        if let Some(status) = complete::answer_shell() {
            return status;
        }
        parse::command()
    };
    let (name, not_printed) = if matches!(asked, Ok(Invocation::Flock(_))) {
        ("flock", exit::flock::NOT_PRINTED)
    } else {
        ("aba-lock", exit::FAILED)
    };
    let status = match asked {
        Ok(command) => {
            let done = cmd::run(command);
            stream::report_log_failure();
            done.unwrap_or_else(|error| {
                let status = exit::of(&error);
                match error {
                    Error::GivenUp { signal } => os::die_of(signal),
                    Error::Interrupted { .. } => {
                        stream::print_error(&error);
                        os::die_of(status - 128);
                    }
                    _ => stream::print_error(&error),
                }
                status
            })
        }
        Err(error) => {
            stream::print_clap_answer(&error);
            error.exit_code()
        }
    };
    if stream::check_stdout(name) { status } else { not_printed }
}
