//! The store in an etcd cluster, which several services share. Each of them may be killed at any time: everything that
//! must survive a service is in etcd, and the services do not know each other.
//!
//! A lock is granted by one transaction, which fails if the lock is held or if another caller waits for it. A lock that
//! shares its name with others (`mode`, `slots`) has a key of its own: the service reads the holders, decides with the rule
//! in `aba_lock_protocol::sharing`, and the transaction fails if a holder was added since. Holders that were removed since
//! leave more room, so they do no harm.
//!
//! A waiter has a key of its own in the queue of the lock; the order in which etcd created these keys is the order of the
//! queue. The first waiter acquires the lock and leaves the queue in one transaction. Leases of etcd end locks with a
//! time to live, and the queue entries of a service that has gone.
//!
//! A fencing token is the sum of a base, stored with the lock, and the revision at which etcd created the key of the
//! lock. Both only grow.
//!
//! # If a process is killed
//!
//! | process, moment | consequence | recovery |
//! |---|---|---|
//! | service, before its transaction | a lease without keys remains | the lease expires |
//! | service, while etcd still has its transaction to execute | its epoch key (`epoch`) remains for some seconds | after that, the transaction fails |
//! | service, after its transaction, before the answer | the caller does not know that it holds the lock | the lock ends with its lease, if it has one; otherwise `list` shows it with its `eventId` |
//! | service, while callers wait | their queue entries remain | the entries end with the lease of the service some seconds later; until then, the waiters after them wait |
//! | etcd's leader | a request is not answered | the service asks the next endpoint, and a late execution of the first request fails (`epoch`); a caller that finds its own id in the key holds the lock |
//! | all of etcd | no request is answered | callers get 503; locks that may have been granted are taken back as soon as etcd answers |
//! | etcd's leader, while leases run | | the new leader gives each lease its full time to live |
//!
//! # Interleavings of shared locks and slots
//!
//! | event | consequence |
//! |---|---|
//! | A and B read that one slot is free, and both send their transactions | etcd executes one first, which creates a key. The other transaction fails its comparison, and its service reads again |
//! | a service is killed between the read and the transaction | as before the read: nothing was written |
//! | a transaction is in doubt, is sent again, and has been executed | it fails, because its own key exists; the read shows that key, with the slot that it got |
//! | a holder expires between the read and the transaction | the request was decided with one holder too many: at worst it waits, and the deletion of the key wakes it |
//! | a shared lock is granted while an exclusive waiter joins the queue | the order of etcd decides: the grant fails if the queue entry came first |
//! | a client is stopped, its lock expires, and it continues | its id does not exist any more, so its renewal and its release get 404, also if the slot has another holder |
//! | an older service, which does not know keys of shared locks, uses the same cluster | a shared lock is refused while such a service runs (`epoch`). Do not start an older one while shared locks are held |
//!
//! # Modules
//!
//! `rpc`, `request` and `client` talk to etcd; `keys` and `record` are the format of the data; `epoch` and `token_base`
//! keep the two values that transactions compare. `cluster` holds the state of the service; `watch` follows the changes of the cluster, and
//! `mirror` derives the events from them; `change`, `cleanup` and
//! `acquire` implement the operations on it; `history` keeps the locks that have ended; `store` is the interface to the rest of the service.

pub(crate) mod store;

mod acquire;
mod change;
mod cleanup;
mod client;
mod cluster;
mod epoch;
mod history;
mod keys;
mod mirror;
mod record;
mod request;
mod rpc;
mod tasks;
mod token_base;
mod watch;
