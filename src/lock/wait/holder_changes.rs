//! Notices that other processes acquire the lock during a wait.
//!
//! Then its holders go on by themselves, and a search for deadlocks would find nothing. One look at the time of the record shows
//! that, while a search makes a hundred system calls or more, for each of the waiters.
//!
//! A circle through the lock can only begin with the last of these holders. Then the record does not change any more, and the next
//! look is a search. If shared holders come and go, one of them may be stuck all the time. So the number of looks in a row that are
//! skipped is limited.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// The maximum number of looks in a row that a waiter skips because other processes acquire the lock.
const MAX_SKIPPED_LOOKS: u32 = 10;

/// The pause after the first skipped look. It doubles with each one.
const FIRST_SKIP_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause after a skipped look. It is that of a search.
const MAX_SKIP_PAUSE: Duration = Duration::from_secs(1);

/// The record of the lock, as a waiter has last seen it.
pub(super) struct HolderChanges<'a> {
    /// The lock file. `None` if not all holders write a record into it, for example because it is a file of the user.
    file: Option<&'a File>,
    /// The time of the record at the last look.
    written: Option<(i64, i64)>,
    skipped: u32,
}

impl<'a> HolderChanges<'a> {
    pub(super) fn new(file: Option<&'a File>) -> Self {
        let mut changes = Self { file, written: None, skipped: 0 };
        changes.written = changes.read_time();
        changes
    }

    fn read_time(&self) -> Option<(i64, i64)> {
        let data = self.file?.metadata().ok()?;
        Some((data.mtime(), data.mtime_nsec()))
    }

    /// Returns the pause until the next look if this one can be skipped.
    pub(super) fn skip_look(&mut self) -> Option<Duration> {
        let written = self.read_time();
        if written == self.written || self.skipped == MAX_SKIPPED_LOOKS {
            self.skipped = 0;
            return None;
        }
        self.written = written;
        let pause = FIRST_SKIP_PAUSE * (1 << self.skipped);
        self.skipped += 1;
        Some(pause.min(MAX_SKIP_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_look_is_skipped_if_the_record_was_written_but_not_forever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::options().write(true).create_new(true).open(&path).unwrap();
        let mut changes = HolderChanges::new(Some(&file));
        let write = |seconds: u64| file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        assert_eq!(changes.skip_look(), None);
        let mut pauses = Vec::new();
        for time in 1..=u64::from(MAX_SKIPPED_LOOKS) {
            write(time);
            pauses.push(changes.skip_look().unwrap());
        }
        assert_eq!(pauses[..5], [200, 400, 800, 1000, 1000].map(Duration::from_millis));
        write(100);
        assert_eq!(changes.skip_look(), None);
        write(101);
        assert_eq!(changes.skip_look(), Some(Duration::from_millis(200)));
        assert_eq!(changes.skip_look(), None);
    }
}
