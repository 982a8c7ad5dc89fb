//! The TLS configuration of requests, from the files that the settings name.
//!
//! A damaged file is refused here. The HTTP client skips an authority that it cannot decode, so each server would seem not to answer, and
//! panics if a key does not fit its certificate.

use crate::environment::{AUTHORITIES, CERTIFICATE, KEY, read_variable};
use crate::fault::Fault;
use crate::settings::Settings;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Builds the configuration. Fails if a file cannot be used.
pub(crate) fn build_config(settings: &Settings) -> Result<TlsConfig, Fault> {
    let mut config = TlsConfig::builder();
    if let Some(content) = &settings.authorities {
        let authorities = parse_certificates(AUTHORITIES, content)?;
        // A bundle may have some of a kind that this library does not support. The client skips them.
        if RootCertStore::empty().add_parsable_certificates(authorities.iter().cloned()).0 == 0 {
            return Err(refuse(AUTHORITIES, NO_USABLE_CERTIFICATE));
        }
        config = config.root_certs(RootCerts::Specific(Arc::new(convert_certificates(&authorities))));
    }
    if let Some((certificate, key)) = &settings.identity {
        let chain = parse_certificates(CERTIFICATE, certificate)?;
        let certificates = convert_certificates(&chain);
        check_key(chain, key)?;
        let key = PrivateKey::from_pem(key).map_err(|_| refuse(KEY, NO_KEY))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&certificates, key)));
    }
    Ok(config.build())
}

/// Returns the certificates in the file that a variable names. There is at least one.
fn parse_certificates(variable: &str, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found: Vec<CertificateDer> = found.map_err(|error| refuse(variable, describe_damage(&error)))?;
    if found.is_empty() {
        return Err(refuse(variable, if content.is_empty() { EMPTY } else { "contains no certificate" }));
    }
    Ok(found)
}

fn convert_certificates(found: &[CertificateDer]) -> Vec<Certificate<'static>> {
    found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

/// Checks that the private key can be used, and fits the first certificate of the chain.
fn check_key(chain: Vec<CertificateDer<'static>>, content: &[u8]) -> Result<(), Fault> {
    let has_passphrase = content.windows(ENCRYPTED.len()).any(|bytes| bytes == ENCRYPTED);
    let key = PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        pem::Error::NoItemsFound if content.is_empty() => refuse(KEY, EMPTY),
        error if has_passphrase || matches!(error, pem::Error::NoItemsFound) => refuse(KEY, NO_KEY),
        error => refuse(KEY, describe_damage(&error)),
    })?;
    match CertifiedKey::from_der(chain, key, &default_provider()) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(Fault::Misused {
            what: format!("the key in {} does not fit the certificate in {}", name_file(KEY), name_file(CERTIFICATE)),
            hint: "set both variables to the files of one certificate".to_owned(),
        }),
        Err(Error::InvalidCertificate(_)) => Err(refuse(CERTIFICATE, NO_USABLE_CERTIFICATE)),
        Err(_) => Err(refuse(
            KEY,
            "contains a key that cannot be used: it is damaged, or not RSA (2048 to 4096 bits), ECDSA (P-256, P-384) or Ed25519",
        )),
    }
}

const EMPTY: &str = "is empty";

const NO_KEY: &str = "contains no private key without a passphrase";

const NO_USABLE_CERTIFICATE: &str = "contains a certificate that cannot be used: it is damaged, or not of X.509 version 3, or has an extension that is not supported";

/// A word in the blocks of keys with a passphrase, of each format.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Describes an error in a PEM file. The text of the error itself can contain bytes of the file.
fn describe_damage(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "cannot be decoded: a PEM block has no END line",
        pem::Error::IllegalSectionStart { .. } => "cannot be decoded: a PEM block has a damaged BEGIN line",
        _ => "cannot be decoded: a PEM block is not Base64",
    }
}

fn refuse(variable: &str, cause: &str) -> Fault {
    Fault::Misused {
        what: format!("{} {cause}", name_file(variable)),
        hint: "use a complete file in PEM format".to_owned(),
    }
}

/// Names the file in a variable, and the variable.
fn name_file(variable: &str) -> String {
    format!("{} (from {variable})", read_variable(variable).unwrap_or_default())
}
