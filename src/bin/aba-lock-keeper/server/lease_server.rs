//! The interface to a server, which the clients of both kinds of servers implement.

use crate::fault::Fault;
use crate::lease::{Lease, LeaseRequest, QueueEntry};
use aba_lock_protocol::sharing::Sharing;
use std::time::Duration;

/// Observes an acquisition.
pub(crate) trait WaitObserver {
    /// Notes that a lease or a place in a queue with this id may exist at the server from now on. It must be released
    /// if the acquisition fails.
    fn note_id(&mut self, id: &str);
    /// Reports that another process holds the lease, and that the acquisition waits.
    fn report_wait(&mut self, holder: &QueueEntry);
    /// Reports that no server answers, and that the acquisition tries again.
    fn report_silence(&mut self, what: &str);
}

/// A server that grants leases.
pub(crate) trait LeaseServer {
    /// Waits in the queue for the lease. If it fails, it gives back whatever it got.
    fn acquire(&mut self, request: &LeaseRequest, observer: &mut dyn WaitObserver) -> Result<Lease, Fault>;
    /// Renews a lease. [`Fault::Gone`]: the lease is lost.
    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault>;
    /// Returns the time to live with which a lease is created if its id must be stored before it gets the whole time by
    /// [`Self::extend`]. Then the lease of a process that is killed in between ends soon.
    fn first_ttl(&self, ttl: Duration) -> Duration;
    /// Gives a lease this time to live, from now on.
    fn extend(&mut self, lease: &mut Lease, ttl: Duration) -> Result<(), Fault>;
    /// Gives the name to the next process in the queue. Succeeds if the lease does not exist any more.
    fn unlock(&mut self, id: &str) -> Result<(), Fault>;
    /// Removes the rest of a lease after [`Self::unlock`]. That rest blocks no other process.
    fn clean_up(&mut self, id: &str) -> Result<(), Fault>;
    /// Gives a lease back completely.
    fn release(&mut self, id: &str) -> Result<(), Fault> {
        self.unlock(id)?;
        self.clean_up(id)
    }
    /// Renews the lease with this id, which another process acquired.
    fn renew_by_id(&mut self, id: &str) -> Result<(), Fault>;
    /// Returns the queue of a name, or of all names. The holder comes first.
    fn read_queue(&mut self, name: Option<&str>) -> Result<Vec<QueueEntry>, Fault>;
    /// Counts the processes that hold the lock together with this one, for messages. An exclusive lock has no others.
    fn count_holders(&mut self, holder: &mut QueueEntry) {
        if holder.sharing != Sharing::Exclusive
            && let Ok(queue) = self.read_queue(Some(&holder.name))
        {
            holder.count_holders(&queue);
        }
    }
}
