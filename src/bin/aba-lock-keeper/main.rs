//! The `aba-lock-keeper` command.
//!
//! A lease at a server that several machines share is bound to the life of a script on one of them. The helper
//! `aba-lock` acquires the local lock first, so that only one process of a machine waits in the queue of the server.
//! Then it becomes this program, which acquires the lease, starts a keeper, and leaves the lease to the script.
//!
//! # Layers
//!
//! A module imports only from the rows above its own.
//!
//! | modules | content |
//! |---|---|
//! | [`os`], [`args`], [`misuse`] | system calls that the library does not make; the definitions of options and arguments; messages about wrong usage |
//! | [`lease`] | plain data about leases |
//! | [`fault`] | the error type |
//! | [`exit`], [`environment`], [`address`] | exit statuses; the only reader of the environment; addresses of servers |
//! | [`binding`], [`lease_note`] | the connection of a script and its keeper through the lock file |
//! | [`settings`], [`on_lost`] | the server and its credentials; the reaction to the loss of a lease |
//! | [`output`], [`server`] | all messages and all data; the servers of leases, and requests to them |
//! | [`cancellation`], [`keeper`] | signals during an acquisition; the two processes that keep a lease |
//! | [`cmd`] | the commands |

// A command that this process becomes must not inherit the ignored SIGPIPE that the runtime of `fn main` sets.
#![no_main]

mod address;
#[path = "../definitions/keeper.rs"]
mod args;
mod binding;
mod cancellation;
mod cmd;
mod environment;
mod exit;
mod fault;
mod keeper;
mod lease;
mod lease_note;
#[path = "../aba-lock/output/misuse/clap_mistake.rs"]
mod misuse;
mod on_lost;
mod os;
mod output;
mod server;
mod settings;

use args::{Cli, KeeperCommand, LeaseCommand};
use clap::Parser;
use cmd::{hold, lease as lease_cmd, run as run_cmd, script};
use fault::Fault;

/// The function that the C library calls at the start.
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: there is no `fn main`, so no other function of this name is linked in.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    aba_lock::os::fill_standard_descriptors();
    match Cli::try_parse() {
        Ok(cli) => {
            let status = run(&cli.command);
            output::report_log_failure();
            status.unwrap_or_else(|fault| {
                output::report_fault(&fault, Some("`--wait`"));
                exit::status_for_fault(&fault)
            })
        }
        Err(error) => {
            output::print_clap_answer(&error);
            error.exit_code()
        }
    }
}

/// Runs a command, and returns its exit status.
fn run(command: &KeeperCommand) -> Result<i32, Fault> {
    match command {
        KeeperCommand::Hold(args) => hold::hold(args),
        KeeperCommand::Release(args) => script::release(args),
        KeeperCommand::Lease(command) => match command {
            LeaseCommand::Run(args) => run_cmd::run(args),
            LeaseCommand::Acquire(args) => lease_cmd::acquire(args),
            LeaseCommand::Renew(args) => lease_cmd::renew(args),
            LeaseCommand::Release(args) => lease_cmd::release(args),
            LeaseCommand::Show(args) => lease_cmd::show(args),
            LeaseCommand::List(args) => lease_cmd::list(args),
            LeaseCommand::Settle(args) => script::settle(args),
            LeaseCommand::Check(args) => script::check(args),
            LeaseCommand::Tokens(args) => script::print_tokens(args),
        },
    }
}
