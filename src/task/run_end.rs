//! The end of a run, as it is noted in the lock file after the holder record.
//!
//! The note makes two things possible. A waiter that opened the lock file earlier learns how the run ended, even if the
//! task was removed immediately. And the outcome survives a full disk: the lock file already has a block, so there is
//! room for the note even when no new file `exit` can be written.

use super::state::RunResult;
use crate::os;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// The result and duration of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunEnd {
    pub(super) result: RunResult,
    pub(super) took: Duration,
}

/// The name of the exit status in the note, after the end of the line before.
const NAME: &[u8] = b"\noutcome=";

/// The name of the maximum time, if it was over. It comes before the exit status, so that older helpers read the rest.
const TIME_OVER: &str = "time_over=";

impl RunEnd {
    /// Appends the end of the run to the lock file.
    pub(super) fn append_to(self, lock: &File) -> io::Result<()> {
        let mut lock = lock;
        lock.seek(SeekFrom::End(0))?;
        let time_over = self.result.time_over.map(|time| format!("{TIME_OVER}{}\n", time.as_secs_f64()));
        let text = format!(
            "{}outcome={}\nseconds={:.3}\n",
            time_over.unwrap_or_default(),
            self.result.status,
            self.took.as_secs_f64()
        );
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
        let name = bytes[..read].windows(NAME.len()).rposition(|name| name == NAME)?;
        let end = str::from_utf8(&bytes[name + NAME.len()..read]).ok()?;
        let (status, took) = end.strip_suffix('\n')?.split_once("\nseconds=")?;
        let parse_seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
        let before = bytes[..name].rsplit(|byte| *byte == b'\n').next()?;
        let time_over = str::from_utf8(before).ok().and_then(|line| parse_seconds(line.strip_prefix(TIME_OVER)?));
        Some(Self { result: RunResult { status: status.parse().ok()?, time_over }, took: parse_seconds(took)? })
    }
}
