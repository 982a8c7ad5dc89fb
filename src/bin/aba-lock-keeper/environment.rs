//! The environment variables and arguments of the keeper, and the files that the variables name. No other module reads
//! the environment.

#![expect(clippy::disallowed_methods, reason = "the only reader of the environment")]

use crate::fault::Fault;
use std::env;
use std::fs;
use std::path::PathBuf;

/// The address of the server.
pub(crate) const SERVER: &str = "ABA_LOCK_SERVER";

/// The file with the bearer token or `USER:PASSWORD`.
pub(crate) const SECRET_FILE: &str = "ABA_LOCK_SERVER_SECRET_FILE";

/// The file with the certificates of the authorities to trust.
pub(crate) const AUTHORITIES: &str = "ABA_LOCK_SERVER_CACERT";

/// The files with the client certificate and its key.
pub(crate) const CERTIFICATE: &str = "ABA_LOCK_SERVER_CERT";
pub(crate) const KEY: &str = "ABA_LOCK_SERVER_KEY";

/// The time to live of a lease.
pub(crate) const TTL: &str = "ABA_LOCK_TTL";

/// The reaction to the loss of a lease.
pub(crate) const ON_LOST: &str = "ABA_LOCK_ON_LOST";

/// Returns the arguments of this process.
pub(crate) fn read_arguments() -> Vec<String> {
    env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Returns the value of a variable, unless it is empty.
pub(crate) fn read_variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

/// Returns the content of the file that a variable names.
pub(crate) fn read_file(name: &'static str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(path) = read_variable(name).map(PathBuf::from) else { return Ok(None) };
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => Err(Fault::Failed {
            what: format!(
                "cannot read {} (from {name}): {}",
                path.display(),
                aba_lock::base::text::format_io_error(&error)
            ),
            hint: None,
        }),
    }
}
