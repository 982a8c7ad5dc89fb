//! Names of JSON members in requests and answers.

pub const ID: &str = "id";
pub const SERVICE: &str = "service";
pub const ENVIRONMENT: &str = "environment";
pub const RESOURCE: &str = "resource";
/// The text that describes the holder, or in a queue the waiter.
pub const WHO: &str = "who";
/// An id that the client chooses: it finds its lock by this id if an answer is lost.
pub const EVENT_ID: &str = "eventId";
/// The time to live, a span: see [`crate::span`].
pub const TTL: &str = "ttl";
/// The longest time that a request waits for the lock, a span.
pub const WAIT: &str = "wait";
/// In a request, the mode: [`SHARED`] or [`EXCLUSIVE`]. In an answer, only of a shared lock.
pub const MODE: &str = "mode";
/// The number of slots of the lock: at most this number of holders have it at the same time.
pub const SLOTS: &str = "slots";
/// The number of the slot of a holder, counted from 1.
pub const SLOT: &str = "slot";
pub const CREATED_AT: &str = "createdAt";
pub const EXPIRES_AT: &str = "expiresAt";
pub const FENCING_TOKEN: &str = "fencingToken";
/// In the answer to a request for a lock, if the service has a token file: permits other callers to release the lock.
pub const SECRET: &str = "secret";
/// The waiters of a lock, in their order.
pub const QUEUE: &str = "queue";
/// The locks of a list.
pub const LOCKS: &str = "locks";
/// The reason for a refusal: see [`crate::code`].
pub const CODE: &str = "code";
/// The sentence of a refusal.
pub const MESSAGE: &str = "message";
/// In a refusal: the lock that is held instead.
pub const EXISTING_LOCK: &str = "existingLock";

/// The value of [`MODE`] for a lock that any number of callers hold.
pub const SHARED: &str = "shared";
/// The value of [`MODE`] for a lock that one caller holds alone, as without the member.
pub const EXCLUSIVE: &str = "exclusive";

/// The parameter of [`crate::path::LOCK_LIST`] that selects locks by their event id.
pub const EVENT_ID_PARAMETER: &str = "event_id";
