//! Slots: a lock that up to N processes hold at the same time (`--slots N`).
//!
//! Slot k of N is one byte of the lock file ([`os::Slot`]), locked on the open file description that also holds the lock shared.
//! So children inherit the slot with the lock, and the end of the last holder releases both. An exclusive caller without `--slots` waits
//! until no slot is held, as it waits for shared holders. A shared one excludes no slot.
//!
//! The turnstile is one more byte, locked for the process while it acquires a slot. It is the queue, and lets only one caller at a
//! time look at the slots of other numbers. The process loses it when it closes any descriptor of the file. So the first thread closes
//! none in that time, and the thread that reports the wait gets descriptors of its own, or closes none either ([`os::KeptFile`]).
//!
//! A caller with `--slots N` first makes an attempt without the turnstile:
//!
//! 1. It tries slot 1 of N.
//! 2. It looks at all bytes from the turnstile of slots to those of exclusive waiters ([`turnstile`](super::turnstile)). If none is
//!    locked, it goes to 4.
//! 3. It looks at all of them but the slots of N again: first at those before these slots, and then at those after them.
//! 4. It tries the lock, shared. If it is granted, the caller runs.
//!
//! It locks its slot before it looks. So of two callers with different numbers, at least one sees the other, and a caller that holds
//! the turnstile sees the slot, or is seen. If one of these steps fails, the caller releases slot 1. If an exclusive caller waits, it waits,
//! too, and if it must not wait, it fails. Otherwise, it tries the steps below without waiting, and then takes them:
//!
//! 1. It blocks on the turnstile. It tries no slot before that.
//! 2. It blocks on the lock, shared, with the steps of a shared caller. So it lets exclusive callers pass that came before it.
//! 3. It looks whether a slot of another number N is held. If so, it releases both and ends with an error that names that number.
//! 4. It tries the slots 1 to N.
//! 5. If all are held, it waits for each of them ([`os::wait_for_any_byte`]) and goes to 4. No other process tries a slot in between.
//! 6. It releases the turnstile, and runs. Its end releases the slot and the lock.
//!
//! A caller that has to wait takes steps 1 and 2 on a descriptor of its own. If it is killed, no descriptor of a script holds the
//! lock.
//!
//! If an ancestor holds the lock, and did not hand its descriptor down, a caller must never wait for an exclusive caller, which waits for
//! that ancestor. So it skips step 1, and waits for no other caller in step 2:
//!
//! 1. P holds a slot. A is at the turnstile.
//! 2. C, a child of P, asks for a slot. If it blocked on the turnstile, it would wait for A.
//! 3. W asks for the lock without `--slots`, and waits for P.
//! 4. A takes step 2 and waits for W. P waits until its child C ends.
//!
//! The lock that the ancestor holds keeps callers with another number out. In step 5, such a caller and the one at the turnstile can each
//! take a slot that the other one was about to try. Then both try again.
//!
//! If no slot is held, a caller makes one system call more than for a shared lock, and two more than for an exclusive one. If slot 1 is
//! held, it makes ten or more: the failed try, turnstile, three steps of a shared caller, two looks, slots, turnstile.

use super::turnstile::TurnWait;
use crate::lock::deadlock::holds_above;
use crate::lock::error::{LockError, SlotMistake};
use crate::os::bytes::PRIORITY_END;
use crate::os::proc::lock_table::KernelLock;
use crate::os::{self, ALL_SLOTS, Mode, Slot, TURNSTILE, around_slots, other_slots};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The result of an attempt to get a slot.
pub(super) enum SlotAttempt {
    Granted(Slot),
    /// All slots are held, the lock is held exclusively, or another caller is at the turnstile.
    Busy,
    /// This slot is held, and it is one of another number of slots.
    OtherNumber(Slot),
}

/// The maximum number of pauses of [`TRY_AGAIN`] in an attempt.
const MAX_TRIES: u32 = 200;

/// The pause of an attempt while another caller passes the turnstile, which takes some microseconds.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// Makes the attempt without the turnstile to get slot 1 of `capacity` on `file`. If that fails, nothing is held.
pub(super) fn try_first_slot(file: &File, capacity: u32) -> io::Result<Option<Slot>> {
    let first = Slot { number: 1, capacity };
    if !os::try_lock_range(file, Mode::Exclusive, first.byte(), 1)? {
        return Ok(None);
    }
    let granted = is_first_in_order(file, capacity)
        .and_then(|is_first| if is_first { os::try_lock(file, Mode::Shared) } else { Ok(false) });
    if !matches!(granted, Ok(true)) {
        os::unlock_range(file, first.byte(), 1)?;
    }
    granted.map(|is_granted| is_granted.then_some(first))
}

