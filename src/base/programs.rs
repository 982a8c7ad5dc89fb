//! Finds programs on `PATH`, as execvp(3) does, and the keeper of leases.

use super::environment;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns true if a directory of `PATH` that this process may search holds a file of this name.
#[must_use]
pub fn is_on_path(program: &str) -> bool {
    environment::search_path().iter().any(|directory| directory.join(program).exists())
}

/// Searches for a program as execvp(3) does for a command in the working directory `directory`. If the program cannot
/// be run, returns the error that execvp(3) would return.
pub fn find_program(program: &OsStr, directory: &Path) -> io::Result<()> {
    let runnable = |path: PathBuf| match fs::metadata(path) {
        Ok(data) if data.is_file() && data.mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EACCES)),
        Err(error) => Err(error),
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return runnable(directory.join(program));
    }
    let mut why = io::Error::from_raw_os_error(libc::ENOENT);
    for place in environment::search_path() {
        match runnable(directory.join(place).join(program)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

/// Returns true if the path leads to a file whose mode allows a user to execute it.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0)
}

/// The programs of this name in the directories of `PATH`, in the order of `PATH`.
#[must_use]
pub fn all_on_path(program: &str) -> Vec<PathBuf> {
    // An empty entry is the current directory.
    let places = environment::search_path()
        .into_iter()
        .map(|place| if place.as_os_str().is_empty() { ".".into() } else { place });
    places.map(|place: PathBuf| place.join(program)).filter(|path| is_program(path)).collect()
}

/// The keeper of leases: `ABA_LOCK_KEEPER`, otherwise the one in the directory of this program, otherwise the one on
/// `PATH`.
#[must_use]
pub fn keeper() -> Option<PathBuf> {
    const NAME: &str = "aba-lock-keeper";
    if let Some(keeper) = environment::value("ABA_LOCK_KEEPER") {
        return Some(PathBuf::from(keeper)).filter(|keeper| is_program(keeper));
    }
    let neighbour = env::current_exe().ok().map(|program| program.with_file_name(NAME)).filter(|path| is_program(path));
    neighbour.or_else(|| all_on_path(NAME).into_iter().next())
}
