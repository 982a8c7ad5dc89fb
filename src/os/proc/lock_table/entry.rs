//! One line of the lock table, and the types for what it says.

use crate::os::flock::Mode;
use crate::os::priority::{Priority, QueuePlace};
use crate::os::range::RangeLock;
use crate::os::slot::{Slot, TURNSTILE};

/// A lock as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelLock {
    /// The process that called flock(2); it may have ended. 0 if it is not visible from this PID namespace.
    pub locker: u32,
    pub exclusive: bool,
    pub slots: SlotUse,
    /// The place where the process waits, and its level there.
    pub place: QueuePlace,
    pub priority: Priority,
}

/// The part that the slots of a counting lock (`--slots N`) have in a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotUse {
    /// None: the lock is for the whole file, or the table does not show more.
    None,
    /// Its process waits for any slot. It is the first of those that wait.
    First,
    /// Its process waits until it is the first.
    Queued,
    /// The open file description holds this slot.
    Holds(Slot),
}

impl SlotUse {
    /// Returns the slot that is held.
    #[must_use]
    pub fn slot(self) -> Option<Slot> {
        if let Self::Holds(slot) = self { Some(slot) } else { None }
    }
}

impl KernelLock {
    /// Returns a lock of the whole file, or the wait of a process for it.
    pub(crate) fn of_file(locker: u32, exclusive: bool) -> Self {
        Self { locker, exclusive, slots: SlotUse::None, place: QueuePlace::Lock, priority: Priority::Normal }
    }

    /// Returns the mode in which the lock is held or asked for.
    #[must_use]
    pub fn mode(self) -> Mode {
        if self.exclusive { Mode::Exclusive } else { Mode::Shared }
    }
}

/// A file as the kernel names it in the table: the device number (major and minor) and the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub ino: u64,
}

impl FileId {
    /// Returns the name that stands for the fcntl(2) locks of the file where [`FileId`]s stand for locks of flock(2). The table has no such
    /// name.
    pub(crate) fn of_fcntl(self) -> Self {
        Self { major: self.major | 1 << 31, ..self }
    }

    /// Returns true if both files are on one device.
    pub(crate) fn is_on_device_of(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }
}

/// A line of the table: a lock that a process holds or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListedLock {
    pub file: FileId,
    /// The lock. If `waits` is true, `locker` is the waiter.
    pub lock: KernelLock,
    pub waits: bool,
}

/// Parses a line such as `1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`, or `1: -> FLOCK …` for a waiter. A process that waits
/// for a turnstile, another byte of the policies, or a slot (`1: -> POSIX …`) is a waiter for the lock, too.
pub(super) fn parse_lock(line: &str) -> Option<ListedLock> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if_eq(&"->").is_some();
    let is_whole = words.next_if_eq(&"FLOCK").is_some();
    if !(is_whole || waits && words.next() == Some("POSIX")) {
        return None;
    }
    let exclusive = words.nth(1)? == "WRITE";
    let locker = words.next()?.parse().unwrap_or(0);
    let file = parse_file_id(words.next()?)?;
    if is_whole {
        return Some(ListedLock { file, lock: KernelLock::of_file(locker, exclusive), waits });
    }
    let (first, last): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let asked = if exclusive { Mode::Exclusive } else { Mode::Shared };
    let bytes = (first, last.checked_sub(first)?.checked_add(1)?);
    let lock = if let Some((place, mode)) = QueuePlace::of_wait(asked, bytes) {
        KernelLock { place, ..KernelLock::of_file(locker, mode == Mode::Exclusive) }
    } else {
        let slots = match first {
            TURNSTILE => SlotUse::Queued,
            byte => Slot::from_byte(byte).map(|_| SlotUse::First)?,
        };
        KernelLock { slots, ..KernelLock::of_file(locker, false) }
    };
    Some(ListedLock { file, lock, waits })
}