/// Returns true if no process holds the turnstile, a slot of another number, or a byte of the waiters without `--slots`. If no byte is
/// locked at all, this takes one system call.
fn is_first_in_order(file: &File, capacity: u32) -> io::Result<bool> {
    let look = |(start, len)| os::range_in_the_way(file, Mode::Exclusive, start, len);
    let Some(found) = look((TURNSTILE, PRIORITY_END - TURNSTILE))? else { return Ok(true) };
    if Slot::from_byte(found.start).is_none_or(|slot| slot.capacity != capacity) {
        return Ok(false);
    }
    let [below, above] = around_slots(capacity, PRIORITY_END);
    Ok(look(below)?.is_none() && look(above)?.is_none())
}

/// Tries to get one of `capacity` slots on `file`, after [`try_first_slot`] has failed and no exclusive caller was found that waits. If
/// that fails, nothing is held.
///
/// The attempt does not wait until a slot is released. But if a slot is free and another caller is at the turnstile, that caller
/// passes it in an instant, and the attempt is repeated for a short time. Otherwise some of three callers that begin at the same
/// time would be refused, although there are three slots.
pub(super) fn try_slots(file: &File, capacity: u32) -> io::Result<SlotAttempt> {
    let mut tries = 0;
    while !os::try_lock_byte(file, TURNSTILE)? {
        tries += 1;
        if tries > MAX_TRIES || !has_free_slot(file, capacity)? {
            return Ok(SlotAttempt::Busy);
        }
        thread::sleep(TRY_AGAIN);
    }
    let attempt = os::try_lock(file, Mode::Shared).and_then(|is_free| {
        let attempt = if is_free { find_slot(file, capacity) } else { Ok(SlotAttempt::Busy) };
        if is_free && !matches!(attempt, Ok(SlotAttempt::Granted(_))) {
            os::unlock(file)?;
        }
        attempt
    });
    os::unlock_byte(file, TURNSTILE)?;
    attempt
}

/// Returns true if a slot is free, and no process holds the whole lock.
fn has_free_slot(file: &File, capacity: u32) -> io::Result<bool> {
    if os::range_in_the_way(file, Mode::Exclusive, TURNSTILE, 1)?.is_none() {
        // The caller that was at the turnstile has passed it.
        return Ok(true);
    }
    for slot in Slot::all(capacity) {
        if os::range_in_the_way(file, Mode::Exclusive, slot.byte(), 1)?.is_none() {
            return Ok(os::try_lock(file, Mode::Shared)? && os::unlock(file).is_ok());
        }
    }
    Ok(false)
}

/// Locks a free slot. This process holds the turnstile.
fn find_slot(file: &File, capacity: u32) -> io::Result<SlotAttempt> {
    if let Some(slot) = find_other_number(file, capacity)? {
        return Ok(SlotAttempt::OtherNumber(slot));
    }
    for slot in Slot::all(capacity) {
        if os::try_lock_range(file, Mode::Exclusive, slot.byte(), 1)? {
            return Ok(SlotAttempt::Granted(slot));
        }
    }
    Ok(SlotAttempt::Busy)
}

