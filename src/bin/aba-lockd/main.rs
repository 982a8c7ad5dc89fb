//! The `aba-lockd` command, a lock service for scripts on more than one machine: parse the options, run, exit.
//!
//! A module imports only from modules of lower layers:
//!
//! | layer | modules |
//! |---|---|
//! | 9 | `lifecycle`: starts, runs and stops the service |
//! | 8 | `rest`, `grpc`: the two APIs; `rest` also has the locks of Terraform |
//! | 7 | `lock_manager`: validates the calls, passes them to the store and records them; `reload`: reads files again at SIGHUP |
//! | 6 | `connection`: accepts connections, within limits; `store`: SQLite and etcd; `access`: permits or refuses calls; `runtime`: threads; `token_command`: `aba-lockd token` |
//! | 5 | `telemetry`: log and metrics of calls; `token_file`, `tls`: the files of tokens and certificates; `exit`: exit statuses |
//! | 4 | `permission`: the permissions of a caller |
//! | 3 | `event_feed`: the last changes, for clients that follow them; `report`: all output; `credential`: tokens in requests, and new ones |
//! | 2 | `error`; `past_lock`: locks that have ended; `systemd`: notifications |
//! | 1 | `model`: locks and requests; `args`, `environment`, `file_mode`, `misuse`, `shutdown` |
//!
//! Only `report` prints, only `environment` reads the environment, only `args` and `misuse` know clap, and only the
//! modules below `store` know a database. A call passes through `connection`, `rest` or `grpc`, `lock_manager`, and a
//! store. Start reading at `model`, `store/lock_store.rs` and `lock_manager`.

mod access;
#[path = "../definitions/service.rs"]
mod args;
mod connection;
mod credential;
mod environment;
mod error;
mod event_feed;
mod exit;
mod file_mode;
mod grpc;
mod lifecycle;
mod lock_manager;
#[path = "../aba-lock/output/misuse/clap_mistake.rs"]
mod misuse;
mod model;
mod past_lock;
mod permission;
mod reload;
mod report;
mod rest;
mod runtime;
mod shutdown;
mod store;
mod systemd;
mod telemetry;
mod tls;
mod token_command;
mod token_file;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match args::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            report::print_clap_error(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let result = match command {
        args::Command::Serve(options) => lifecycle::run(options),
        args::Command::Token(args::TokenCommand::New(options)) => token_command::create_token(&options).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::UNANSWERED),
        Err(error) => {
            report::print_start_error(&error);
            ExitCode::from(if error.is_usage { exit::USAGE } else { exit::FAILED })
        }
    }
}
