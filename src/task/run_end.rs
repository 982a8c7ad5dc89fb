//! The end of a run, as it is noted in the lock file after the holder record.
//!
//! The note makes two things possible. A waiter that opened the lock file earlier learns how the run ended, even if the
//! task was removed immediately. And the outcome survives a full disk: the lock file already has a block, so there is
//! room for the note even when no new file `exit` can be written.

use crate::os;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The exit status and duration of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunEnd {
    pub(super) status: u8,
    pub(super) took: Duration,
}

/// The name of the exit status in the note, after the end of the line before.
const NAME: &[u8] = b"\noutcome=";

impl RunEnd {
    /// Appends the end of the run to the lock file.
    pub(super) fn append_to(self, lock: &File) -> io::Result<()> {
        let mut lock = lock;
        lock.seek(SeekFrom::End(0))?;
        let text = format!("outcome={}\nseconds={:.3}\n", self.status, self.took.as_secs_f64());
        os::without_size_signal(|| lock.write_all(text.as_bytes()))
    }

    /// Reads the end of the run from the lock file. `None` if none was noted.
    pub(super) fn read_from(lock: &File) -> Option<Self> {
        // Nearly every lock file fits, and so its size need not be asked for.
        let mut bytes = [0; 1024];
        let mut read = lock.read_at(&mut bytes, 0).ok()?;
        if read == bytes.len() {
            let begin = lock.metadata().ok()?.len().saturating_sub(bytes.len() as u64);
            read = lock.read_at(&mut bytes, begin).ok()?;
        }
        let end = bytes[..read].windows(NAME.len()).rposition(|name| name == NAME)? + NAME.len();
        let end = str::from_utf8(&bytes[end..read]).ok()?;
        let (status, took) = end.strip_suffix('\n')?.split_once("\nseconds=")?;
        let took = Duration::try_from_secs_f64(took.parse().ok()?).ok()?;
        Some(Self { status: status.parse().ok()?, took })
    }
}
