//! The commands. Each has a file, which passes the arguments to the library, and the result to `output`.
//!
//! Four files are shared: `command` runs a command under locks, `keeper` calls `aba-lock-keeper`, `wait` chooses the
//! time to wait, and `registry` holds the queries of `reserve`.

mod clean;
mod command;
mod doctor;
mod exclude;
mod flock;
mod init;
mod keeper;
mod lease;
mod list;
mod lock;
mod metrics;
mod migrate;
mod path;
mod registry;
mod release;
mod reserve;
mod run_once;
mod status;
mod unlock;
mod update;
mod wait;

use crate::args::Invocation;
use aba_lock::error::Error;

/// Runs a command of the helper, and returns the exit status.
pub(crate) fn run(command: Invocation) -> Result<i32, Error> {
    match command {
        Invocation::Lock(args) => lock::run(&args),
        Invocation::Flock(args) => flock::run(args),
        Invocation::Unlock(args) => unlock::run(&args),
        Invocation::Status(args) => status::run(&args),
        Invocation::List(args) => list::run(&args),
        Invocation::Clean(args) => clean::run(&args),
        Invocation::Path(args) => path::run(&args),
        Invocation::RunOnce(args) => run_once::run(&args),
        Invocation::Update(args) => update::run(&args),
        Invocation::Write(args) => update::run_write(&args),
        Invocation::Doctor(args) => Ok(doctor::run(&args)),
        Invocation::Metrics(args) => metrics::run(&args),
        Invocation::Reserve(args) if registry::is_query(&args) => registry::run(&args),
        Invocation::Reserve(args) => reserve::run(&args),
        Invocation::Release(args) => release::run(&args),
        Invocation::Exclude(args) => exclude::run(&args),
        Invocation::Migrate(args) => migrate::run(&args),
        Invocation::Lease(args) => lease::run(args),
        Invocation::Init(args) => Ok(init::run(&args)),
    }
}
