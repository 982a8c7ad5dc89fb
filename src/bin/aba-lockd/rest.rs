//! The REST API: `server` serves its connections, `handlers` routes and answers the calls, `request` identifies their
//! callers, and `body` and `json` read requests and write answers.

pub(crate) mod handlers;
pub(crate) mod server;

mod body;
mod json;
mod request;
