//! Leases at the lock service, through its REST interface.
//!
//! NAME is the `service` of a lock without environment and resource. The service keeps the queue: a waiter is an open
//! request, and leaves the queue when its connection is closed. Each acquisition has a unique `eventId`, which finds
//! the lock if the answer was lost.
//!
//! # Lost answers
//!
//! | the lost answer | what happens |
//! |---|---|
//! | to a request for a lock, which is then sent again, to the same or to the next endpoint | the service answers that a lock with our event id is held: it is ours |
//! | to a request that is not sent again, because we were refused or have waited long enough | a lock with our event id is released |
//! | to a waiting request, on a connection that stays open | during the wait, another connection searches for a lock with our event id, at least three times in the time to live |
//! | to a waiting request, and these searches failed for the whole time to live | the lease has ended; if the next two searches find the name free, we send the request again |
//!
//! An answer is from the service if it contains an id or locks, or the code of a refusal. Any other answer (the page of
//! a proxy, for example) has neither granted nor ended a lease.

pub(crate) mod answer;
pub(crate) mod client;
