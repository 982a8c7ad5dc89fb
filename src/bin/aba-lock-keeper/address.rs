//! The address of a server, as `--server` and the environment give it.
//!
//! `https://host:port` and `http://host:port` mean a lock service. `etcd://h1:2379,h2:2379` means an etcd cluster, and
//! `etcds://` one with TLS. A path after etcd's hosts is a prefix for all names. A path after the host of a lock
//! service is the path below which its `/api` is.

use crate::fault::Fault;
use std::net::IpAddr;

/// The kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// A lock service, through its REST interface.
    Service,
    /// An etcd cluster, through its JSON gateway.
    Etcd,
}

/// A parsed address.
#[derive(Debug, Clone)]
pub(crate) struct ServerAddress {
    /// The address as messages show it, without white space.
    pub(crate) label: String,
    pub(crate) kind: ServerKind,
    /// The base URL of each endpoint: `http://host:port`, and the path of a lock service.
    pub(crate) endpoints: Vec<String>,
    /// The prefix of names in etcd.
    pub(crate) prefix: String,
}

impl ServerAddress {
    pub(crate) fn parse(address: &str) -> Result<Self, Fault> {
        let invalid = || Fault::Misused {
            what: format!("invalid server address: {}", hide_secret(address)),
            hint: "use an address such as https://locks.example.org:8080 or etcd://10.0.0.1:2379,10.0.0.2:2379"
                .to_owned(),
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(invalid)?;
        let scheme = scheme.to_ascii_lowercase();
        let (kind, transport) = match &*scheme {
            "http" | "https" => (ServerKind::Service, &*scheme),
            "etcd" => (ServerKind::Etcd, "http"),
            "etcds" => (ServerKind::Etcd, "https"),
            _ => return Err(invalid()),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim().trim_matches('/');
        // The lease note in a holder record contains the address between blanks.
        let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if !is_plain(path) {
            return Err(invalid());
        }
        if hosts.contains('@') {
            return Err(Fault::Misused {
                what: "the server address contains a password, which other users can see".to_owned(),
                hint: "write USER:PASSWORD into a file that only you can read, and set ABA_LOCK_SERVER_SECRET_FILE to its path"
                    .to_owned(),
            });
        }
        let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
        let mut endpoints = Vec::new();
        for host in &hosts {
            let host = Some(host).filter(|host| !host.is_empty() && is_plain(host)).ok_or_else(invalid)?;
            let has_port =
                host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            let port = if has_port || kind == ServerKind::Service { "" } else { ":2379" };
            let base = if kind == ServerKind::Service && !path.is_empty() { format!("/{path}") } else { String::new() };
            endpoints.push(format!("{transport}://{host}{port}{base}"));
        }
        let prefix = if kind == ServerKind::Etcd && !path.is_empty() { format!("{path}/") } else { String::new() };
        let label = format!("{scheme}://{}{}{path}", hosts.join(","), if path.is_empty() { "" } else { "/" });
        Ok(Self { label, kind, endpoints, prefix })
    }

    /// Returns true if both addresses lead to the same server. An endpoint belongs to one cluster only, so one common
    /// endpoint is enough.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        (self.kind, &self.prefix) == (other.kind, &other.prefix)
            && self.endpoints.iter().any(|endpoint| other.endpoints.contains(endpoint))
    }

    /// Returns an endpoint to which requests leave the machine without TLS.
    pub(crate) fn find_exposed_endpoint(&self) -> Option<&str> {
        self.endpoints.iter().map(String::as_str).find(|endpoint| is_plain_and_remote(endpoint))
    }
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

/// Removes user and password from an address that a message quotes.
fn hide_secret(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => address.to_owned(),
    }
}
