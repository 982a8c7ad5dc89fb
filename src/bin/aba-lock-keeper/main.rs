//! The `aba-lock-keeper` command: parse, run, exit.
//!
//! A lease at a server that several machines share, bound to the life of a script on one of them. The helper `aba-lock` takes
//! the local lock first, so that one process a machine stands in the queue of the server, and then becomes this program,
//! which takes the lease, leaves a keeper behind, and lets the script go on.
//!
//! | module | knows |
//! |---|---|
//! | [`settings`] | which server, and how to be known to it: the only reader of the environment |
//! | [`server`] | what a server of leases is; below it etcd, the lock service, and requests |
//! | [`tie`] | the tie between a keeper and a script |
//! | [`keep`] | the keeper: renews the lease, sees its end, gives it back |
//! | [`lost`] | ending those who have a lock whose lease is lost |
//! | [`cancel`] | giving back what was begun, when a signal ends the wait |
//! | [`clock`] | the clock that does not stop |
//! | [`report`] | every sentence and all data: the only prints |
//! | [`sys`] | the only system calls |

// What we become must not inherit SIGPIPE as the runtime of `fn main` leaves it: ignored.
#![no_main]

mod args;
mod cancel;
mod clock;
mod cmd;
mod exit;
mod keep;
mod lost;
mod report;
mod server;
mod settings;
mod sys;
mod tie;

use clap::Parser;

/// Where the C library starts us.
#[expect(unsafe_code, reason = "the name that the C library calls")]
// SAFETY: no other function of this name is linked in: there is no `fn main`.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    aba_lock::os::fill_standard_descriptors();
    match args::Cli::try_parse() {
        Ok(cli) => {
            let done = cmd::run(cli.command);
            report::unlogged();
            done.unwrap_or_else(|fault| {
                report::failure(&fault, Some("`--wait`"));
                exit::of(&fault)
            })
        }
        Err(error) => {
            let _ = error.print();
            error.exit_code()
        }
    }
}
