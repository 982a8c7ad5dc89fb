//! The commands: one file each, arguments in, library call, output.

mod clean;
mod doctor;
mod exclude;
mod flock;
mod init;
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

use crate::args::Invocation;
use aba_lock::base::names::LockName;
use aba_lock::base::target::{Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::keeper::{Answer, Keeper};
use aba_lock::number::pool::{PORTS, Pool};
use aba_lock::store::{self, Store};
use std::time::Duration;

/// Runs a command. Its exit status.
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
        Invocation::Write(args) => update::write(&args),
        Invocation::Doctor(args) => Ok(doctor::run(&args)),
        Invocation::Metrics(args) => metrics::run(&args),
        Invocation::Reserve(args) if registry::is_meant(&args) => registry::run(&args),
        Invocation::Reserve(args) => reserve::run(&args),
        Invocation::Release(args) => release::run(&args),
        Invocation::Exclude(args) => exclude::run(&args),
        Invocation::Migrate(args) => migrate::run(&args),
        Invocation::Lease(args) => lease::run(args),
        Invocation::Init(args) => Ok(init::run(&args)),
    }
}

fn named(store: &Store, name: &str) -> Result<Target, Error> {
    Ok(store.target(&LockName::parse(name)?))
}

/// Whether a server of leases is meant: by the option, where an empty one means none, else by the environment.
fn is_remote(server: Option<&str>) -> bool {
    server.map_or_else(store::has_server, |server| !server.is_empty())
}

/// What the keeper says of the leases at the server.
fn ask(what: &str, name: Option<&str>, server: Option<&str>, json: bool) -> Result<Answer, Error> {
    let server = server.map(|server| format!("--server={server}"));
    let mut words = vec!["lease", what];
    words.extend(server.as_deref());
    words.extend(json.then_some("--json"));
    words.extend(name);
    Keeper::find()?.ask(&words)
}

fn pool(name: Option<&str>) -> Result<Pool, Error> {
    Pool::parse(name.unwrap_or(PORTS))
}

/// To change a file is short: it is waited for, unless something says how long.
fn short_wait(timeout: Option<Duration>) -> Result<Wait, Error> {
    Ok(timeout.or(store::default_timeout()?).map_or(Wait::Forever, Wait::For))
}
