//! Conversions that several commands need: from arguments to requests, and from errors of the library to faults.

use crate::args::{RequestOptions, SharingOptions, WaitOptions};
use crate::fault::Fault;
use crate::lease::{LeaseOwner, WaitLimit};
use crate::os::clock::Moment;
use crate::output;
use crate::settings::{self, Settings};
use aba_lock::base::environment::default_timeout;
use aba_lock::base::error::ContextError;
use aba_lock::base::names::LockName;
use aba_lock::error::Error;
use aba_lock::os::proc::process;
use aba_lock::os::{host_name, user_id};
use aba_lock_protocol::sharing::Sharing;
use std::io;
use std::time::Duration;

/// Converts an error of the library.
pub(super) fn convert_error(error: impl Into<Error>) -> Fault {
    let error = error.into();
    match error {
        Error::Context(ContextError::LockName { .. } | ContextError::Variable { .. }) => {
            Fault::Misused { what: error.to_string(), hint: error.hint().unwrap_or_default() }
        }
        error => Fault::Failed { what: error.to_string(), hint: error.hint() },
    }
}

/// Checks a name by the rules for names of local locks.
pub(super) fn check_name(text: &str) -> Result<&str, Fault> {
    LockName::parse(text).map_err(convert_error)?;
    Ok(text)
}

/// The options of a request for a lease, after their checks.
pub(super) struct CheckedRequest<'a> {
    pub(super) name: &'a str,
    pub(super) settings: Settings,
    pub(super) ttl: Duration,
    pub(super) limit: WaitLimit,
    pub(super) sharing: Sharing,
}

/// Checks the options of a request for a lease, and warns of secrets that other users can read.
pub(super) fn check_request(options: &RequestOptions) -> Result<CheckedRequest<'_>, Fault> {
    let name = check_name(&options.name)?;
    let settings = Settings::read(options.at.server.as_deref())?;
    if !options.quiet {
        output::warn_of_exposures(&settings);
    }
    let ttl = settings::read_ttl(options.ttl)?;
    Ok(CheckedRequest {
        name,
        settings,
        ttl,
        limit: read_wait_limit(&options.wait)?,
        sharing: read_sharing(&options.sharing),
    })
}

/// Reads the options for the time to wait, and the default in the environment.
pub(super) fn read_wait_limit(options: &WaitOptions) -> Result<WaitLimit, Fault> {
    if options.nonblock {
        return Ok(WaitLimit::NoWait);
    }
    let timeout = match (options.timeout, options.wait) {
        (Some(_), Some(Some(_))) => {
            return Err(Fault::Misused {
                what: "give either --wait=TIME or --timeout, not both".to_owned(),
                hint: String::new(),
            });
        }
        (None, Some(None)) => return Ok(WaitLimit::Forever),
        (None, None) => default_timeout().map_err(convert_error)?,
        (timeout, limit) => timeout.or(limit.flatten()),
    };
    Ok(timeout.map_or(WaitLimit::NoWait, |timeout| WaitLimit::Until(Moment::now().plus(timeout))))
}

/// Reads the options for the mode.
pub(super) fn read_sharing(options: &SharingOptions) -> Sharing {
    match options {
        SharingOptions { slots: Some(number), .. } => Sharing::Slots(*number),
        SharingOptions { shared: true, .. } => Sharing::Shared,
        SharingOptions { .. } => Sharing::Exclusive,
    }
}

/// Describes the process that will hold a lease.
pub(super) fn describe_owner(pid: u32, command: Option<String>, who: Option<&str>) -> LeaseOwner {
    LeaseOwner {
        host: host_name().to_owned(),
        pid,
        user: process::user_name(user_id()),
        command: command.unwrap_or_else(|| process::command_line(pid)),
        who: who.map(str::to_owned),
        since: format!("{:.0}", jiff::Timestamp::now()),
    }
}

/// The fault for a command that cannot be run.
pub(super) fn not_run(command: &str, error: &io::Error) -> Fault {
    let found = error.kind() != io::ErrorKind::NotFound;
    Fault::NotRun { command: command.to_owned(), found, reason: aba_lock::base::text::format_io_error(error) }
}
