//! The store in an etcd cluster, which several services share. Each of them may be killed at any time: everything that
//! must survive a service is in etcd, and the services do not know each other.
//!
//! A lock is granted by one transaction, which fails if the lock is held or if another caller waits for it. A
//! waiter has a key of its own in the queue of the lock; the order in which etcd created these keys is the order of the
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
//! # Modules
//!
//! `rpc`, `request` and `client` talk to etcd; `keys` and `record` are the format of the data; `epoch` and `token_base`
//! keep the two values that transactions compare. `cluster` holds the state of the service; `change`, `cleanup` and
//! `acquire` implement the operations on it; `store` is the interface to the rest of the service.

pub(crate) mod store;

mod acquire;
mod change;
mod cleanup;
mod client;
mod cluster;
mod epoch;
mod keys;
mod record;
mod request;
mod rpc;
mod tasks;
mod token_base;
