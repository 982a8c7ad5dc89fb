//! Loads the TLS configuration of the service: its certificate and key, and the authorities whose client certificates
//! it accepts. A file that cannot be used is an error, so a configuration is always complete.
//!
//! `lifecycle` loads it at the start, and `reload` again at SIGHUP. `connection` accepts TLS connections with it, and
//! [`subject`] reads the name in a client's certificate.

pub(crate) mod subject;

use crate::args::ServeOptions;
use crate::error::StartError;
use crate::{file_mode, report};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Receives the configuration for new connections. `reload` sends a new one when it has read the files again.
pub(crate) type CurrentConfig = watch::Receiver<Arc<ServerConfig>>;

/// Loads the configuration from the files that the options name. Returns `None` if the service does not use TLS.
pub(crate) fn load_config(options: &ServeOptions) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::new(error.to_string()))?;
    let builder = match &options.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in read_certificates(file)? {
                roots.add(authority).map_err(|error| unusable_file(file, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable_file(file, &error))?)
        }
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable_file(key, &error))?;
    if file_mode::is_world_readable(key) {
        report::log_warning(&format!(
            "every user of this machine can read the key in {}: run `chmod o-r` on the file",
            key.display()
        ));
    }
    let config = builder.with_single_cert(read_certificates(cert)?, private);
    Ok(Some(Arc::new(config.map_err(|error| unusable_file(cert, &error))?)))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|error| unusable_file(file, &error))?;
    if found.is_empty() { Err(unusable_file(file, &"it contains no certificate")) } else { Ok(found) }
}

fn unusable_file(file: &Path, why: &dyn std::fmt::Display) -> StartError {
    StartError::new(format!("cannot use {}: {why}", file.display()))
}

/// Creates an acceptor for TLS connections with these protocols, in order of preference.
pub(crate) fn new_acceptor(config: &ServerConfig, protocols: &[&str]) -> TlsAcceptor {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
