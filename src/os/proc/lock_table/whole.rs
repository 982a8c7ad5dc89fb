//! Reads the whole lock table, with a proof that it has no other locks.
//!
//! One call of read(2) returns some entries of the table as they are at one instant, at most a page. An entry is a lock with its
//! waiters. The next call goes on at the number of the next entry. If a lock is released between two calls, the later entries move
//! up, and one of them is skipped. A process that acquires and releases a lock in a loop makes this happen in the same way several
//! times in succession, so two equal texts prove nothing.
//!
//! The entries keep their order, and a new one can come before or after any other. So each call begins in the middle of the part
//! that the last one returned:
//!
//! 1. A call returns the entries from A to M.
//! 2. The next call begins at the offset of G. If it returns the same lines from G to M, nothing was skipped: a lock that was held
//!    the whole time is before M, and in the first part, or it is after G, and in the second part or in a later one.
//! 3. A part that leaves room in the page is the last one, unless the next entry is long, because it has many waiters. So a last call
//!    asks for a byte after those that were read. For it, the kernel generates the whole text at one instant, and returns nothing if
//!    the text is not longer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The kernel returns a table that is shorter than this in one part.
pub(super) const PAGE: usize = 4096;

/// The maximum number of attempts to read a table that changes.
const MAX_ATTEMPTS: usize = 10;

/// The maximum number of bytes of a table that is read, which are about 500 locks. For each call, the kernel generates the text from
/// its beginning.
const MAX_LEN: usize = 8 * PAGE;

/// The maximum length of an entry that is read, which are about 250 waiters.
const MAX_ENTRY: usize = 4 * PAGE;

/// The minimum number of bytes that two successive parts of a longer text have in common.
const OVERLAP: usize = PAGE / 2;

/// The number of bytes in a page that the last part leaves.
const ROOM: usize = PAGE / 4;

/// Returns the lines of the whole table. `None`: it is too long, it changes too often, or it cannot be read.
pub(super) fn read_completely() -> Option<String> {
    let table = File::open("/proc/locks").ok()?;
    read_until_unchanged(|bytes, offset| table.read_at(bytes, offset as u64))
}

/// Does the same with a function that reads the table at an offset.
fn read_until_unchanged(read: impl Fn(&mut [u8], usize) -> io::Result<usize>) -> Option<String> {
    for _ in 0..MAX_ATTEMPTS {
        match read_parts(&read) {
            Ok(None) => {}
            Ok(Some(text)) => return String::from_utf8(text).ok(),
            Err(_) => return None,
        }
    }
    None
}

/// Reads the table in parts. Returns nothing if a part does not follow the one before it.
fn read_parts(read: impl Fn(&mut [u8], usize) -> io::Result<usize>) -> io::Result<Option<Vec<u8>>> {
    let mut part = vec![0; MAX_ENTRY];
    let (mut text, mut begin): (Vec<u8>, usize) = (Vec::new(), 0);
    loop {
        let len = read(&mut part, begin)?;
        let Some(new) = part[..len].strip_prefix(&text[begin..]) else { return Ok(None) };
        let has_new = !new.is_empty();
        text.extend_from_slice(new);
        if len <= PAGE - ROOM {
            // At the offset of the end itself, the kernel would look for the next entry at a later instant.
            let is_longer = read(&mut [0], text.len() + 1)? > 0;
            return Ok((!is_longer).then_some(text));
        }
        if text.len() > MAX_LEN {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !has_new {
            return Ok(None);
        }
        begin = find_entry_before(&text, text.len().saturating_sub(OVERLAP));
    }
}

/// Returns the beginning of the last entry that begins before `end`. In the middle of an entry, the kernel would return the rest of it,
/// and the next entries as of a later instant.
fn find_entry_before(text: &[u8], end: usize) -> usize {
    let mut end = end;
    while let Some(newline) = text[..end].iter().rposition(|byte| *byte == b'\n') {
        let line = text[newline + 1..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        // `1: -> FLOCK …` is a waiter.
        if !line.contains(&b'>') {
            return newline + 1;
        }
        end = newline;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A table that changes before each call, as the kernel returns it.
    struct ChangingTable {
        entries: RefCell<Vec<String>>,
        random: Cell<u64>,
        /// The number of entries that processes release and acquire again.
        moving: usize,
    }

    impl ChangingTable {
        fn new(seed: u64, held: usize, moving: usize, waiters: usize) -> Self {
            let line = |pid: usize| format!("1: FLOCK  ADVISORY  WRITE {pid} fe:00:{pid} 0 EOF\n");
            let mut entries: Vec<String> = (0..moving + held).map(|at| line(at + 1000)).collect();
            let waiter = line(7).replace("FLOCK", "-> FLOCK");
            if let Some(last) = entries.last_mut() {
                last.push_str(&waiter.repeat(waiters));
            }
            let table = Self { entries: RefCell::default(), random: Cell::new(seed | 1), moving };
            for entry in entries {
                let at = table.choose(table.entries.borrow().len() + 1);
                table.entries.borrow_mut().insert(at, entry);
            }
            table
        }

        fn choose(&self, below: usize) -> usize {
            let mut random = self.random.get();
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            self.random.set(random);
            usize::try_from(random >> 33).unwrap() % below
        }

        /// Releases some locks, or acquires them again, at the places where the kernel does.
        fn change(&self) {
            let mut entries = self.entries.borrow_mut();
            for pid in (1000..1000 + self.moving).filter(|_| self.choose(4) == 0) {
                let name = format!(" {pid} ");
                if let Some(at) = entries.iter().position(|entry| entry.contains(&name)) {
                    entries.remove(at);
                } else {
                    // The list of a processor begins with the newest lock.
                    let at = self.choose(2) * entries.len() / 2;
                    entries.insert(at, format!("1: FLOCK  ADVISORY  WRITE {pid} fe:00:{pid} 0 EOF\n"));
                }
            }
        }

        fn read(&self, bytes: &mut [u8], offset: usize) -> usize {
            self.change();
            let entries = self.entries.borrow();
            let (mut end, mut part) = (0, String::new());
            for entry in entries.iter() {
                let begin = end;
                end += entry.len();
                if end <= offset {
                    continue;
                }
                let new = if begin < offset { &entry[offset - begin..] } else { entry };
                if !part.is_empty() && part.len() + new.len() > PAGE {
                    break;
                }
                part.push_str(new);
                if part.len() >= bytes.len() {
                    break;
                }
            }
            let len = part.len().min(bytes.len());
            bytes[..len].copy_from_slice(&part.as_bytes()[..len]);
            len
        }
    }

    #[test]
    fn a_lock_that_is_held_the_whole_time_is_never_missing() {
        let mut complete = 0;
        for seed in 1..3000_u64 {
            let held = [1, 30, 60, 200][usize::try_from(seed % 4).unwrap()];
            let waiters = if seed % 8 < 4 { 0 } else { 70 };
            let table = ChangingTable::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), held, 3, waiters);
            let text = read_until_unchanged(|bytes, offset| Ok(table.read(bytes, offset)));
            let Some(text) = text else { continue };
            complete += 1;
            for pid in 1003..1003 + held {
                assert!(text.contains(&format!(" {pid} ")), "seed {seed}: {pid} is missing in\n{text}");
            }
        }
        assert!(complete > 1000, "only {complete} tables were read");
    }

    #[test]
    fn a_table_that_is_too_long_is_not_read() {
        let table = ChangingTable::new(1, 2000, 0, 0);
        assert_eq!(read_until_unchanged(|bytes, offset| Ok(table.read(bytes, offset))), None);
    }
}
