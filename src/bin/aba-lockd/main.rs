//! The `aba-lockd` command: parse, run, exit.
//!
//! Who knows whom: `main` -> `serve` -> `rest`, `grpc` -> `desk` -> `store`, `journal`. Only `report` prints, only `settings`
//! reads the environment, only `args` knows clap, and only what is under `store/` knows a database.

mod access;
mod args;
mod connection;
mod environment;
mod grpc;
mod lifecycle;
mod lock_manager;
mod model;
mod reload;
mod report;
mod rest;
mod store;
mod telemetry;
mod tls;

use clap::Parser;
use std::process::ExitCode;

/// It ended before all that was asked was answered.
const NOT_ALL: u8 = 1;
/// It was used in a wrong way.
const USAGE: u8 = 2;
/// It cannot be started.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let args::Cli { command: args::Command::Serve(args) } = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            report::usage(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match lifecycle::run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_ALL),
        Err(failure) => {
            report::failure(&failure.sentence, failure.hint.as_deref());
            ExitCode::from(if failure.misused { USAGE } else { FAILED })
        }
    }
}

/// Ends the process where nothing can be returned.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "this file alone ends the process")]
pub(crate) fn end(failure: &lifecycle::Failure) -> ! {
    report::failure(&failure.sentence, failure.hint.as_deref());
    std::process::exit(FAILED.into())
}
