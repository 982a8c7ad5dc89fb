//! Which server, and how to be known to it. The only reader of the environment.
//!
//! The address: `https://host:port` or `http://host:port` of a lock service; `etcd://h1:2379,h2:2379` of an etcd cluster,
//! `etcds://` with TLS. A path behind etcd's hosts is put in front of the names. What is secret is in files, because
//! command lines and environments can be seen.

#![expect(clippy::disallowed_methods, reason = "the only reader of the environment")]

use crate::server::Fault;
use std::env;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The variable with the address of the server.
pub(crate) const SERVER: &str = "ABA_LOCK_SERVER";

/// The variables with the files that only their owner should be able to read.
const SECRET_FILE: &str = "ABA_LOCK_SERVER_SECRET_FILE";
const KEY: &str = "ABA_LOCK_SERVER_KEY";

/// The shortest lease: what is shorter is lost when a leader is elected.
pub(crate) const SHORTEST: Duration = Duration::from_secs(10);

/// How long a lease lasts that is not renewed.
const USUAL: Duration = Duration::from_secs(30);

/// Which kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A lock service, by its REST interface.
    Service,
    /// An etcd cluster, by its JSON gateway.
    Etcd,
}

/// A server, and how to be known to it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// What sentences call it: without user and password.
    pub(crate) label: String,
    pub(crate) kind: Kind,
    /// `http://host:port` of each endpoint.
    pub(crate) endpoints: Vec<String>,
    /// What stands in front of names in etcd.
    pub(crate) prefix: String,
    /// A bearer token of a service; `user:password` of etcd.
    pub(crate) secret: Option<String>,
    /// Certificates of whom to trust, in PEM.
    pub(crate) authorities: Option<Vec<u8>>,
    /// Our certificate and its key, in PEM.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Settings {
    /// The server at this address, else at the one of the environment.
    pub(crate) fn of(address: Option<&str>) -> Result<Self, Fault> {
        let given = address.map(str::to_owned).filter(|address| !address.is_empty());
        let Some(address) = given.or_else(|| text(SERVER)) else {
            return Err(Fault::Misused {
                what: "no server is given".to_owned(),
                hint: "say `--server URL`, or set ABA_LOCK_SERVER, such as etcd://127.0.0.1:2379".to_owned(),
            });
        };
        let secret = file(SECRET_FILE)?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
            .filter(|secret| !secret.is_empty());
        let mut settings = Self { secret, authorities: file("ABA_LOCK_SERVER_CACERT")?, ..parse(&address)? };
        settings.identity = match (file("ABA_LOCK_SERVER_CERT")?, file(KEY)?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Fault::Misused {
                    what: "a client certificate needs both ABA_LOCK_SERVER_CERT and ABA_LOCK_SERVER_KEY".to_owned(),
                    hint: "set both to files in PEM form, or none".to_owned(),
                });
            }
        };
        Ok(settings)
    }

    /// A sentence and a hint for each way in which others can learn a secret: from the network, or from its file.
    pub(crate) fn exposures(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        let plain = self.endpoints.iter().find(|endpoint| is_plain_and_remote(endpoint));
        if let Some(endpoint) = plain.filter(|_| self.secret.is_some()) {
            let hint = match self.kind {
                Kind::Service => "give the server an address with https://",
                Kind::Etcd => "give the server an address with etcds://",
            };
            found.push((format!("the secret in {SECRET_FILE} is sent to {endpoint} in clear text"), hint));
        }
        for name in [SECRET_FILE, KEY] {
            let Some(path) = text(name) else { continue };
            if fs::metadata(&path).is_ok_and(|data| data.mode() & 0o004 != 0) {
                let sentence = format!("every user of this machine can read the secret in {path} ({name})");
                found.push((sentence, "run `chmod o-r` on the file, and replace the secret"));
            }
        }
        found
    }

    /// Whether this address, as [`Self::label`] has one, leads to the same server. An endpoint is of one cluster alone, so one that
    /// both lists have is enough.
    pub(crate) fn is_at(&self, address: &str) -> bool {
        parse(address).is_ok_and(|other| {
            (other.kind, &other.prefix) == (self.kind, &self.prefix)
                && other.endpoints.iter().any(|endpoint| self.endpoints.contains(endpoint))
        })
    }
}

