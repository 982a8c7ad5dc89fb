//! Standard output and standard error: the functions through which all other files print.

use super::command_hint::find_command_hint;
use super::text::escape_controls;
use super::width::cut_to_columns;
use aba_lock::base::text::format_io_error;
use aba_lock::error::Error;
use aba_lock::lock::events;
use aba_lock::os;
use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The `errno` of the first failed write to standard output, 0 if there was none. Its initial value of 0 puts it into
/// `.bss`, next to other data that each call reads, so a call that prints nothing touches no further page.
static STDOUT_ERRNO: AtomicI32 = AtomicI32::new(0);

/// Prints data to standard output.
pub(crate) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

pub(crate) fn print_bytes(mut rest: &[u8]) {
    while !rest.is_empty() && STDOUT_ERRNO.load(Ordering::Relaxed) == 0 {
        match os::write_some(1, rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) => note_stdout_failure(&error),
        }
    }
}

/// Returns false if standard output cannot be written to any more.
pub(crate) fn can_print() -> bool {
    STDOUT_ERRNO.load(Ordering::Relaxed) == 0
}

fn note_stdout_failure(error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let _ = STDOUT_ERRNO.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
}

/// Reports, in the name of the program `name`, that data could not be printed. Returns true if there was no such
/// failure, or the reader of standard output ended before it read everything, which is no failure.
pub(crate) fn check_stdout(name: &str) -> bool {
    match STDOUT_ERRNO.load(Ordering::Relaxed) {
        0 | libc::EPIPE => true,
        errno => {
            let reason = format_io_error(&io::Error::from_raw_os_error(errno));
            write_stderr(&format!("{name}: cannot write to standard output: {reason}\n"));
            false
        }
    }
}

/// The maximum time to wait for the reader of standard error.
const STDERR_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes text in one system call, so that the messages of several processes do not mix. If the reader of standard
/// error does not read, the text is dropped after a while: a wait for a lock must end when the lock is released, or a
/// signal arrives.
pub(crate) fn write_stderr(text: &str) {
    if os::can_be_written(2, STDERR_TIMEOUT) {
        os::write_until_signal(2, text.as_bytes());
    }
}

/// Prints a message and a hint to standard error.
pub(crate) fn print_message(text: &str, hint: Option<&str>) {
    print_message_as("aba-lock", text, hint);
}

/// Prints a message and a hint to standard error, in the name of `program`.
pub(crate) fn print_message_as(program: &str, text: &str, hint: Option<&str>) {
    let hint = hint.map(|hint| format!("hint: {}\n", escape_controls(hint))).unwrap_or_default();
    write_stderr(&format!("{program}: {}\n{hint}", escape_controls(text)));
}

/// Overwrites the last line of the terminal. The text is cut to the width of the terminal, because a line that wraps
/// could not be overwritten.
pub(crate) fn redraw_line(text: &str) {
    let text = escape_controls(text);
    let text = cut_to_columns(&text, os::terminal_width(2).saturating_sub(1));
    write_stderr(&format!("\r{text}\x1b[K"));
}

pub(crate) fn clear_line() {
    write_stderr("\r\x1b[K");
}

/// Prints the answer of clap: the help, the version, or an error in the arguments.
pub(crate) fn print_clap_answer(answer: &clap::Error) {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    // An error goes to standard error. If that cannot be written to, there is no place to report it.
    if let (Err(reason), false) = (printed, answer.use_stderr()) {
        note_stdout_failure(&reason);
    }
}

/// Flushes the standard output of the Rust library, which by itself does so only at the end of a `fn main`.
pub(crate) fn flush_stdout() {
    let _ = io::stdout().flush();
}

/// Prints a message about wrong arguments, the usage in complete lines, and a hint.
pub(crate) fn print_misuse_with_usage(text: &str, usage: &str, hint: &str) {
    let (text, hint) = (escape_controls(text), escape_controls(hint));
    write_stderr(&format!("aba-lock: {text}\n{usage}hint: {hint}\n"));
}

/// Reports arguments that cannot be combined.
pub(crate) fn print_misuse(command: &str, what: &str) {
    print_message(&format!("{command}: {what}"), Some(&format!("see `aba-lock {command} --help`")));
}

pub(crate) fn print_error(error: &Error) {
    let hint = error.hint().or_else(|| find_command_hint(error));
    print_message(&error.to_string(), hint.as_deref());
}

/// Reports once that the event log could not be written to. `--quiet` is about contention and does not suppress this.
pub(crate) fn report_log_failure() {
    if let Some((log, reason)) = events::take_failure() {
        let hint = events::hint_after_failure(&reason);
        let reason = format_io_error(&reason);
        let text = format!("cannot write to the event log {}: {reason}; locks are not affected", log.display());
        print_message(&text, Some(hint));
    }
}
