//! The options. The help and the manual page are generated from them.

use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// The greatest token base. Stores count with 63 bits, so as many tokens again are left above it.
pub(crate) const LARGEST_TOKEN_BASE: u64 = 1 << 62;

/// The exit statuses and their meanings, for the help and the manual page.
pub(crate) const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "ended by SIGTERM or SIGINT, after all that was asked was answered"),
    ("1", "ended so before that: after ten seconds, or at once by a second signal"),
    ("2", "wrong usage; an address that others reach, without a token file, client certificates or --insecure"),
    ("125", "it cannot be started: store, certificates, address"),
];

/// Formats the exit statuses for the end of the help.
fn exit_status() -> String {
    let rows = EXIT_STATUS.map(|(status, meaning)| format!("  {status:<5} {meaning}"));
    format!("Exit status:\n{}", rows.join("\n"))
}

/// A lock service for scripts on more than one machine: REST, gRPC, and a page to look at.
///
/// A lock is of a service, an environment and a resource. Without more it is held until it is released; with a time to
/// live until that has passed without being renewed. Who waits is served in turn. Each lock has a fencing token, greater than
/// all before it: what the lock guards should refuse a smaller one, because a lock that expires does not stop who had it.
#[derive(Debug, Parser)]
#[command(name = "aba-lockd", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve locks until SIGTERM or SIGINT
    ///
    /// SIGHUP makes it read the token file and the certificates again. If one cannot be used, the old one stays in force, and
    /// the log says why.
    ///
    /// On loopback everyone on this machine may ask. Any other address needs a token file, or client certificates. Only one
    /// service can have a file as its store.
    Serve(ServeOptions),
}

/// The options of the only command.
#[derive(Debug, Args)]
#[command(after_help = exit_status())]
pub(crate) struct ServeOptions {
    /// Where REST and the page are; port 0 takes a free one, which the log tells
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Where gRPC is
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8765")]
    pub(crate) grpc_listen: String,
    /// Where the locks are: sqlite:PATH or etcd://HOST:PORT,... [default: sqlite:$XDG_STATE_HOME/aba-lock/lockd.db]
    ///
    /// A file of SQLite's is for one service. In an etcd cluster (3.4 or newer) several services share the locks, and any of
    /// them may fail; times to live are whole seconds there, two at least.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Give fencing tokens greater than this one; for a store that takes over from one whose clock was wrong
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(..=LARGEST_TOKEN_BASE))]
    pub(crate) token_base: u64,
    /// Ask for a token: this file has a line NAME SCOPES TOKEN for each
    ///
    /// SCOPES are lock:read (to look), lock:write (all else), or both with a comma between. TOKEN is the token, or sha256:
    /// and its digest. Callers send `Authorization: Bearer TOKEN`. SIGHUP makes the service read the file again.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Speak TLS, with this certificate and those that it rests on (PEM)
    ///
    /// SIGHUP makes the service read the certificates and the key again, for new connections.
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    ///
    /// The service warns if every user of this machine can read it.
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Accept only clients that have a certificate of this authority (PEM)
    ///
    /// The log names the certificate of each call: its common name, or its SHA-256 digest if it has none.
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Listen on an address that others reach, and let everyone in
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Another name by which this service may be called, as behind a proxy; may be repeated
    ///
    /// On loopback without tokens, calls to other names than localhost and addresses are refused: a page elsewhere can
    /// have its own name lead here. Changes are refused to pages of another name than the one that is called: behind a proxy
    /// that calls by a name of its own, give the one that people see.
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// Log each call, not only what changes locks
    #[arg(long)]
    pub(crate) log_all: bool,
}
