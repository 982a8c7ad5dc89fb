//! What holds of what `/proc` says of locks, for any bytes.

use super::{FileId, KernelLock, Listed, by_file, listed};

/// Checks that it does.
///
/// # Panics
///
/// Where it does not.
pub fn hold(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<Listed> = text.lines().filter_map(listed).collect();
    for lock in &all {
        let Listed { file: FileId { major, minor, ino }, lock: KernelLock { locker, exclusive }, waits } = lock;
        let arrow = if *waits { "-> " } else { "" };
        let mode = if *exclusive { "WRITE" } else { "READ" };
        let line = format!("1: {arrow}FLOCK  ADVISORY  {mode} {locker} {major:02x}:{minor:02x}:{ino} 0 EOF");
        assert_eq!(listed(&line).as_ref(), Some(lock));
    }
    // Each once, with the others of its file and in their order: that is the order in which they are served.
    let by_file = by_file(&text);
    let mut found = 0;
    for (file, locks) in &by_file {
        let mut later = all.iter();
        for lock in locks {
            assert_eq!(lock.file, *file);
            assert!(later.any(|one| one == lock), "{lock:?} is out of turn");
        }
        found += locks.len();
    }
    assert!(found <= all.len());
    assert_eq!(by_file.is_empty(), all.is_empty());
}
