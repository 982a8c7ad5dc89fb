//! Starts the Tokio runtime for `lifecycle`, with all threads that calls need. If the system cannot create them, the
//! service does not start; a running service needs no further threads.

use crate::error::StartError;
use crate::exit;
use std::panic;
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::time;

/// Maximum time for the start of a thread.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts all threads that a call needs: later, the system may refuse to create more.
pub(crate) fn start_runtime() -> Result<Runtime, StartError> {
    fn failed(why: &str) -> StartError {
        StartError::new(format!("cannot start threads: {why}"))
            .with_hint("raise `ulimit -u`, or TasksMax= of the systemd unit")
    }
    // Tokio panics if it cannot create a worker, and unwinding would wait for the workers that it has already created.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| exit::abort_start(&failed("the system refuses to create more"))));
    let mut runtime = runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_keep_alive(Duration::from_secs(u32::MAX.into())).build();
    let runtime = runtime.map_err(|error| failed(&aba_lock::base::text::format_io_error(&error)))?;
    // The store is read on threads that may block. The first of them stays forever; if the system refuses to create
    // another one, reads take turns on it.
    let blocking = async { time::timeout(THREAD_TIMEOUT, tokio::task::spawn_blocking(|| ())).await };
    let is_running = runtime.block_on(blocking);
    panic::set_hook(hook);
    if !matches!(is_running, Ok(Ok(()))) {
        runtime.shutdown_background();
        return Err(failed("the system refuses to create more"));
    }
    Ok(runtime)
}
