//! Coalesced calls: during a run, one caller waits for the next run, and all others rely on it and end (`--coalesce`).
//!
//! In addition to the lock itself, there are two locks of bytes: **next** ([`bytes::NEXT_RUN`]), which the one waiting caller holds, and
//! a **short lock** ([`bytes::NEEDED_LOCK`]). `next` is locked on a descriptor that no other process has, and the short lock for the
//! process, so both end with their holder. And there are two numbers ([`promise`]): `started`, the number of runs that have begun, and
//! `needed`, the number of the run on which callers rely that have ended.
//!
//! [`acquire`](super::acquire) calls `CoalescedCall` before it tries the lock, before it waits, and after the grant. The steps are
//! those of the model in `tests/models/coalesce.rs`:
//!
//! 1. The caller reads `started` into s. It tries the lock. If it is granted, the caller goes to 5.
//! 2. It blocks on the short lock, and tries `next`. If `next` is held, it raises `needed` to s + 1, releases the short lock, and
//!    ends: its call is **covered**, because the holder of `next` starts a run after this call. Otherwise, it releases the short lock.
//! 3. Holding `next`, it blocks on the lock.
//! 4. Holding the lock, it blocks on the short lock, releases `next`, and reads `needed`. Then it releases the short lock.
//! 5. If a run has started after its call (`started` > s), and all others are covered (`needed` <= `started`), it releases the
//!    lock and ends as covered.
//! 6. It adds 1 to `started`, runs, and releases the lock.
//!
//! A caller with a timeout may give up, so no other caller can rely on it. If `next` is free in step 2, it does not take it, but
//! blocks on the lock and goes to 5. A caller with `-n` is refused instead.
//!
//! With `--coalesce=strict`, a caller leaves out steps 2 and 4. In step 5, it is covered only if a run that started after its call
//! has also succeeded: after a success, the run writes its number to `completed`.
//!
//! Runs without `--coalesce` are not counted, because they may be of another command.
//!
//! | killed process | state that it leaves |
//! |---|---|
//! | a caller in step 2 | none, or a higher `needed`: then the holder of `next` runs. The kernel releases the short lock |
//! | the holder of `next` | `needed` > `started`, if another caller relies on it: an owed run. `status` shows it, and the next call runs |
//! | a caller in steps 4 to 6 that has held `next` | the same |
//! | the holder of the lock, later | a run that was killed. It covers the calls before it, as one that failed or could not start |
//!
//! A stopped process can hold the short lock for long. So a caller blocks on the short lock for at most a second. After that, it does
//! not rely on another caller, and runs when the lock is granted: then there may be more runs than necessary.

use super::error::{CoalesceMistake, CoveredBy, LockError};
use super::promise::{self, RunNumber};
use super::request::{Coalescing, Guard, Request};
use super::wait::block_until_granted;
use crate::base::target::{Target, Wait};
use crate::lock::events::{self, LockEvent};
use crate::lock::open::open_existing;
use crate::os::{self, Mode, bytes};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The maximum time to wait for the short lock, which other processes hold for some microseconds.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// A call with `--coalesce` for one lock file.
pub(super) struct CoalescedCall {
    kind: Coalescing,
    /// The number of runs that had begun before this call.
    started: u64,
    /// The descriptor on which this process holds `next`. It is not the descriptor of the lock, because a script has a copy of that.
    /// And `next` is not locked for the process, because the thread that reports the wait closes descriptors of the file.
    next: Option<File>,
}

impl CoalescedCall {
    /// Step 1, before the lock is tried. Fails if the file cannot have the numbers or the locks.
    pub(super) fn begin(file: &File, target: &Target, kind: Coalescing) -> Result<Self, LockError> {
        let refuse = |source| cannot_coalesce(target, source);
        if os::is_network_file_system(&target.path) {
            let mistake = CoalesceMistake::FileSystem(os::file_system(&target.path));
            return Err(LockError::Coalesce { label: target.label.clone(), mistake });
        }
        if !os::is_writable(file) {
            return Err(refuse(io::Error::from_raw_os_error(libc::EBADF)));
        }
        Ok(Self { kind, started: RunNumber::Started.read(file).map_err(refuse)?, next: None })
    }

