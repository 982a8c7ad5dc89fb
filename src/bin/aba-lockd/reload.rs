//! The files that the service reads when it starts, and again at SIGHUP: tokens and certificates.
//!
//! A new file takes effect as a whole, or, if it cannot be used, not at all: then what was read before stays in force, and
//! the log says why. Calls are checked against the tokens of the moment, so a token that was removed is refused from then on;
//! certificates are for new connections, and connections that are open stay.

use crate::access::{Access, Tokens};
use crate::args::Serve;
use crate::lifecycle::Failure;
use crate::{report, tls};
use rustls::ServerConfig;
use serde_json::{Map, Value};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// The state that may change while the service runs.
pub(crate) struct Reloader {
    args: Arc<Serve>,
    access: Arc<Access>,
    certificates: Option<watch::Sender<Arc<ServerConfig>>>,
}

impl Reloader {
    pub(crate) fn new(
        args: Arc<Serve>,
        access: Arc<Access>,
        certificates: Option<watch::Sender<Arc<ServerConfig>>>,
    ) -> Self {
        Self { args, access, certificates }
    }

    /// Reads the files again, and logs what came of it. It may block.
    pub(crate) fn reload(&self) {
        let (mut done, mut has_failed) = (Vec::new(), false);
        let mut failed = |failure: &Failure| {
            has_failed = true;
            report::message("error", "not_reloaded", &format!("{}; the old one stays in force", failure.sentence));
        };
        if let Some(file) = &self.args.token_file {
            match tokens(file) {
                Ok(tokens) => {
                    self.access.replace_tokens(tokens);
                    done.push("tokens");
                }
                Err(failure) => failed(&failure),
            }
        }
        if let Some(certificates) = &self.certificates {
            match tls::config(&self.args) {
                Ok(Some(config)) => {
                    certificates.send_replace(config);
                    done.push("certificates");
                }
                Ok(None) => (),
                Err(failure) => failed(&failure),
            }
        }
        if has_failed && done.is_empty() {
            return;
        }
        let mut line = Map::new();
        line.insert("event".to_owned(), Value::from("reloaded"));
        line.insert("files".to_owned(), Value::from(done));
        report::log("info", line);
    }
}

/// Reads a token file.
pub(crate) fn tokens(file: &Path) -> Result<Arc<Tokens>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string());
    let tokens = text.and_then(|text| Tokens::parse(&text));
    let tokens = tokens.map_err(|why| Failure::new(format!("could not use token file {}: {why}", file.display())))?;
    if all_users_may(0o2, file) {
        report::warn(&format!("every user of this machine may add tokens to {}: chmod o-w it", file.display()));
    }
    if all_users_may(0o4, file) && tokens.has_secrets {
        let file = file.display();
        report::warn(&format!(
            "every user of this machine can read the tokens in {file}: chmod o-r it, or write digests"
        ));
    }
    Ok(Arc::new(tokens))
}

/// Returns true if all users of this machine may read (4) or change (2) the file.
pub(crate) fn all_users_may(right: u32, file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.permissions().mode() & right != 0)
}