/// Parses the line of a ticket, such as `1: OFDLCK ADVISORY  WRITE -1 fe:00:1234 4611686022722420736 4611686022722420736`. A caller with
/// `--replace` holds it while it waits for the lock. The first of these callers also holds the tickets before its own.
pub(super) fn parse_ticket(line: &str) -> Option<ListedLock> {
    if !line.contains("OFDLCK") || line.contains("->") {
        return None;
    }
    let (file, range) = parse_range_lock(line)?;
    let lock = KernelLock { place: QueuePlace::Ticket(range.ticket()?), ..KernelLock::of_file(0, true) };
    Some(ListedLock { file, lock, waits: true })
}

/// Parses a line such as `1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`, or `OFDLCK` with the process -1.
pub(in crate::os::proc) fn parse_range_lock(line: &str) -> Option<(FileId, RangeLock)> {
    let [_, "POSIX" | "OFDLCK", _, kind, pid, file, start, end, ..] =
        line.split_ascii_whitespace().collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let start = start.parse().ok()?;
    // `end` is the last byte of the range, not the first after it.
    let len = if end == "EOF" { 0 } else { end.parse::<u64>().ok()?.checked_sub(start)? + 1 };
    let mode = if kind == "WRITE" { Mode::Exclusive } else { Mode::Shared };
    Some((parse_file_id(file)?, RangeLock { mode, start, len, pid: pid.parse().ok().filter(|pid| *pid > 0) }))
}

/// Parses a line such as `1: LEASE  ACTIVE    WRITE 4321 fe:00:1234 0 EOF`: the file, and the process that has taken the lease. The kernel
/// calls a lease of a file server `DELEG`.
pub(in crate::os::proc) fn parse_lease(line: &str) -> Option<(FileId, u32)> {
    let [_, "LEASE" | "DELEG", _, _, pid, file, ..] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    Some((parse_file_id(file)?, pid.parse().ok().filter(|pid| *pid > 0)?))
}

/// Parses a device number and inode, such as `fe:00:1234`.
fn parse_file_id(text: &str) -> Option<FileId> {
    let mut parts = text.split(':');
    let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
    let (major, minor) = (number()?, number()?);
    Some(FileId { major, minor, ino: parts.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_parsed() {
        let file = FileId { major: 0xfe, minor: 0, ino: 1234 };
        assert_eq!(
            parse_lock("1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"),
            Some(ListedLock { file, lock: KernelLock::of_file(4321, true), waits: false })
        );
        assert_eq!(
            parse_lock("12:    -> FLOCK  ADVISORY  READ -1 fe:00:1234 0 EOF"),
            Some(ListedLock { file, lock: KernelLock::of_file(0, false), waits: true })
        );
        let waits =
            |slots| Some(ListedLock { file, lock: KernelLock { slots, ..KernelLock::of_file(7, false) }, waits: true });
        let line = |byte: u64| format!("1: -> POSIX  ADVISORY  WRITE 7 fe:00:1234 {byte} {byte}");
        assert_eq!(parse_lock(&line(TURNSTILE)), waits(SlotUse::Queued));
        assert_eq!(parse_lock(&line(Slot { number: 2, capacity: 3 }.byte())), waits(SlotUse::First));
        assert_eq!(parse_lock(&line(0)), None);
        assert_eq!(parse_lock("1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
        assert_eq!(parse_lock("1: FLOCK  ADVISORY  WRITE 4321 <none>:0 0 EOF"), None);
        assert_eq!(parse_lock(""), None);
        assert_eq!(parse_lease("3: LEASE  BREAKING  READ  4321 fe:00:1234 0 EOF"), Some((file, 4321)));
        assert_eq!(parse_lease("3: LEASE  ACTIVE    WRITE 0 fe:00:1234 0 EOF"), None);
        let range = RangeLock { mode: Mode::Exclusive, start: 0, len: 0, pid: Some(4321) };
        assert_eq!(parse_range_lock("1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), Some((file, range)));
        let range = RangeLock { mode: Mode::Shared, start: 10, len: 10, pid: None };
        assert_eq!(parse_range_lock("1: OFDLCK ADVISORY  READ -1 fe:00:1234 10 19"), Some((file, range)));
        assert_eq!(parse_range_lock("1: -> POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
        assert_eq!(parse_range_lock("1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
    }
}
