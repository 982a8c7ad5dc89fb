//! The commands of `aba-lock lease` for users: leases without a keeper.
//!
//! # Killed processes
//!
//! | event during `acquire` | what happens |
//! |---|---|
//! | a signal during the wait, or until the id is stored and the lease has its whole time to live | the place in the queue or the lease is given back, and the signal ends this process (see [`crate::cancellation`]) |
//! | a signal after that, before the last look for one | the lease is given back, and the signal ends this process: the caller does not use the id of a call that has failed |
//! | a signal after that look | it stays blocked until the end. The call has succeeded, and the caller has the lease |
//! | the parent ends during the wait | as for SIGTERM, because no process may be left that releases the lease |
//! | SIGKILL during the wait | as for `lease run` (`run`) |
//! | SIGKILL after the server has granted the lease, and before its id is stored | a lock service has granted the lease for at most 30 s, so it ends soon. etcd cannot change the time of a lease: it lasts for `--ttl` |
//! | SIGKILL after the id is stored, and before the lease has its whole time to live | the lease ends soon, or another step releases it |
//! | the id cannot be stored, or the time to live not be extended | the lease is released, and the call fails |

use crate::args::{AcquireArgs, ListArgs, ReleaseArgs, RenewArgs, ShowArgs};
use crate::cancellation::Cancellation;
use crate::cmd::convert::{CheckedRequest, check_name, check_request, describe_owner};
use crate::cmd::progress::WaitProgress;
use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest};
use crate::os::signal::{self, BlockedSignals};
use crate::server::connect;
use crate::settings::Settings;
use crate::{exit, output};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Acquires a lease, and prints its id.
pub(crate) fn acquire(args: &AcquireArgs) -> Result<i32, Fault> {
    let options = &args.request;
    let CheckedRequest { name, settings, ttl, limit, sharing } = check_request(options)?;
    let file = args.output.as_deref().map(open_output).transpose()?;
    // The owner is our parent, because that is the process that users know in a step of a CI job.
    let parent = aba_lock::os::parent_id();
    let owner = describe_owner(parent, None, options.who.as_deref());
    let blocked = BlockedSignals::block();
    let cancellation = Cancellation::begin(&settings, Some(parent));
    let progress = WaitProgress::new(&settings, name, &cancellation.pending, options.quiet);
    let mut server = connect::connect(&settings)?;
    // If this process is killed before the id is stored, no process can release the lease.
    let first_ttl = server.first_ttl(ttl);
    let request = LeaseRequest { name, ttl: first_ttl, owner: &owner, limit, kept: false, sharing };
    let acquired = server.acquire(&request, &mut progress.repeat_after(options.progress));
    // Until the end, a signal gives the lease back, because the caller does not use the id of a call that has failed.
    let done = acquired.and_then(|mut lease| {
        let label = settings.label();
        let stored = match &file {
            Some(file) => output::append_lease(file, &lease),
            None => output::print_lease(label, &Lease { ttl: ttl.max(lease.ttl), ..lease.clone() }, args.json),
        };
        if let Err(error) = stored {
            let is_given_back = server.release(&lease.id).is_ok();
            return Err(not_stored(name, args.output.as_deref(), &error, is_given_back));
        }
        if first_ttl < ttl {
            server.extend(&mut lease, ttl).inspect_err(|_| {
                let _ = server.release(&lease.id);
            })?;
        }
        Ok(lease)
    });
    cancellation.end();
    let lease = done?;
    // From here on, signals stay blocked: the call either fails and leaves no lease, or succeeds.
    if let Some(signal) = blocked.find_pending() {
        let _ = server.release(&lease.id);
        signal::die_of_signal(signal);
    }
    Ok(exit::DONE)
}

/// The fault for an id that no process can read.
fn not_stored(name: &str, path: Option<&Path>, error: &io::Error, is_given_back: bool) -> Fault {
    let end = if is_given_back { "the lease was released" } else { "the lease stays until it expires" };
    let reason = aba_lock::base::text::format_io_error(error);
    let what = match path {
        Some(path) => format!("cannot write the id of the lease on {name} to {}: {reason}; {end}", path.display()),
        None => format!("cannot print the id of the lease on {name}: {reason}; {end}"),
    };
    Fault::Failed { what, hint: None }
}

/// Opens the file of `--output` before the wait, so that a wrong path is reported at once.
fn open_output(path: &Path) -> Result<File, Fault> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|error| Fault::Failed {
        what: format!("cannot open {}: {}", path.display(), aba_lock::base::text::format_io_error(&error)),
        hint: None,
    })
}

pub(crate) fn renew(args: &RenewArgs) -> Result<i32, Fault> {
    connect::connect(&Settings::read(args.at.server.as_deref())?)?.renew_by_id(&args.lease)?;
    Ok(exit::DONE)
}

pub(crate) fn release(args: &ReleaseArgs) -> Result<i32, Fault> {
    connect::connect(&Settings::read(args.at.server.as_deref())?)?.release(&args.lease)?;
    Ok(exit::DONE)
}

pub(crate) fn show(args: &ShowArgs) -> Result<i32, Fault> {
    let name = check_name(&args.name)?;
    let settings = Settings::read(args.at.server.as_deref())?;
    let queue = connect::connect(&settings)?.read_queue(Some(name))?;
    output::print_queue(settings.label(), name, &queue, args.json);
    Ok(if queue.is_empty() { exit::NO } else { exit::DONE })
}

pub(crate) fn list(args: &ListArgs) -> Result<i32, Fault> {
    let settings = Settings::read(args.at.server.as_deref())?;
    let entries = connect::connect(&settings)?.read_queue(None)?;
    output::print_queues(settings.label(), &entries, args.json);
    Ok(exit::DONE)
}
