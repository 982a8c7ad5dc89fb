//! The identity of a lock file, and the name by which users know it.

use crate::os::proc::lock_table::WantedFile;
use crate::store;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Links in the way to the file are resolved, because the kernel names a removed file by its real path; a link
/// at the very end is not ours to follow.
pub(crate) fn identify_file(path: &Path) -> WantedFile {
    match path.parent().and_then(|parent| fs::canonicalize(parent).ok()) {
        Some(real) => identify_file_in(&real, path),
        None => identify_file_in(path.parent().unwrap_or(Path::new("")), path),
    }
}

/// The file of that name in this directory.
pub(super) fn identify_file_in(directory: &Path, path: &Path) -> WantedFile {
    let path = path.file_name().map_or_else(|| path.to_owned(), |name| directory.join(name));
    let data = fs::symlink_metadata(&path);
    let lost = data.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
    let (dev, ino) = data.map_or((0, 0), |data| (data.dev(), data.ino()));
    WantedFile { dev, ino, path, lost }
}

/// What people call a lock file: the name of the lock, the task, or its path.
#[must_use]
pub fn derive_label(path: &Path) -> String {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(name) = store::name_of(Path::new(file.trim_end_matches(" (deleted)"))) {
        return name.to_string();
    }
    match path.parent().and_then(|parent| parent.file_name()) {
        Some(id) if file == "lock" && path.with_file_name("log.out").exists() => {
            format!("task {}", id.to_string_lossy())
        }
        _ => path.display().to_string(),
    }
}
