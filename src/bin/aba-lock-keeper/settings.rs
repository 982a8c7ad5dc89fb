//! The server, the credentials for it, and the time to live of a lease: from options, or from the environment.
//!
//! Secrets are in files, because command lines and environments are visible to others.

use crate::address::{ServerAddress, ServerKind};
use crate::environment::{self, AUTHORITIES, CERTIFICATE, KEY, SECRET_FILE, SERVER, TTL};
use crate::fault::Fault;
use aba_lock::base::duration::{TIME_RULE, parse_span};
use aba_lock_protocol::span;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// The shortest lease. A shorter one could be lost while the servers elect a leader.
const SHORTEST: Duration = Duration::from_secs(10);

/// The time to live if none is given.
const DEFAULT: Duration = Duration::from_secs(30);

/// A server, and the credentials for it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) address: ServerAddress,
    /// The bearer token for a lock service, or `user:password` for etcd.
    pub(crate) secret: Option<String>,
    /// The certificates of the authorities to trust, in PEM form.
    pub(crate) authorities: Option<Vec<u8>>,
    /// The client certificate and its key, in PEM form.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Settings {
    /// Reads the settings for the server at `address`, or at the address in the environment.
    pub(crate) fn read(address: Option<&str>) -> Result<Self, Fault> {
        let address = address.map(str::to_owned).filter(|address| !address.is_empty());
        let Some(address) = address.or_else(|| environment::read_variable(SERVER)) else {
            return Err(Fault::Misused {
                what: "no lease server is given".to_owned(),
                hint: "use `--server URL`, or set ABA_LOCK_SERVER to a URL such as etcd://127.0.0.1:2379".to_owned(),
            });
        };
        let address = ServerAddress::parse(&address)?;
        let secret = match environment::read_file(SECRET_FILE)? {
            Some(bytes) => parse_secret(&bytes, address.kind)?,
            None => None,
        };
        let authorities = environment::read_file(AUTHORITIES)?;
        let identity = match (environment::read_file(CERTIFICATE)?, environment::read_file(KEY)?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Fault::Misused {
                    what: "a client certificate needs both ABA_LOCK_SERVER_CERT and ABA_LOCK_SERVER_KEY".to_owned(),
                    hint: "set both variables to files in PEM format, or unset both".to_owned(),
                });
            }
        };
        Ok(Self { address, secret, authorities, identity })
    }

    /// The address as messages show it.
    pub(crate) fn label(&self) -> &str {
        &self.address.label
    }

    /// Returns a sentence and a hint for each way in which others can read a secret: from the network, or from its
    /// file.
    pub(crate) fn find_exposures(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        if let Some(endpoint) = self.address.find_exposed_endpoint().filter(|_| self.secret.is_some()) {
            let hint = match self.address.kind {
                ServerKind::Service => "use an address that starts with https://",
                ServerKind::Etcd => "use an address that starts with etcds://",
            };
            found.push((format!("the secret in {SECRET_FILE} is sent to {endpoint} in clear text"), hint));
        }
        for name in [SECRET_FILE, KEY] {
            let Some(path) = environment::read_variable(name) else { continue };
            if fs::metadata(&path).is_ok_and(|data| data.mode() & 0o004 != 0) {
                let sentence = format!("every user of this machine can read the secret in {path} (from {name})");
                let hint = "run `chmod o-r` on the file, and replace the secret";
                found.push((sentence, hint));
            }
        }
        found
    }

    /// Returns true if an address that [`Self::label`] once returned leads to the same server.
    pub(crate) fn is_at(&self, label: &str) -> bool {
        ServerAddress::parse(label).is_ok_and(|other| self.address.is_same_server(&other))
    }
}

/// Reads a secret from the content of its file. `None`: the file is empty. If a secret that HTTP cannot send were accepted, the
/// server would seem not to answer.
fn parse_secret(bytes: &[u8], kind: ServerKind) -> Result<Option<String>, Fault> {
    let text = String::from_utf8_lossy(bytes);
    let secret = text.trim();
    let is_valid = |one: char| match kind {
        ServerKind::Service => one.is_ascii_graphic(),
        ServerKind::Etcd => !one.is_control() && one != char::REPLACEMENT_CHARACTER,
    };
    if secret.chars().all(is_valid) {
        return Ok(Some(secret.to_owned()).filter(|secret| !secret.is_empty()));
    }
    let cause = match secret.lines().count() {
        1 => "contains a character that cannot be part of a secret".to_owned(),
        count => format!("has {count} lines, but one line is expected"),
    };
    Err(Fault::Misused {
        what: format!("{} (from {SECRET_FILE}) {cause}", environment::read_variable(SECRET_FILE).unwrap_or_default()),
        hint: match kind {
            ServerKind::Service => "write only the token into the file: the first line of `aba-lockd token new`",
            ServerKind::Etcd => "write only USER:PASSWORD into the file",
        }
        .to_owned(),
    })
}

/// Returns the time to live of new leases: from the option, or from the environment.
pub(crate) fn read_ttl(option: Option<Duration>) -> Result<Duration, Fault> {
    let ttl = match (option, environment::read_variable(TTL)) {
        (Some(ttl), _) => ttl,
        (None, None) => DEFAULT,
        (None, Some(value)) => parse_span(&value).ok_or_else(|| Fault::Misused {
            what: format!("ABA_LOCK_TTL is {value:?}, which is not {TIME_RULE}"),
            hint: "set it to a time, or unset it".to_owned(),
        })?,
    };
    if ttl < SHORTEST {
        return Err(Fault::Misused {
            what: format!("a time to live of {} s is too short", ttl.as_secs_f64()),
            hint: format!("use at least {}s", SHORTEST.as_secs()),
        });
    }
    // Otherwise, a service would refuse the time only after it has granted the lease with its first time to live.
    if ttl > span::LONGEST {
        return Err(Fault::Misused {
            what: format!("a time to live of {} s is too long", ttl.as_secs()),
            hint: format!("use at most {}d", span::LONGEST.as_secs() / (24 * 3600)),
        });
    }
    Ok(ttl)
}
