//! The options. The help and the manual page are generated from them.

use aba_lock::base::version::VERSION;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// The greatest token base. Stores count with 63 bits, so as many tokens again are left above it.
pub(crate) const LARGEST_TOKEN_BASE: u64 = 1 << 62;

/// The exit statuses and their meanings, for the help and the manual page.
pub(crate) const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "stopped by SIGTERM or SIGINT, after all requests were answered"),
    ("1", "stopped before all requests were answered: ten seconds had passed, or a second signal came"),
    (
        "2",
        "wrong usage; or other machines can reach the address, and there is no --token-file, --tls-client-ca or --insecure",
    ),
    ("125", "the service cannot start: the store, a certificate, the token file or an address cannot be used"),
];

/// Formats the exit statuses for the end of the help.
fn exit_status() -> String {
    let rows = EXIT_STATUS.map(|(status, meaning)| format!("  {status:<5} {meaning}"));
    format!("Exit status:\n{}", rows.join("\n"))
}

/// A lock service for scripts on several machines, with a REST API, a gRPC API and a web page.
///
/// The key of a lock is a service, an environment and a resource. A lock is held until its owner releases it. A lock with a
/// time to live also ends if it is not renewed in time. Waiters are served in the order of arrival. Each lock has a fencing
/// token that is greater than all earlier tokens. A lock that expires does not stop its owner, so the resource that the lock
/// guards should refuse a token that is smaller than one it has seen before.
#[derive(Debug, Parser)]
#[command(name = "aba-lockd", version = VERSION, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve locks until SIGTERM or SIGINT.
    ///
    /// On a loopback address, all users of this machine may call the service. Any other address requires --token-file,
    /// --tls-client-ca or --insecure. Only one service can use a file as its store.
    ///
    /// On SIGHUP, the service reads the token file and the certificates again. If a file cannot be used, its previous version
    /// stays in use, and the log names the reason.
    Serve(ServeOptions),
    /// Create tokens for the token file.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Print a new random token, and the line for the token file.
    ///
    /// The first line of the output is the token, which is not stored anywhere, and the second one is the line for the token
    /// file, which contains only the SHA-256 digest of the token. Add the line to the file, then send SIGHUP to the service
    /// (`systemctl reload aba-lockd`).
    New(NewTokenOptions),
}

/// The options of `token new`.
#[derive(Debug, Args)]
pub(crate) struct NewTokenOptions {
    /// Name of the owner: in the log, and for the locks that the callers with this token create
    pub(crate) name: String,
    /// Permission of the token: lock:read, lock:write or lock:admin, or one of them for some services, such as
    /// lock:write:shop or lock:write:team-a/* (repeatable) [default: lock:read,lock:write]
    #[arg(long = "permission", value_name = "PERMISSION", value_delimiter = ',', hide_default_value = true,
          default_values = ["lock:read", "lock:write"])]
    pub(crate) permissions: Vec<String>,
}

/// The options of `serve`.
#[derive(Debug, Args)]
#[command(after_help = exit_status())]
pub(crate) struct ServeOptions {
    /// Address of the REST API and the web page; with port 0, the service takes a free port, which the log shows
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Address of the gRPC API; port 0 as for --listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8765")]
    pub(crate) grpc_listen: String,
    /// Store of the locks: sqlite:PATH or etcd://HOST:PORT,... [default: sqlite:$XDG_STATE_HOME/aba-lock/lockd.db]
    ///
    /// Only one service can use an SQLite file. Several services can share an etcd cluster (3.4 or newer), and each of them can
    /// fail without a loss of locks; times to live are whole seconds there, and at least two seconds.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Issue only fencing tokens greater than N, for a new store that replaces one whose clock was wrong
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(..=LARGEST_TOKEN_BASE))]
    pub(crate) token_base: u64,
    /// Require a token of this file, which has a line NAME sha256:DIGEST PERMISSIONS for each token
    ///
    /// `aba-lockd token new NAME` creates a token and its line. PERMISSIONS are lock:read (get and list locks, read metrics),
    /// lock:write (create locks, and change those of NAME) and lock:admin (all calls), separated by commas. A service can follow
    /// each, as in lock:write:shop, or a prefix, as in lock:write:team-a/*. Callers send `Authorization: Bearer TOKEN`, or
    /// `X-Api-Key: TOKEN`. On SIGHUP, the service reads the file again.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Use TLS, with this certificate and its chain (PEM)
    ///
    /// On SIGHUP, the service reads the certificates and the key again, for new connections.
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    ///
    /// The service warns if every user of this machine can read it.
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Accept only clients with a certificate that this authority has signed (PEM)
    ///
    /// The log names the client certificate of each call: its common name, or its SHA-256 digest if it has none.
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Allow all callers on an address that other machines can reach, without tokens or client certificates
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Accept NAME as a host name of this service, for example that of a proxy (repeatable)
    ///
    /// On a loopback address without tokens, the service refuses calls whose Host header is not localhost or an IP address,
    /// because a malicious web page can make its own name resolve to this machine. The service also refuses changes by a web
    /// page whose host name differs from the Host header. If a proxy changes that header, give the name that users type.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// Log all calls, not only those that change locks
    #[arg(long)]
    pub(crate) log_all: bool,
}
