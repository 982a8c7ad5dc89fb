//! Reads the token file and the certificates again when the service receives SIGHUP.
//!
//! The tokens are replaced as a whole, and so are the certificates. If the new ones cannot be used, the old ones stay
//! in force, and the log says why.
//!
//! Tokens are checked for each call, so the service refuses a removed token at once. New certificates are used for new
//! connections; open connections stay open.

use crate::access::AccessPolicy;
use crate::args::ServeOptions;
use crate::error::StartError;
use crate::{report, tls, token_file};
use rustls::ServerConfig;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) struct Reloader {
    pub(crate) options: Arc<ServeOptions>,
    pub(crate) access: Arc<AccessPolicy>,
    pub(crate) tls: Option<watch::Sender<Arc<ServerConfig>>>,
}

impl Reloader {
    /// Reads the files again and logs the result. Blocks.
    pub(crate) fn reload(&self) {
        let (mut done, mut has_failed) = (Vec::new(), false);
        let mut log_failure = |error: &StartError| {
            has_failed = true;
            report::log_message(
                "error",
                "not_reloaded",
                &format!("{}; the previous version stays in use", error.message),
            );
        };
        if let Some(file) = &self.options.token_file {
            match token_file::read(file, self.options.tls_client_ca.is_some()) {
                Ok(tokens) => {
                    self.access.replace_tokens(tokens);
                    done.push("tokens");
                }
                Err(error) => log_failure(&error),
            }
        }
        if let Some(tls) = &self.tls {
            match tls::load_config(&self.options) {
                Ok(Some(config)) => {
                    tls.send_replace(config);
                    done.push("certificates");
                }
                Ok(None) => (),
                Err(error) => log_failure(&error),
            }
        }
        if !has_failed || !done.is_empty() {
            report::log_event("info", "reloaded", [("files", Value::from(done))]);
        }
    }
}
