//! Derives the identity of a lock file, by which its lock is found in the kernel's table, the content of many files, and the label of a
//! lock in messages. `observe`, [`wait`](crate::lock::wait) and [`deadlock`](crate::lock::deadlock) use both.

use crate::lock::promise;
use crate::lock::record::{self, Content};
use crate::os;
use crate::os::proc::lock_table::WantedFile;
use crate::store;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

/// If there are at least this many lock files, several threads examine them.
const MANY: usize = 512;

/// Returns the identity of the file at `path`.
///
/// Links in its directory are resolved, because the kernel names a removed file by its real path. A link at the end of the path
/// is not followed.
pub(crate) fn identify_file(path: &Path) -> WantedFile {
    identify_file_in(&resolve_links(find_directory(path)), path)
}

/// Does the same as [`identify_file`] for several paths. Resolves the links of a directory only once for the paths in it, if they
/// follow each other.
pub(super) fn identify_files(paths: &[PathBuf]) -> Vec<WantedFile> {
    let same = |one: &PathBuf, other: &PathBuf| find_directory(one).as_os_str() == find_directory(other).as_os_str();
    let mut files = Vec::with_capacity(paths.len());
    for together in paths.chunk_by(same) {
        let directory = resolve_links(find_directory(&together[0]));
        files.extend(together.iter().map(|path| identify_file_in(&directory, path)));
    }
    files
}

fn find_directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn resolve_links(directory: &Path) -> PathBuf {
    fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())
}

/// Returns the identity of the file in `directory` that has the file name of `path`.
pub(crate) fn identify_file_in(directory: &Path, path: &Path) -> WantedFile {
    identify_with_type(join_name(directory, path)).0
}

/// A lock file, and its content before the processes are examined. If the lock is free then, the content counts.
pub(super) struct LockFile {
    pub(super) file: WantedFile,
    pub(super) content: Content,
    pub(super) facts: LockFileFacts,
}

/// The facts about a lock file that `list` shows, if they hold.
#[derive(Clone, Copy, Default)]
pub(super) struct LockFileFacts {
    pub(super) kind: Option<FileType>,
    /// True if calls with `--coalesce` that have ended may rely on a run.
    pub(super) may_have_promise: bool,
    /// The number of names of the file (hard links). 0: it is not known.
    pub(super) names: u64,
    /// True if the file is not private. The owner of a file can take a lease on it.
    pub(super) is_shared: bool,
    /// True if the file was not opened because of a lease.
    pub(super) is_leased: bool,
    /// True if this user may not open the file.
    pub(super) is_denied: bool,
}

impl LockFileFacts {
    /// Returns true if another user may have a lease on the file.
    pub(super) fn may_be_leased(&self) -> bool {
        self.is_shared || self.is_leased
    }
}

impl LockFile {
    /// Examines the files of these locks in `directory`. Links in the path of the directory are resolved.
    pub(super) fn examine_all(directory: &Path, paths: &[PathBuf]) -> Vec<Self> {
        let examine_some = |paths: &[PathBuf]| -> Vec<Self> {
            paths.iter().map(|path| Self::examine(join_name(directory, path))).collect()
        };
        if paths.len() < MANY {
            return examine_some(paths);
        }
        let threads = thread::available_parallelism().map_or(1, |number| number.get().min(4));
        let parts: Vec<&[PathBuf]> = paths.chunks(paths.len().div_ceil(threads)).collect();
        os::map_in_threads(&parts, examine_some).into_iter().flatten().collect()
    }

    /// Opens a file once, and reads all facts through its descriptor.
    fn examine(path: PathBuf) -> Self {
        let opened = os::open_to_look(&path);
        let has_failed_with = |kind| opened.as_ref().is_err_and(|error| error.kind() == kind);
        let is_leased = has_failed_with(io::ErrorKind::WouldBlock);
        let is_denied = has_failed_with(io::ErrorKind::PermissionDenied);
        if let Ok(open) = opened
            && let Ok(data) = open.metadata()
        {
            let content = if data.is_file() { record::read(&open) } else { Content::Empty };
            let may_have_promise = data.is_file() && promise::has_promised_run(&open);
            let file = WantedFile { dev: data.dev(), ino: data.ino(), path, lost: false };
            let facts = LockFileFacts {
                kind: Some(data.file_type()),
                may_have_promise,
                names: data.nlink(),
                is_shared: data.mode() & 0o077 != 0,
                is_leased,
                is_denied,
            };
            return Self { file, content, facts };
        }
        let (file, kind) = identify_with_type(path);
        Self {
            file,
            content: Content::Empty,
            facts: LockFileFacts { kind, is_leased, is_denied, ..LockFileFacts::default() },
        }
    }
}

fn join_name(directory: &Path, path: &Path) -> PathBuf {
    path.file_name().map_or_else(|| path.to_owned(), |name| directory.join(name))
}

/// Returns the identity of the file at `path`, and its type.
fn identify_with_type(path: PathBuf) -> (WantedFile, Option<FileType>) {
    let data = fs::symlink_metadata(&path);
    // Without permission to examine the path, there may be a file although no inode is known.
    let lost = data.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
    let kind = data.as_ref().map(Metadata::file_type).ok();
    let (dev, ino) = data.map_or((0, 0), |data| (data.dev(), data.ino()));
    (WantedFile { dev, ino, path, lost }, kind)
}

/// Returns the label of the lock whose file is at `path`: the name of the lock, `task ID`, or the path.
#[must_use]
pub fn derive_label(path: &Path) -> String {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(name) = store::name_of(Path::new(file.trim_end_matches(" (deleted)"))) {
        return name.to_string();
    }
    match path.parent().and_then(|parent| parent.file_name()) {
        // The directory of a task has both files.
        Some(id) if file == "lock" && path.with_file_name("log.out").exists() => {
            format!("task {}", id.to_string_lossy())
        }
        _ => path.display().to_string(),
    }
}
