//! The time to wait for a lock, from the options and `ABA_LOCK_TIMEOUT`.

use crate::args::lock::LockArgs;
use aba_lock::base::environment::default_timeout;
use aba_lock::base::target::Wait;
use aba_lock::error::Error;
use std::time::Duration;

/// Returns the wait of `lock`. Without an option or the variable, `lock` does not wait, except with `--replace`.
pub(super) fn choose_wait(args: &LockArgs) -> Result<Wait, Error> {
    Ok(match args.timeout.or(args.wait.flatten()) {
        _ if args.nonblock => Wait::No,
        Some(limit) => Wait::For(limit),
        None if args.wait.is_some() => Wait::Forever,
        None => {
            let other = if args.replace || args.coalesce.is_some() { Wait::Forever } else { Wait::No };
            default_timeout()?.map_or(other, Wait::For)
        }
    })
}

/// Returns the wait for a lock that is only held while a file is changed. Without a limit, the call waits until the
/// lock is free.
pub(super) fn choose_short_wait(timeout: Option<Duration>) -> Result<Wait, Error> {
    let limit = if timeout.is_some() { timeout } else { default_timeout()? };
    Ok(limit.map_or(Wait::Forever, Wait::For))
}