    /// Step 2, after the lock was refused. Fails with [`LockError::Covered`] if another caller waits for the next run.
    pub(super) fn join(&mut self, file: &File, target: &Target, request: &Request) -> Result<(), LockError> {
        if self.kind == Coalescing::Strict {
            return Ok(());
        }
        // No caller can rely on one that may give up.
        let mut next = if request.wait == Wait::Forever { open_again(file, target) } else { None };
        let found = with_short_lock(file, || {
            if os::range_in_the_way(file, Mode::Exclusive, bytes::NEXT_RUN, 1)?.is_some() {
                let needed = self.started.saturating_add(1);
                if RunNumber::Needed.read(file)? < needed {
                    RunNumber::Needed.write(file, needed)?;
                }
                return Ok(Some(CoveredBy::Waiter(promise::read_waiter(file))));
            }
            if let Some(own) = &next
                && os::try_lock_range(own, Mode::Exclusive, bytes::NEXT_RUN, 1)?
            {
                promise::write_waiter(own)?;
                self.next = next.take();
            }
            Ok(None)
        });
        match found.map_err(|source| cannot_coalesce(target, source))?.flatten() {
            Some(by) => Err(end_as_covered(by, target, request)),
            None => Ok(()),
        }
    }

    /// Steps 4 to 6, after the lock was granted, if the file is still that of the target: the numbers of a file that was replaced are
    /// not those of the lock. If the call is covered, releases the lock, and fails with
    /// [`LockError::Covered`].
    pub(super) fn check_grant(&mut self, file: &File, target: &Target, request: &Request) -> Result<(), LockError> {
        let decided = self.decide(file);
        let error = match decided {
            Ok(false) => return Ok(()),
            Ok(true) => end_as_covered(CoveredBy::Run, target, request),
            Err(source) => cannot_coalesce(target, source),
        };
        let _ = os::unlock(file);
        Err(error)
    }

    /// Returns true if the call is covered. Otherwise, counts a run.
    fn decide(&mut self, file: &File) -> io::Result<bool> {
        let mut needed = None;
        if let Some(next) = self.next.take() {
            needed = with_short_lock(file, || {
                os::unlock_range(&next, bytes::NEXT_RUN, 1)?;
                RunNumber::Needed.read(file)
            })?;
            needed = needed.or(Some(u64::MAX));
        }
        let needed = needed.map_or_else(|| RunNumber::Needed.read(file), Ok)?;
        let started = RunNumber::Started.read(file)?;
        let past = if self.kind == Coalescing::Strict { RunNumber::Completed.read(file)? } else { started };
        let is_covered = past > self.started && needed <= started;
        if !is_covered {
            RunNumber::Started.write(file, started.saturating_add(1))?;
        }
        Ok(is_covered)
    }
}

/// Notes that the run of the caller, which holds these locks, has succeeded (`--coalesce=strict`).
pub fn note_success(guards: &[Guard]) {
    for guard in guards.iter().filter(|guard| guard.fresh) {
        // If this fails, each waiting caller starts a run of its own.
        let _ = RunNumber::Started.read(&guard.file).and_then(|number| RunNumber::Completed.write(&guard.file, number));
    }
}

/// Opens the lock file a second time. `None`: the path leads to another file by now, or this user may not open it.
fn open_again(file: &File, target: &Target) -> Option<File> {
    open_existing(&target.path).ok().filter(|own| os::same_file(own, file).unwrap_or(false))
}

/// Calls `work` while this process holds the short lock. Returns `None` if another process holds it for too long.
fn with_short_lock<T>(file: &File, work: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    let alarm = os::Alarm::new();
    let deadline = Instant::now().checked_add(SHORT_WAIT);
    let block_once = &mut || os::wait_lock_byte(file, bytes::NEEDED_LOCK);
    if !block_until_granted(&alarm, block_once, deadline, &mut || ControlFlow::Continue(None))? {
        return Ok(None);
    }
    let done = work();
    os::unlock_byte(file, bytes::NEEDED_LOCK)?;
    done.map(Some)
}

fn end_as_covered(by: CoveredBy, target: &Target, request: &Request) -> LockError {
    events::log_event(&LockEvent::Covered { by }, target, request.holder, request.command.as_deref());
    LockError::Covered { label: target.label.clone(), by }
}

/// Returns the error for a file that cannot have the numbers or the locks, because a call failed with `source`.
fn cannot_coalesce(target: &Target, source: io::Error) -> LockError {
    let mistake = match source.raw_os_error() {
        Some(libc::EBADF | libc::EACCES | libc::EPERM | libc::EROFS) => CoalesceMistake::NotWritable,
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP) => {
            CoalesceMistake::FileSystem(os::file_system(&target.path))
        }
        _ if source.kind() == io::ErrorKind::Unsupported => CoalesceMistake::FileSystem("this system".to_owned()),
        _ => return LockError::cannot_lock(&target.path, source),
    };
    LockError::Coalesce { label: target.label.clone(), mistake }
}