fn parse(address: &str) -> Result<Settings, Fault> {
    let wrong = || Fault::Misused {
        what: format!("{} is not the address of a server", without_secret(address)),
        hint: "such as https://locks.example.org:8080 or etcd://10.0.0.1:2379,10.0.0.2:2379".to_owned(),
    };
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let (kind, transport) = match &*scheme {
        "http" | "https" => (Kind::Service, &*scheme),
        "etcd" => (Kind::Etcd, "http"),
        "etcds" => (Kind::Etcd, "https"),
        _ => return Err(wrong()),
    };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim().trim_matches('/');
    // A lock's record has the address between blanks.
    let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_plain(path) {
        return Err(wrong());
    }
    if hosts.contains('@') {
        return Err(Fault::Misused {
            what: "the address of a server is no place for a password: anybody can see it".to_owned(),
            hint: "put USER:PASSWORD into a file of yours, and set ABA_LOCK_SERVER_SECRET_FILE to its path".to_owned(),
        });
    }
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    let mut endpoints = Vec::new();
    for host in &hosts {
        let host = Some(host).filter(|host| !host.is_empty() && is_plain(host)).ok_or_else(wrong)?;
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = if has_port || kind == Kind::Service { "" } else { ":2379" };
        let base = if kind == Kind::Service && !path.is_empty() { format!("/{path}") } else { String::new() };
        endpoints.push(format!("{transport}://{host}{port}{base}"));
    }
    let prefix = if kind == Kind::Etcd && !path.is_empty() { format!("{path}/") } else { String::new() };
    let label = format!("{scheme}://{}{}{path}", hosts.join(","), if path.is_empty() { "" } else { "/" });
    Ok(Settings { label, kind, endpoints, prefix, secret: None, authorities: None, identity: None })
}

/// Returns true if requests to this endpoint leave the machine without TLS.
fn is_plain_and_remote(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let is_loopback_address = host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    !(is_loopback_address || host == "localhost" || host.ends_with(".localhost"))
}

/// An address as a sentence may show it.
fn without_secret(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => address.to_owned(),
    }
}

/// How long leases are to last: as said, else as the environment says.
pub(crate) fn ttl(said: Option<Duration>) -> Result<Duration, Fault> {
    let ttl = match (said, text("ABA_LOCK_TTL")) {
        (Some(ttl), _) => ttl,
        (None, None) => USUAL,
        (None, Some(value)) => aba_lock::base::duration::parse_span(&value).ok_or_else(|| Fault::Misused {
            what: format!("ABA_LOCK_TTL is {value}, which is not a time span"),
            hint: "such as 30s or 2m".to_owned(),
        })?,
    };
    if ttl < SHORTEST {
        return Err(Fault::Misused {
            what: format!("a lease of {} s is too short", ttl.as_secs_f64()),
            hint: format!("at least {} s: a server that elects a leader takes some of it", SHORTEST.as_secs()),
        });
    }
    Ok(ttl)
}

/// What to do when a lease is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnLost {
    /// End those who have the lock.
    Term,
    /// Say so.
    Warn,
    /// Run this by the shell.
    Run(String),
}

/// As said, else as the environment says. What is one word and no command is a mistake: it would be found when it is too late.
pub(crate) fn on_lost(said: Option<&str>) -> Result<OnLost, Fault> {
    let word = said.map(str::to_owned).or_else(|| text("ABA_LOCK_ON_LOST")).unwrap_or_default();
    match word.trim() {
        "" => Ok(OnLost::Term),
        word if word.eq_ignore_ascii_case("term") => Ok(OnLost::Term),
        word if word.eq_ignore_ascii_case("warn") => Ok(OnLost::Warn),
        word if is_one_word(word) && !is_command(word) => Err(Fault::Misused {
            what: format!("{word} is no command that could be run if the lease is lost"),
            hint: "say term, warn, or a command of the shell: it is run in /, and a program is looked for on PATH"
                .to_owned(),
        }),
        command => Ok(OnLost::Run(command.to_owned())),
    }
}

/// Nothing that the shell would take apart.
fn is_one_word(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "_-./+:@%,".contains(c))
}

/// Whether the shell knows it: a program, or a word of its own.
fn is_command(word: &str) -> bool {
    let known = shell().args(["-c", "command -v -- \"$1\"", "sh", word]).status();
    // A shell that cannot be run now may be there later.
    known.is_ok_and(|status| status.success())
}

/// The shell, where the keeper runs it: with nobody to read what it says.
pub(crate) fn shell() -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

fn text(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

/// The content of the file that a variable names.
fn file(name: &'static str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(path) = text(name).map(PathBuf::from) else { return Ok(None) };
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => Err(Fault::Failed {
            what: format!(
                "could not read {} ({name}): {}",
                path.display(),
                aba_lock::base::text::format_io_error(&error)
            ),
            hint: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_and_remote;

    #[test]
    fn only_an_endpoint_on_loopback_or_with_tls_keeps_a_secret_on_the_machine_or_encrypted() {
        for safe in [
            "https://locks.example.org:8080",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://localhost:2379",
            "http://LOCALHOST./locks",
            "http://db.localhost:1/locks",
            "http://[::1]:8080",
            "http://[::1]",
            "http://[::ffff:127.0.0.1]:8080",
        ] {
            assert!(!is_plain_and_remote(safe), "{safe}");
        }
        for open in [
            "http://locks.example.org:8080",
            "http://10.0.0.1:2379",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org/localhost",
            "http://[2001:db8::1]:8080",
            "http://[::]:8080",
        ] {
            assert!(is_plain_and_remote(open), "{open}");
        }
    }
}
