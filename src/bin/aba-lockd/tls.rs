//! Certificates and keys, from files.

mod subject;

pub(crate) use subject::name;

use crate::args::Serve;
use crate::lifecycle::Failure;
use crate::{reload, report};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The certificates for new connections. They change when the files are read again.
pub(crate) type Certificates = watch::Receiver<Arc<ServerConfig>>;

/// Reads the files. `None`: the service does not use TLS.
pub(crate) fn config(args: &Serve) -> Result<Option<Arc<ServerConfig>>, Failure> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(error.to_string()))?;
    let builder = match &args.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(file)? {
                roots.add(authority).map_err(|error| unusable(file, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(file, &error))?)
        }
    };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    if reload::all_users_may(0o4, key) {
        report::warn(&format!("every user of this machine can read the key in {}: chmod o-r it", key.display()));
    }
    let config = builder.with_single_cert(certificates(cert)?, private).map_err(|error| unusable(cert, &error))?;
    Ok(Some(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|error| unusable(file, &error))?;
    if found.is_empty() { Err(unusable(file, &"there is no certificate in it")) } else { Ok(found) }
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("could not use {}: {why}", file.display()))
}

/// Accepts TLS connections with these protocols, first choice first.
pub(crate) fn acceptor(config: &ServerConfig, protocols: &[&str]) -> TlsAcceptor {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
