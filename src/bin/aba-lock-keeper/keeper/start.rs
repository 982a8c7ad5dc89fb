//! The start of a keeper, by the process that has acquired the lease.

use crate::fault::Fault;
use crate::keeper::kept_lease::KeptLease;
use crate::keeper::processes::Keeper;
use crate::keeper::shared_state::SharedState;
use crate::lease::Lease;
use crate::lease_note;
use crate::os::signal::BlockedSignals;
use crate::os::{descriptor, signal};
use crate::server::lease_server::LeaseServer;
use crate::server::retry::PAUSE;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

/// Gives a lease its whole time to live, after it was created with a shorter one ([`LeaseServer::first_ttl`]), and its keeper was
/// started. If this process is killed before it has a keeper, the lease ends soon.
///
/// The keeper may renew the lease at the same time. The answer to its request may have the shorter time, which it then stores
/// although the lease lives longer; its next renewal stores the whole time.
pub(crate) fn extend_lease(
    server: &mut dyn LeaseServer,
    lease: &mut Lease,
    ttl: Duration,
    shared: SharedState,
    blocked: &BlockedSignals,
) -> Result<(), Fault> {
    if server.first_ttl(ttl) == ttl {
        return Ok(());
    }
    loop {
        match server.extend(lease, ttl) {
            Ok(()) => {
                shared.store_renewal(lease);
                return Ok(());
            }
            // The service may be restarting. When the keeper reports the loss, it is too late.
            Err(Fault::Unreachable { .. }) if !shared.reported_at().is_past() && blocked.find_pending().is_none() => {
                thread::sleep(PAUSE);
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Starts a keeper for the processes that have `fd` open. The keeper runs when this function returns. This process must
/// have no other thread that holds a lock of the C library. Returns the state that the keeper writes.
pub(crate) fn start_keeper(kept: &KeptLease, fd: RawFd) -> Result<SharedState, Fault> {
    let failed = |error: io::Error| Fault::Failed {
        what: format!(
            "cannot start a keeper for the lease on {}: {}",
            kept.lease.name,
            aba_lock::base::text::format_io_error(&error)
        ),
        hint: None,
    };
    let (mut receiver, sender) = io::pipe().map_err(failed)?;
    let shared = SharedState::new().map_err(failed)?;
    let keeper_lease = kept.clone();
    let note = lease_note::format_shared_note(kept.settings.label(), kept.binding, &kept.lease);
    let note = note.map(|text| descriptor::create_note(&text)).transpose().map_err(failed)?;
    // The parent's copy of the sender is dropped with the closure.
    aba_lock::os::detached(&[], move || {
        signal::ignore_ending_signals();
        let opened = descriptor::reopen(fd).and_then(|file| descriptor::keep_only(file, sender, note));
        let Ok((file, mut sender)) = opened else { return };
        // This fails if the user may not write to the file.
        if !keeper_lease.binding.lock_keeper_byte(&file).unwrap_or(false) {
            return;
        }
        shared.store_renewal(&keeper_lease.lease);
        if sender.write_all(&[1]).is_ok() {
            drop(sender);
            Keeper::new(keeper_lease, file, shared).guard();
        }
    })
    .map_err(failed)?;
    match receiver.read_exact(&mut [0]) {
        Ok(()) => Ok(shared),
        Err(_) => Err(Fault::Failed {
            what: format!("cannot start a keeper for the lease on {}: it ended at once", kept.lease.name),
            hint: Some(
                "the keeper must be able to write to the lock file: check its owner and mode with `ls -l`".to_owned(),
            ),
        }),
    }
}
