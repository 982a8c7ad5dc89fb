//! The commands of `aba-lock lease` for users: leases without a keeper.
//!
//! # Killed processes
//!
//! | event during `acquire` | what happens |
//! |---|---|
//! | a signal, until the end of the call | the place in the queue or the lease is given back |
//! | SIGKILL during the wait | as for `lease run` (`run`) |
//! | SIGKILL after the server has granted the lease, and before its id is stored | a lock service has granted the lease for at most 30 s, so it ends soon. etcd cannot change the time of a lease: it lasts for `--ttl` |
//! | SIGKILL after the id is stored, and before the lease has its whole time to live | the lease ends soon, or another step releases it |
//! | the id cannot be stored, or the time to live not be extended | the lease is released, and the call fails |

use crate::args::{AcquireArgs, ListArgs, ReleaseArgs, RenewArgs, ShowArgs};
use crate::cancellation::Cancellation;
use crate::cmd::convert::{check_name, describe_owner, read_sharing, read_wait_limit};
use crate::cmd::progress::WaitProgress;
use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest};
use crate::os::signal::BlockedSignals;
use crate::server::connect;
use crate::settings::{self, Settings};
use crate::{exit, output};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Acquires a lease, and prints its id.
pub(crate) fn acquire(args: &AcquireArgs) -> Result<i32, Fault> {
    let name = check_name(&args.name)?;
    let settings = Settings::read(args.at.server.as_deref())?;
    if !args.quiet {
        output::warn_of_exposures(&settings);
    }
    let ttl = settings::read_ttl(args.ttl)?;
    let file = args.output.as_deref().map(open_output).transpose()?;
    // The owner is our parent, because that is the process that users know in a step of a CI job.
    let owner = describe_owner(aba_lock::os::parent_id(), None, args.who.as_deref());
    let blocked = BlockedSignals::block();
    let cancellation = Cancellation::begin(&settings);
    let progress = WaitProgress::new(&settings, name, &cancellation.pending, args.quiet);
    let (limit, sharing) = (read_wait_limit(&args.wait)?, read_sharing(&args.sharing));
    let mut server = connect::connect(&settings)?;
    // If this process is killed before the id is stored, no process can release the lease.
    let first_ttl = server.first_ttl(ttl);
    let request = LeaseRequest { name, ttl: first_ttl, owner: &owner, limit, kept: false, sharing };
    let mut lease = server.acquire(&request, &mut progress.repeat_after(args.progress))?;
    // Until the end, a signal gives the lease back, because the caller does not use the id of a call that has failed.
    let stored = match file {
        Some(file) => output::append_lease(&file, &lease),
        None => output::print_lease(settings.label(), &Lease { ttl: ttl.max(lease.ttl), ..lease.clone() }, args.json),
    };
    let done = match stored {
        Err(error) => {
            let is_given_back = server.release(&lease.id).is_ok();
            let end = if is_given_back { "the lease was released" } else { "the lease stays until it expires" };
            let reason = aba_lock::base::text::format_io_error(&error);
            let what = match &args.output {
                Some(path) => {
                    format!("cannot write the id of the lease on {name} to {}: {reason}; {end}", path.display())
                }
                None => format!("cannot print the id of the lease on {name}: {reason}; {end}"),
            };
            Err(Fault::Failed { what, hint: None })
        }
        Ok(()) if first_ttl < ttl => server.extend(&mut lease, ttl).inspect_err(|_| {
            let _ = server.release(&lease.id);
        }),
        Ok(()) => Ok(()),
    };
    cancellation.end();
    blocked.restore();
    done.map(|()| exit::DONE)
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
