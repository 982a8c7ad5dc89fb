//! The exit statuses that `main` returns, and an exit for `runtime`, whose panic hook cannot return an error to `main`.

use crate::error::StartError;
use crate::report;

/// The service stopped before all calls were answered.
pub(crate) const UNANSWERED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
/// The service could not be started.
pub(crate) const FAILED: u8 = 125;

/// Prints the error and exits, for the panic hook of the runtime, which cannot return an error.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "a panic hook cannot return an error")]
pub(crate) fn abort_start(error: &StartError) -> ! {
    report::print_start_error(error);
    std::process::exit(FAILED.into())
}
