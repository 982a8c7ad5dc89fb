//! The commands. Each has a file, which passes the arguments to the library, and the result to `output`.
//!
//! Six files are shared: `command` runs a command under locks, `keeper` calls `aba-lock-keeper`, `target` finds the locks that
//! the arguments name, `wait` chooses the time to wait, `registry` holds the queries of `reserve`, and `task_root` finds the tasks to
//! show.

mod clean;
mod command;
mod completions;
mod doctor;
mod exclude;
mod flock;
mod init;
mod keeper;
mod lease;
mod list;
mod lock;
mod log;
mod man;
mod metrics;
mod migrate;
mod path;
mod registry;
mod release;
mod reserve;
mod run_once;
mod status;
mod target;
mod task_root;
mod unlock;
mod update;
mod wait;
mod wait_free;

use crate::args::Invocation;
use aba_lock::base::environment::use_system_scope;
use aba_lock::error::Error;

/// Runs a command of the helper, and returns the exit status.
pub(crate) fn run(command: Invocation) -> Result<i32, Error> {
    if wants_system_scope(&command) {
        use_system_scope();
    }
    match command {
        Invocation::Lock(args) => run_apart(|| lock::run(&args)),
        Invocation::Flock(args) => run_apart(|| flock::run(args)),
        Invocation::Unlock(args) => run_apart(|| unlock::run(&args)),
        Invocation::Wait(args) => run_apart(|| wait_free::run(&args)),
        Invocation::Status(args) => run_apart(|| status::run(&args)),
        Invocation::List(args) => run_apart(|| list::run(&args)),
        Invocation::Log(args) => run_apart(|| log::run(&args)),
        Invocation::Clean(args) => run_apart(|| clean::run(&args)),
        Invocation::Path(args) => run_apart(|| path::run(&args)),
        Invocation::RunOnce(args) => run_apart(|| run_once::run(&args)),
        Invocation::Update(args) => run_apart(|| update::run(&args)),
        Invocation::Write(args) => run_apart(|| update::run_write(&args)),
        Invocation::Doctor(args) => run_apart(|| Ok(doctor::run(&args))),
        Invocation::Metrics(args) => run_apart(|| metrics::run(&args)),
        Invocation::Reserve(args) if registry::is_query(&args) => run_apart(|| registry::run(&args)),
        Invocation::Reserve(args) => run_apart(|| reserve::run(&args)),
        Invocation::Release(args) => run_apart(|| release::run(&args)),
        Invocation::Exclude(args) => run_apart(|| exclude::run(&args)),
        Invocation::Migrate(args) => run_apart(|| migrate::run(&args)),
        Invocation::Lease(args) => run_apart(|| lease::run(args)),
        Invocation::Init(args) => run_apart(|| Ok(init::run(&args))),
        Invocation::Completions(args) => run_apart(|| Ok(completions::run(&args))),
        Invocation::Man(args) => run_apart(|| man::run(&args)),
    }
}

/// Returns true if the command is for the locks that all users share.
fn wants_system_scope(command: &Invocation) -> bool {
    match command {
        Invocation::Lock(args) => args.system,
        Invocation::Unlock(args) => args.system,
        Invocation::Wait(args) => args.system,
        Invocation::Status(args) => args.system,
        Invocation::List(args) => args.system,
        Invocation::Clean(args) => args.system,
        Invocation::Path(args) => args.system,
        Invocation::Doctor(args) => args.system,
        Invocation::Metrics(args) => args.system,
        Invocation::Log(args) => args.system,
        _ => false,
    }
}

/// Runs one command in a function of its own. Otherwise the compiler would make one function of all commands: a call would read all
/// of its 100 kB, and touch the stack of the largest command.
#[inline(never)]
fn run_apart(run: impl FnOnce() -> Result<i32, Error>) -> Result<i32, Error> {
    run()
}
