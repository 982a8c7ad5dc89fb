//! The REST API: `server` serves its connections, `handlers` routes and answers the calls, `request` identifies their
//! callers, `state` checks and records calls, `body`, `query` and `json` read requests and write answers, `events` writes the
//! stream of events, `terraform` speaks the protocol of Terraform, and `page` is the web page.

pub(crate) mod handlers;
pub(crate) mod server;
pub(crate) mod state;

mod body;
mod events;
mod json;
mod page;
mod query;
mod request;
mod terraform;
