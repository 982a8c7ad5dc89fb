//! The directories of keys.

use super::error::NumberError;
use crate::base::error::ContextError;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How many links may lead from one to the next: what the kernel allows.
const MAX_LINKS: u32 = 40;

/// The directory of a key, as an absolute path without links: `path`, or where we are.
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

/// The same for a directory that may be gone: what is left of the way to it is followed.
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
                // A link to what is gone: that is meant.
                if let Ok(target) = fs::read_link(&known) {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed(io::Error::from_raw_os_error(libc::ELOOP)));
                    }
                    known.pop();
                    known.push(target);
                    continue;
                }
                // Behind `..` of something that is gone nobody knows the way.
                let Some(name) = known.file_name().map(ToOwned::to_owned) else { return Err(failed(source)) };
                rest.push(name);
                known.pop();
            }
            Err(source) => return Err(failed(source)),
        }
    }
}
