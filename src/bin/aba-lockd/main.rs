//! The `aba-lockd` command, a lock service for scripts on more than one machine: parse the options, run, exit.
//!
//! A call passes through these layers from top to bottom. A module imports only modules of lower layers, or modules that
//! stand to its right in the same layer:
//!
//! | layer | modules |
//! |---|---|
//! | 8 | `main` |
//! | 7 | `lifecycle`: start, run, reload and stop the service |
//! | 6 | `reload`; `rest`, `grpc`: the two APIs |
//! | 5 | `lock_manager`: validates the calls, passes them to the store and records them |
//! | 4 | `connection`: accepts TCP and TLS connections, within limits; `store`: SQLite, etcd, and the trait of both |
//! | 3 | `telemetry`: log and metrics of calls; `access`, `token_file`, `tls`: the checks of callers |
//! | 2 | `runtime`, `systemd`, `exit`, `report`: threads, service manager, exit statuses, output |
//! | 1 | `error`, `model`, `shutdown`, `file_mode`, `environment`, `args`: plain data |
//!
//! Only `report` prints, only `environment` reads the environment, only `args` knows clap, and only the modules below `store/`
//! know a database. Start reading at `model`, then `store/lock_store` and `lock_manager`.

mod access;
mod args;
mod connection;
mod environment;
mod error;
mod exit;
mod file_mode;
mod grpc;
mod lifecycle;
mod lock_manager;
mod model;
mod reload;
mod report;
mod rest;
mod runtime;
mod shutdown;
mod store;
mod systemd;
mod telemetry;
mod tls;
mod token_file;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args::Cli { command: args::Command::Serve(options) } = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            report::print_clap_error(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    match lifecycle::run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::UNANSWERED),
        Err(error) => {
            report::print_start_error(&error);
            ExitCode::from(if error.is_usage { exit::USAGE } else { exit::FAILED })
        }
    }
}
