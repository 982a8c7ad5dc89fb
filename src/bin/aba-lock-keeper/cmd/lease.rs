//! The commands of `aba-lock lease` for users: leases without a keeper.

use crate::args::{AcquireArgs, ListArgs, ReleaseArgs, RenewArgs, ShowArgs};
use crate::cancellation::Cancellation;
use crate::cmd::convert::{check_name, describe_owner, read_sharing, read_wait_limit};
use crate::cmd::progress::WaitProgress;
use crate::fault::Fault;
use crate::lease::LeaseRequest;
use crate::os::signal::BlockedSignals;
use crate::server::connect;
use crate::settings::{self, Settings};
use crate::{exit, output};

/// Acquires a lease, and prints its id.
pub(crate) fn acquire(args: &AcquireArgs) -> Result<i32, Fault> {
    let name = check_name(&args.name)?;
    let settings = Settings::read(args.at.server.as_deref())?;
    if !args.quiet {
        output::warn_of_exposures(&settings);
    }
    let ttl = settings::read_ttl(args.ttl)?;
    // The owner is our parent, because that is the process that users know in a step of a CI job.
    let owner = describe_owner(aba_lock::os::parent_id(), None, args.who.as_deref());
    let blocked = BlockedSignals::block();
    let cancellation = Cancellation::begin(&settings);
    let mut progress = WaitProgress::new(&settings, name, &cancellation.pending, args.quiet);
    let (limit, sharing) = (read_wait_limit(&args.wait)?, read_sharing(&args.sharing));
    let request = LeaseRequest { name, ttl, owner: &owner, limit, kept: false, sharing };
    let mut server = connect::connect(&settings)?;
    let lease = server.acquire(&request, &mut progress)?;
    // Until the id is printed, a signal gives the lease back, because no other process knows the id.
    let printed = output::print_lease(settings.label(), &lease, args.json);
    cancellation.end();
    blocked.restore();
    let Err(error) = printed else { return Ok(exit::DONE) };
    let is_given_back = server.release(&lease.id).is_ok();
    let end = if is_given_back { "the lease was released" } else { "the lease stays until it expires" };
    let reason = aba_lock::base::text::format_io_error(&error);
    Err(Fault::Failed { what: format!("cannot print the id of the lease on {name}: {reason}; {end}"), hint: None })
}

pub(crate) fn renew(args: &RenewArgs) -> Result<i32, Fault> {
    let mut server = connect::connect(&Settings::read(args.at.server.as_deref())?)?;
    let mut lease = server.find_lease(&args.lease)?;
    server.renew(&mut lease)?;
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
