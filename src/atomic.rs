//! Replaces a file as a whole: a reader sees the old content or the new one, never half of it.

#![expect(clippy::disallowed_methods, reason = "the one place that renames")]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes `bytes` the content of `path`, through a temporary file beside it and a rename. A new file has mode
/// 0644, as far as the umask allows. Nothing is left behind when it fails.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary: OsString = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
