//! Leases in etcd, through the JSON gateway (`/v3/…`, etcd 3.4 and newer), with a recipe over etcd's primitives.
//!
//! A process that wants NAME creates an etcd lease with a number of its own choice, and puts the key `NAME/<number in
//! hex>` under it, unless that key exists. The keys of a name are its queue, in the order of their create revisions.
//! The owner of the first key holds the lock, and the create revision is the fencing token. `etcdctl lock` and Go's
//! `concurrency.Mutex` create the same keys in the same order, so they share the queue. The server's own Lock call is
//! not used: the one of etcd 3.4 grants the lock to a waiter whose lease has expired. A key below `NAME/` whose name is
//! not the number of its lease is not part of the queue, because the cluster may have other uses.
//!
//! # Lost answers, killed processes and stopped servers
//!
//! | event | what it leaves | what happens |
//! |---|---|---|
//! | the answer to the grant is lost | a lease with our number | the second grant fails with "already exists": the lease is ours, because no other process can guess the number |
//! | the answer to the put is lost | our key | the second put fails its comparison, and the `else` branch reads our key |
//! | we are killed after the grant | a lease without a key | it expires |
//! | we are killed in the queue | a key before others | it is deleted with the lease, and the watchers are notified |
//! | we are stopped in the queue until the lease has expired | nothing | the claim reads our key and the first key of the queue in one transaction: our key is gone, and we join the queue again |
//! | the watched server dies, or an event is lost | | a watch lasts for at most 5 s; then we read the queue again |
//! | the leader is stopped and continues later | it renews leases that the next leader lets expire (3.4, 3.5) | a renewal counts only if a read that a majority confirms afterwards has the same raft term |
//! | the same | it revokes leases that were renewed at the next leader, because it believes that they have expired (seen with 3.4.23) | the mark prevents two holders, see [`mark`] |
//! | all servers are gone | | nothing is granted or renewed; the deadline on this machine passes before the lease ends there |
//!
//! Users of etcd that may use a name need permissions for the prefix `NAME`: for the keys of its queue, and for its
//! mark.

pub(crate) mod cluster;
pub(crate) mod gateway;
pub(crate) mod json;
pub(crate) mod mark;
pub(crate) mod queue;
pub(crate) mod renewal;
pub(crate) mod server;
