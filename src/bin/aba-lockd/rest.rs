//! The REST API: `server` serves its connections, `handlers` routes and answers the calls, `request` identifies their
//! callers, `state` checks and records calls, `body` and `json` read requests and write answers, `terraform` speaks the
//! protocol of Terraform, and `page` is the web page.

pub(crate) mod handlers;
pub(crate) mod server;
pub(crate) mod state;

mod body;
mod json;
mod page;
mod request;
mod terraform;
