//! Finding programs on `PATH`.

use super::environment;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether there is a file of this name in a directory of `PATH` that can be looked into.
#[must_use]
pub fn is_on_path(program: &str) -> bool {
    environment::search_path("").iter().any(|directory| directory.join(program).exists())
}

/// Whether there is a program of this name that a command in `directory` can run: found as execvp(3) does it. If not,
/// why.
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
    for place in environment::search_path("/bin:/usr/bin") {
        match runnable(directory.join(place).join(program)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

/// Whether this is a program that we may run, as far as its mode says.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0)
}

/// The programs of this name in the directories of `PATH`, in its order.
#[must_use]
pub fn all_on_path(program: &str) -> Vec<PathBuf> {
    // An empty entry is the current directory.
    let places = environment::search_path("")
        .into_iter()
        .map(|place| if place.as_os_str().is_empty() { ".".into() } else { place });
    places.map(|place: PathBuf| place.join(program)).filter(|path| is_program(path)).collect()
}

/// The program that keeps leases: `ABA_LOCK_KEEPER`, else the one beside this program, else the one on `PATH`.
#[must_use]
pub fn keeper() -> Option<PathBuf> {
    const NAME: &str = "aba-lock-keeper";
    if let Some(keeper) = environment::value("ABA_LOCK_KEEPER") {
        return Some(PathBuf::from(keeper)).filter(|keeper| is_program(keeper));
    }
    let beside = env::current_exe().ok().map(|program| program.with_file_name(NAME)).filter(|path| is_program(path));
    beside.or_else(|| all_on_path(NAME).into_iter().next())
}
