//! The local locks that the helper hands over to this program.

use crate::binding::{self, Binding};
use crate::fault::Fault;
use crate::lease::WaitLimit;
use crate::lease_note::{self, LeaseNote};
use crate::settings::Settings;
use aba_lock::os::proc::process;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

/// A local lock that the helper holds.
#[derive(Debug)]
pub(super) struct LocalLock {
    pub(super) name: String,
    pub(super) fd: i32,
    /// The token of the acquisition, which determines the binding.
    token: u64,
    /// True if the helper has just acquired the lock; false if the script or one of its ancestors already held it.
    pub(super) is_fresh: bool,
    pub(super) file: File,
    /// True if this process has acquired a lease for the lock.
    is_bound: AtomicBool,
}

impl LocalLock {
    /// Parses NAME/DESCRIPTOR/TOKEN/fresh or NAME/DESCRIPTOR/TOKEN/held. `number` is a random number, for the binding of a
    /// shared lock.
    pub(super) fn parse(text: &str, number: u64) -> Option<Self> {
        let mut words = text.split('/');
        let (name, fd) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let token = words.next()?.parse().ok()?;
        let is_fresh = words.next()? == "fresh";
        let file = aba_lock::os::second_descriptor(fd)?;
        // A lock that was already held keeps the token of its acquisition, which is in the record.
        let recorded = lease_note::read_record(&file).map(|record| record.token);
        let token = recorded.filter(|recorded| !is_fresh && *recorded != 0).unwrap_or(token);
        // The holders of a shared lock have the same token, and the record is that of the last one.
        let token = match binding::is_shared(&file) {
            true if is_fresh => number,
            true => Binding::find_shared(&file).map_or(number, Binding::token),
            false => token,
        };
        Some(Self { name, fd, token, is_fresh, file, is_bound: AtomicBool::new(false) })
    }

    pub(super) fn binding(&self) -> Binding {
        Binding::from_token(self.token)
    }

    /// Returns true if the lock was already held, and a keeper keeps a lease for it.
    pub(super) fn has_keeper(&self) -> bool {
        !self.is_fresh && self.binding().has_keeper(&self.file).unwrap_or(false)
    }

    /// Checks that the lock may get a lease: this script must have acquired the lock, now or earlier. If an ancestor of
    /// the script had acquired it, the lease would outlast the script.
    pub(super) fn check_acquirer(&self, script: Option<u32>) -> Result<(), Fault> {
        if !self.is_fresh && binding::is_shared(&self.file) && aba_lock::os::owner(&self.file) == script {
            return Ok(());
        }
        let record = lease_note::read_record(&self.file).filter(|_| !binding::is_shared(&self.file));
        let acquirer = record.map(|record| (record.pid, record.tick));
        if self.is_fresh || acquirer.is_some_and(|(pid, tick)| Some(pid) == script && process::is_alive(pid, tick)) {
            return Ok(());
        }
        let by = acquirer.map(|(pid, _)| format!(", by pid {pid}")).unwrap_or_default();
        Err(Fault::Failed {
            what: format!("{} is already held on this machine without a lease{by}", self.name),
            hint: Some(
                "use the server in the script that holds the lock, too, or use no server here: `--server=`".to_owned(),
            ),
        })
    }

    /// Returns the note of the lease that the lock already has, if that lease is at this server.
    pub(super) fn find_note_at(&self, settings: &Settings) -> Result<LeaseNote, Fault> {
        let Some(note) = LeaseNote::read(&self.file) else {
            return Err(Fault::Failed {
                what: format!("{} has a lease, but its lock file does not name the lease", self.name),
                hint: Some(
                    "release the lock, and acquire it again; another program may have overwritten the lock file"
                        .to_owned(),
                ),
            });
        };
        if settings.is_at(&note.server) {
            return Ok(note);
        }
        Err(Fault::Failed {
            what: format!(
                "{} already has a lease at {}, and cannot get one at {}",
                self.name,
                note.server,
                settings.label()
            ),
            hint: Some("use the same server, or another name".to_owned()),
        })
    }

    /// Binds the new lease to the script.
    pub(super) fn bind_script(&self) -> Result<(), Fault> {
        self.is_bound.store(true, Ordering::SeqCst);
        self.binding().bind_script(&self.file).map_err(|error| Fault::Failed {
            what: format!(
                "cannot bind the lease on {} to descriptor {}: {}",
                self.name,
                self.fd,
                aba_lock::base::text::format_io_error(&error)
            ),
            hint: Some("set ABA_LOCK_DIR to a writable directory on a local disk".to_owned()),
        })
    }
}

/// Releases everything that this call has acquired: the leases, and then the local locks. Calls `give_back` while the
/// keepers give the leases back.
pub(super) fn release_all(locks: &[LocalLock], give_back: &mut dyn FnMut()) {
    let is_bound = |lock: &&LocalLock| lock.is_bound.load(Ordering::SeqCst);
    // All scripts are unbound first, so that the keepers give their leases back at the same time.
    for lock in locks.iter().filter(is_bound) {
        let _ = binding::unbind_script(&lock.file);
    }
    give_back();
    for lock in locks.iter().filter(is_bound) {
        if binding::is_shared(&lock.file) {
            lock.binding().wait_for_return(&lock.file);
        } else {
            binding::wait_until_returned(&lock.file, WaitLimit::Forever);
        }
    }
    for lock in locks.iter().filter(|lock| lock.is_fresh) {
        let _ = aba_lock::lock::release::release_descriptor(lock.fd, None);
    }
}
