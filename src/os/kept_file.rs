//! Files that this process does not close while it holds locks on bytes of them.
//!
//! The kernel releases such a lock ([`range`](super::range)) when the process closes any descriptor of the file, unless the thread that
//! closes it has descriptors of its own ([`separate_descriptors`](super::separate_descriptors)). Not every system allows that, and
//! some waits have only one thread. In these cases, a [`KeptFile`] keeps open what [`open_to_look`] has opened, and it is
//! closed at the end of the wait.

use super::file::open_unblocked;
use super::mutex::lock_mutex;
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The files that are kept open now.
static KEPT: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// The number of files in [`KEPT`]. Usually, there are none, and one look at this number is enough.
static KEPT_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The device and the inode of a file.
type FileNumbers = (u64, u64);

struct Entry {
    numbers: FileNumbers,
    /// The descriptor that all looks at this file share. `None`: it has not been opened yet.
    file: Option<Arc<File>>,
}

fn numbers_of(data: &Metadata) -> FileNumbers {
    (data.dev(), data.ino())
}

/// While this value exists, a file that [`open_to_look`] has opened stays open.
#[derive(Debug)]
pub struct KeptFile {
    numbers: FileNumbers,
}

impl KeptFile {
    /// Keeps the file of this descriptor.
    pub fn keep(file: &File) -> io::Result<Self> {
        let numbers = numbers_of(&file.metadata()?);
        lock_mutex(&KEPT).push(Entry { numbers, file: None });
        KEPT_COUNT.fetch_add(1, Ordering::SeqCst);
        Ok(Self { numbers })
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        let mut kept = lock_mutex(&KEPT);
        if let Some(at) = kept.iter().position(|entry| entry.numbers == self.numbers) {
            let Entry { file, .. } = kept.swap_remove(at);
            KEPT_COUNT.fetch_sub(1, Ordering::SeqCst);
            // Two waits of this process may be for the same file.
            if let Some(other) = kept.iter_mut().find(|entry| entry.numbers == self.numbers) {
                other.file = other.file.take().or(file);
            }
        }
    }
}

/// A file that is open for reading.
#[derive(Debug)]
pub enum LookedAt {
    Opened(File),
    /// It stays open after this value is dropped.
    Kept(Arc<File>),
}

impl Deref for LookedAt {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Self::Opened(file) => file,
            Self::Kept(file) => file,
        }
    }
}

/// Opens the file at `path` for reading, as [`open_unblocked`] does, unless a [`KeptFile`] has it open already.
pub fn open_to_look(path: &Path) -> io::Result<LookedAt> {
    if keeps_none() {
        return open_unblocked(path).map(LookedAt::Opened);
    }
    let data = fs::symlink_metadata(path)?;
    open_kept(numbers_of(&data), || open_unblocked(path))
}

/// Opens the file to which this link in `/proc/PID/fd` leads. It has the metadata `data`.
pub fn open_link_to_look(link: &Path, data: &Metadata) -> io::Result<LookedAt> {
    if keeps_none() {
        return File::open(link).map(LookedAt::Opened);
    }
    open_kept(numbers_of(data), || File::open(link))
}

fn keeps_none() -> bool {
    KEPT_COUNT.load(Ordering::Relaxed) == 0
}

fn open_kept(expected: FileNumbers, open: impl FnOnce() -> io::Result<File>) -> io::Result<LookedAt> {
    let mut kept = lock_mutex(&KEPT);
    if let Some(Entry { file: Some(file), .. }) = kept.iter().find(|entry| entry.numbers == expected) {
        return Ok(LookedAt::Kept(Arc::clone(file)));
    }
    let opened = open()?;
    // The path may lead to another file by now.
    let numbers = numbers_of(&opened.metadata()?);
    match kept.iter_mut().find(|entry| entry.numbers == numbers) {
        None => Ok(LookedAt::Opened(opened)),
        Some(entry) => {
            let opened = Arc::new(opened);
            match &entry.file {
                None => entry.file = Some(Arc::clone(&opened)),
                // It has been opened a second time, because its path was replaced and put back. It must never be closed.
                Some(_) => std::mem::forget(Arc::clone(&opened)),
            }
            Ok(LookedAt::Kept(opened))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_kept_file_is_opened_once_and_closed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        drop(OpenOptions::new().write(true).create_new(true).open(&other).unwrap());
        let kept = KeptFile::keep(&file).unwrap();
        let first = open_to_look(&path).unwrap();
        let number = first.as_raw_fd();
        drop(first);
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let second = open_link_to_look(Path::new(&link), &file.metadata().unwrap()).unwrap();
        assert!(matches!(&second, LookedAt::Kept(file) if file.as_raw_fd() == number));
        assert!(matches!(open_to_look(&other).unwrap(), LookedAt::Opened(_)));
        let LookedAt::Kept(second) = second else { unreachable!() };
        drop(kept);
        assert_eq!(Arc::strong_count(&second), 1);
        assert!(matches!(open_to_look(&path).unwrap(), LookedAt::Opened(_)));
    }
}
