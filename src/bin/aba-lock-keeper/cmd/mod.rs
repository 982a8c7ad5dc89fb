//! The commands: one file each, arguments in, the server asked, report out.

mod hold;
mod lease;
mod script;

use crate::args::{self, Command};
use crate::clock::Moment;
use crate::server::{Fault, Owner, Patience};
use aba_lock::base::environment::default_timeout;
use aba_lock::base::error::ContextError;
use aba_lock::base::names::LockName;
use aba_lock::os;
use aba_lock::os::proc::process;

/// Runs a command. Its exit status.
pub(crate) fn run(command: Command) -> Result<i32, Fault> {
    match command {
        Command::Lease(command) => lease::run(&command),
        Command::Hold(args) => hold::run(&args),
        Command::Release(args) => script::release(&args),
    }
}

/// What the library has to say.
fn ours(error: impl Into<aba_lock::error::Error>) -> Fault {
    use aba_lock::error::Error;
    let error = error.into();
    match error {
        Error::Context(ContextError::LockName { .. } | ContextError::Variable { .. }) => {
            Fault::Misused { what: error.to_string(), hint: error.hint().unwrap_or_default() }
        }
        error => Fault::Failed { what: error.to_string(), hint: error.hint() },
    }
}

/// The same rules as for names of local locks.
fn name(text: &str) -> Result<&str, Fault> {
    LockName::parse(text).map_err(ours)?;
    Ok(text)
}

fn patience(wait: &args::Patience) -> Result<Patience, Fault> {
    if wait.nonblock {
        return Ok(Patience::None);
    }
    let timeout = match (wait.timeout, wait.wait) {
        (Some(_), Some(Some(_))) => {
            return Err(Fault::Misused {
                what: "both --wait=SECONDS and --timeout say how long to wait".to_owned(),
                hint: "give only one of them".to_owned(),
            });
        }
        (None, Some(None)) => return Ok(Patience::Forever),
        (None, None) => default_timeout().map_err(ours)?,
        (timeout, limit) => timeout.or(limit.flatten()),
    };
    Ok(timeout.map_or(Patience::None, |timeout| Patience::Until(Moment::now().plus(timeout))))
}

/// What others are told of the process that is to have the lease.
fn owner(pid: u32, command: Option<String>, who: Option<&str>) -> Owner {
    Owner {
        host: os::host_name(),
        pid,
        user: process::user_name(os::user_id()),
        command: command.unwrap_or_else(|| process::command_line(pid)),
        who: who.map(str::to_owned),
        since: format!("{:.0}", jiff::Timestamp::now()),
    }
}
