//! The directory of a reservation: the directory of a `--path` option, or the current directory, as an absolute path
//! without symbolic links.

use super::error::NumberError;
use crate::base::error::ContextError;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The number of symbolic links that the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// Returns the absolute path of a directory, with symbolic links resolved. Without `path`, this is the current
/// directory.
pub fn find_directory(path: Option<&Path>) -> Result<PathBuf, NumberError> {
    let Some(path) = path else {
        return Ok(env::current_dir().map_err(|source| ContextError::NoDirectory { source })?);
    };
    let failed = |source| NumberError::Directory { path: path.to_owned(), source };
    let directory = fs::canonicalize(path).map_err(failed)?;
    if !directory.is_dir() {
        return Err(failed(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    Ok(directory)
}

/// Returns the absolute path of a directory that may no longer exist. Symbolic links are resolved in the part of the
/// path that still exists.
pub fn find_directory_or_vanished(path: Option<&Path>) -> Result<PathBuf, NumberError> {
    let Some(path) = path else { return find_directory(None) };
    let failed = |source| NumberError::Directory { path: path.to_owned(), source };
    let mut known = std::path::absolute(path).map_err(failed)?;
    let mut rest = Vec::new();
    let mut links = 0;
    loop {
        match fs::canonicalize(&known) {
            Ok(mut directory) => {
                directory.extend(rest.iter().rev());
                return Ok(directory);
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                // If this is a symbolic link to a directory that no longer exists, the user means the target.
                if let Ok(target) = fs::read_link(&known) {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed(io::Error::from_raw_os_error(libc::ELOOP)));
                    }
                    known.pop();
                    known.push(target);
                    continue;
                }
                // `..` after a directory that no longer exists cannot be resolved.
                let Some(name) = known.file_name().map(ToOwned::to_owned) else { return Err(failed(source)) };
                rest.push(name);
                known.pop();
            }
            Err(source) => return Err(failed(source)),
        }
    }
}
