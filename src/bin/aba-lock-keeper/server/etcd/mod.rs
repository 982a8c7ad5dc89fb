//! Leases in an etcd cluster. This client acquires, renews and gives back the lease of a lock, with requests to etcd's
//! JSON gateway (`/v3/…`, etcd 3.4 and newer). The commands and the keeper use it through `lease_server`.
//!
//! A process that wants the lock NAME creates an etcd lease with a random number, and puts the key
//! `NAME/<number in hex>` under that lease, unless the key exists. The keys of a name are its queue, in the order of
//! their create revisions. The process whose key is first holds the lock; if it shares the lock, so do the next ones that may
//! ([`share`]). The holder takes its fencing token from a counter ([`token`]). If a keeper will renew the lease, the process first **claims** the lock: it creates a second key, the
//! mark of the holder ([`mark`]).
//!
//! `etcdctl lock` and Go's `concurrency.Mutex` create the same keys in the same order, so they share the queue. etcd's
//! own Lock call is not used: in etcd 3.4 it grants the lock to a waiter whose lease has expired. The cluster may have
//! other uses, so a key below `NAME/` whose name is not the number of its lease is not part of the queue.
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
//! | the leader is stopped and continues later | it revokes leases that were renewed at the next leader, because it believes that they have expired (seen with 3.4.23) | the mark prevents two holders, see [`mark`] |
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
pub(crate) mod share;
pub(crate) mod token;