/// Returns a slot that is held and that is one of another number of slots.
fn find_other_number(file: &File, capacity: u32) -> io::Result<Option<Slot>> {
    for (start, len) in other_slots(capacity) {
        let found = os::range_in_the_way(file, Mode::Exclusive, start, len)?;
        if let Some(slot) = found.and_then(|found| Slot::from_byte(found.start)) {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// The next step of a wait.
#[derive(Clone, Copy)]
enum SlotStage {
    Turnstile,
    Lock,
    Slots,
}

/// A wait for a slot. Dropping it releases the turnstile.
pub(super) struct SlotWait<'a> {
    file: &'a File,
    path: PathBuf,
    /// A descriptor of our own, which holds the turnstile, and the lock until the slot is granted.
    own: Arc<File>,
    /// The wait for the lock, shared.
    turn: Option<TurnWait<Arc<File>>>,
    capacity: u32,
    stage: SlotStage,
    granted: Option<Slot>,
    /// A slot of another number that is held, which ends the wait.
    other: Option<Slot>,
}

impl<'a> SlotWait<'a> {
    /// Prepares a wait for one of `capacity` slots on `file`.
    pub(super) fn new(file: &'a File, path: &Path, capacity: u32) -> io::Result<Self> {
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        // If the user may not open the file again, or without `/proc`, a copy of the descriptor is enough for the wait.
        let own = OpenOptions::new().read(true).write(true).open(again).or_else(|_| file.try_clone())?;
        let own = Arc::new(own);
        let (stage, turn) = if holds_above(path) {
            (SlotStage::Lock, Some(TurnWait::without_order(Arc::clone(&own), Mode::Shared)))
        } else {
            (SlotStage::Turnstile, None)
        };
        Ok(Self { file, path: path.to_owned(), own, turn, capacity, stage, granted: None, other: None })
    }

    /// Blocks until a slot is granted, or until a signal comes. A later call goes on at the same step.
    pub(super) fn block_once(&mut self) -> io::Result<()> {
        loop {
            match self.stage {
                SlotStage::Turnstile => {
                    os::wait_lock_byte(&self.own, TURNSTILE)?;
                    self.stage = SlotStage::Lock;
                }
                SlotStage::Lock => {
                    let begin = || TurnWait::new(Arc::clone(&self.own), &self.path, Mode::Shared, None);
                    self.turn.get_or_insert_with(begin).block_once()?;
                    self.stage = SlotStage::Slots;
                }
                SlotStage::Slots => match find_slot(self.file, self.capacity)? {
                    SlotAttempt::Granted(slot) => {
                        // It is free, because our own descriptor holds it, too.
                        os::wait_lock(self.file, Mode::Shared)?;
                        self.granted = Some(slot);
                        return os::unlock_byte(&self.own, TURNSTILE);
                    }
                    SlotAttempt::OtherNumber(slot) => {
                        self.other = Some(slot);
                        return Err(io::ErrorKind::Other.into());
                    }
                    SlotAttempt::Busy => {
                        let bytes: Vec<u64> = Slot::all(self.capacity).map(Slot::byte).collect();
                        os::wait_for_any_byte(&self.own, &bytes)?;
                    }
                },
            }
        }
    }
}

impl SlotWait<'_> {
    /// Ends the wait. Returns the slot, if one was granted. Fails if the lock is held with another number of slots.
    pub(super) fn finish(self, label: &str) -> Result<Option<Slot>, LockError> {
        self.other.map_or(Ok(self.granted), |held| Err(refuse_number(held, self.capacity, label)))
    }
}

impl Drop for SlotWait<'_> {
    fn drop(&mut self) {
        let _ = os::unlock_byte(&self.own, TURNSTILE);
        // A copy of the descriptor has the locks of the original.
        if self.granted.is_none() {
            let _ = os::unlock(&self.own);
            let _ = release_slots(self.file);
        }
    }
}

/// Releases the slot of an open file description.
pub(super) fn release_slots(file: &File) -> io::Result<()> {
    let (start, len) = ALL_SLOTS;
    os::unlock_range(file, start, len)
}

/// Returns the slot of a caller whose script holds the lock already. Fails if it does not hold one of `capacity` slots.
pub(super) fn check_held_slot(held: KernelLock, capacity: u32, label: &str) -> Result<Slot, LockError> {
    match held.slots.slot() {
        // A holder of the whole lock holds all slots.
        None if held.exclusive => Ok(Slot { number: 1, capacity }),
        None => Err(LockError::Slots { label: label.to_owned(), mistake: SlotMistake::HeldShared }),
        Some(slot) if slot.capacity == capacity => Ok(slot),
        Some(slot) => Err(refuse_number(slot, capacity, label)),
    }
}

/// Returns the error for a caller that wants one of `wanted` slots, while a slot of another number is held.
pub(super) fn refuse_number(held: Slot, wanted: u32, label: &str) -> LockError {
    let mistake = SlotMistake::OtherNumber { held: held.capacity, wanted };
    LockError::Slots { label: label.to_owned(), mistake }
}

/// Returns the error for a file on which slots cannot be locked, because the call failed with `source`.
pub(super) fn cannot_use_slots(path: &Path, source: io::Error) -> LockError {
    let mistake = match source.raw_os_error() {
        Some(libc::EBADF) => SlotMistake::NotWritable,
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP) => {
            SlotMistake::FileSystem(os::file_system(path))
        }
        _ if source.kind() == io::ErrorKind::Unsupported => SlotMistake::FileSystem("this system".to_owned()),
        _ => return LockError::cannot_lock(path, source),
    };
    LockError::Slots { label: path.display().to_string(), mistake }
}

/// Fails on a file system on which a lock of the whole file excludes those of its parts.
pub(super) fn check_file_system(path: &Path) -> Result<(), LockError> {
    if !os::is_network_file_system(path) {
        return Ok(());
    }
    let mistake = SlotMistake::FileSystem(os::file_system(path));
    Err(LockError::Slots { label: path.display().to_string(), mistake })
}
