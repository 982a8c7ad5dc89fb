//! The commands: one file each, arguments in, library call, report out.

mod clean;
mod doctor;
mod init;
mod list;
mod lock;
mod metrics;
mod path;
mod run_once;
mod status;
mod unlock;
mod update;

use crate::args::Command;
use aba_lock::error::Error;
use aba_lock::lock::{Kind, Target};
use aba_lock::name::LockName;
use aba_lock::store::Store;
use std::fs;
use std::path::Path;

/// Runs a command. Its exit status.
pub(crate) fn run(command: Command) -> Result<i32, Error> {
    match command {
        Command::Lock(args) => lock::run(&args),
        Command::Unlock(args) => unlock::run(&args),
        Command::Status(args) => status::run(&args),
        Command::List(args) => list::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Path(args) => path::run(&args),
        Command::RunOnce(args) => run_once::run(&args),
        Command::Update(args) => update::run(&args),
        Command::Write(args) => update::write(&args),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::Metrics(args) => metrics::run(&args),
        Command::Init(args) => Ok(init::run(&args)),
    }
}

fn named(store: &Store, name: &str) -> Result<Target, Error> {
    let name = LockName::parse(name)?;
    Ok(Target { path: store.lock_path(&name), label: name.to_string(), kind: Kind::Named })
}

fn file(path: &Path) -> Target {
    let label = path.display().to_string();
    // A link that the user names is meant; one that is put in its place afterwards is not.
    Target { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), label, kind: Kind::Users }
}
