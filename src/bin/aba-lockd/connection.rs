//! Connections from clients, plain or TLS, for REST and gRPC alike.
//!
//! `listener` accepts them, within the limits of `limits`; each becomes a `stream` on a `socket`, and `peer` is its
//! client.
//!
//! A connection without a permitted call is closed ten seconds after it was accepted, or after two seconds if most
//! connections were in use already. Clients that connect and send nothing, half a request, or only calls that are
//! refused can therefore block others no longer than that. When the service stops, it waits one second for them.

pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod peer;
pub(crate) mod stream;

mod socket;
