//! Replaces the holder of a lock: the newest caller ends the present holder and takes the lock (`--replace`).
//!
//! Each newcomer locks a **ticket**, which is a byte of the lock file, on a descriptor that only its process has. The tickets are the
//! queue of the newcomers: at any time, only the one with the lowest ticket is past step 2, and each newcomer sees whether a
//! later one has come. A **stamp** is one more byte, locked on the descriptor of the lock, so that children inherit it. Like a record, it
//! proves that aba-lock acquired the lock, for a process that still runs. `acquire/newcomer.rs` takes the steps, with the parts in this
//! file. The model `replace` in `tests/models` has the same steps, and runs them in each order.
//!
//! A newcomer:
//!
//! 1. It blocks on the short lock, locks the ticket after the highest one that is locked, and releases the short lock.
//! 2. It blocks until no lower ticket is locked.
//! 3. If a higher ticket is locked, it releases its own and gives up.
//! 4. It tries the lock. If it is granted, it goes to 8.
//! 5. It looks for a proof that aba-lock acquired the lock: a stamp, a slot, or the record of this acquisition. If there is none, it
//!    looks again for a second, and then goes to 7.
//! 6. It opens a descriptor for the holder, and then checks that the lock is still held through the same acquisition. If so, it ends the
//!    holder, as `unlock --kill` does ([`kill`]).
//! 7. It blocks on the lock.
//! 8. If a higher ticket is locked, it releases the lock, then its ticket, and gives up.
//! 9. It stamps the lock, then releases its ticket, and runs.
//!
//! A caller without `--replace` blocks on the lock, writes the record, and runs. The end of a holder needs no step: its stamp ends with
//! the lock. Its record stays, but is no proof for a later holder.
//!
//! While the first newcomer gives the holder its time between SIGTERM and SIGKILL, the others wait at step 2. So the holder gets one
//! SIGTERM. Step 5 may last a second, because a holder that has just acquired the lock may be about to write its record. A lock that
//! flock(1) acquired never has a record, and a file of the user (`--file`) has none either. The newcomer only waits for their holders,
//! unless they have a stamp or a slot.
//!
//! | killed process | state that it leaves |
//! |---|---|
//! | a newcomer, at any step before 9 | none: its ticket ends with it. On the descriptor of a script, the lock ends when the script closes it |
//! | a newcomer, after it has ended the holder | the lock is free. The newcomer with the next ticket goes on; those that gave up do not come back |
//! | a newcomer, in step 9 | none: the lock, the stamp and the ticket end with it |

use crate::base::duration::format_limit;
use crate::base::target::Target;
use crate::lock::error::{LockError, ReplaceMistake};
use crate::lock::kill::{self, ForcedRelease, KillPlan, Refusal, ReleaseOutcome, ReleaseRules};
use crate::lock::record::{self, Content, cut};
use crate::os::bytes::{FIRST_TICKET, STAMP, TICKET_LOCK};
use crate::os::proc::lock_table::WantedFile;
use crate::os::proc::openers::{self, LockingProcess};
use crate::os::proc::process;
use crate::os::{self, Mode};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The pauses between the looks at a holder without a proof, in milliseconds: one second in all.
const PAUSES: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 300, 500];

/// The maximum number of bytes of the command line in the message to the holder.
const MAX_COMMAND: usize = 200;

/// A caller with a ticket, or one that waits for it. Dropping it releases the ticket.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// The descriptor of the ticket.
    own: File,
    /// `None`: it waits for the short lock.
    ticket: Option<u64>,
}

impl Newcomer {
    /// Prepares the queue for a caller that wants the lock of `target`, which is open as `file`.
    pub(super) fn new(file: &File, target: &Target) -> Result<Self, LockError> {
        let path = &target.path;
        // There, a lock of the whole file would exclude those of its parts.
        if os::is_network_file_system(path) {
            let mistake = ReplaceMistake::FileSystem(os::file_system(path));
            return Err(LockError::Replace { label: path.display().to_string(), mistake });
        }
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let own = OpenOptions::new().read(true).write(true).open(again);
        Ok(Self { own: own.map_err(|source| cannot_replace(path, source))?, ticket: None })
    }

    /// Draws a ticket, and returns true if there is no earlier newcomer. Otherwise, [`wait_for_turn`](Self::wait_for_turn) must be called.
    pub(super) fn try_turn(&mut self) -> io::Result<bool> {
        if !os::try_lock_range(&self.own, Mode::Exclusive, TICKET_LOCK, 1)? {
            return Ok(false);
        }
        let ticket = self.draw_ticket()?;
        Ok(ticket == FIRST_TICKET
            || os::try_lock_range(&self.own, Mode::Exclusive, FIRST_TICKET, ticket - FIRST_TICKET)?)
    }

    /// Blocks until there is no earlier newcomer, or until a signal comes. A later call goes on at the same step.
    pub(super) fn wait_for_turn(&mut self) -> io::Result<()> {
        let ticket = if let Some(ticket) = self.ticket {
            ticket
        } else {
            os::wait_lock_range(&self.own, Mode::Exclusive, TICKET_LOCK, 1)?;
            self.draw_ticket()?
        };
        // A length of 0 would mean the rest of the file.
        if ticket == FIRST_TICKET {
            return Ok(());
        }
        os::wait_lock_range(&self.own, Mode::Exclusive, FIRST_TICKET, ticket - FIRST_TICKET)
    }

    /// Locks the next ticket, and releases the short lock, which this process holds.
    fn draw_ticket(&mut self) -> io::Result<u64> {
        let mut ticket = FIRST_TICKET;
        // A newcomer whose turn has come holds the lower tickets, too.
        let mut is_free = true;
        while is_free && let Some(found) = os::range_in_the_way(&self.own, Mode::Exclusive, ticket, 0)? {
            ticket = found.start + found.len;
            // Another program has locked all bytes.
            is_free = found.len > 0;
        }
        let is_locked = is_free && os::try_lock_range(&self.own, Mode::Exclusive, ticket, 1)?;
        os::unlock_range(&self.own, TICKET_LOCK, 1)?;
        if !is_locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.ticket = Some(ticket);
        Ok(ticket)
    }

    /// Returns true if a later newcomer has come.
    pub(super) fn has_successor(&self) -> io::Result<bool> {
        let next = self.ticket.unwrap_or(FIRST_TICKET) + 1;
        Ok(os::range_in_the_way(&self.own, Mode::Exclusive, next, 0)?.is_some())
    }

    /// Stamps the lock on `file`, which process `holder` will hold, and releases the ticket after that. The owner shows that there is a
    /// stamp to release.
    pub(super) fn stamp(self, file: &File, holder: u32) -> io::Result<()> {
        os::set_owner(file, holder);
        let stamped = os::try_lock_range(file, Mode::Exclusive, STAMP, 1);
        drop(self.own);
        stamped.map(drop)
    }
}

/// The caller that replaces the holder, and its plan.
pub(super) struct Successor<'a> {
    pub(super) target: &'a Target,
    /// The process that will hold the lock.
    pub(super) pid: u32,
    /// The command line that it will have. `None`: the one that it has now.
    pub(super) command: Option<&'a str>,
    /// The time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

/// The rules of a replacement.
struct Replacement<'a> {
    successor: &'a Successor<'a>,
    goes_on: &'a dyn Fn() -> bool,
}

/// Steps 5 and 6: ends the holder of the lock, if there is a proof that aba-lock acquired the lock. `try_lock` tries the lock: if it is
/// granted, the result is `None`. `goes_on` returns false if the caller must give up.
pub(super) fn end_holder(
    successor: &Successor,
    goes_on: &dyn Fn() -> bool,
    try_lock: &dyn Fn() -> Result<bool, LockError>,
) -> Result<Option<ForcedRelease>, LockError> {
    let rules = Replacement { successor, goes_on };
    let plan = KillPlan { signal: kill::TERM, grace: successor.grace };
    let mut pauses = PAUSES.iter();
    loop {
        let release = kill::end_holders_by(&rules, &successor.target.path, &plan);
        let pause = pauses.next().filter(|_| may_be_proved_soon(&release) && goes_on());
        let Some(pause) = pause else { return Ok(Some(release)) };
        thread::sleep(Duration::from_millis(*pause));
        if try_lock()? {
            return Ok(None);
        }
    }
}

/// Returns true if a proof may follow soon: the holder may be about to write its record, or another process became the holder during
/// the look.
pub(super) fn may_be_proved_soon(release: &ForcedRelease) -> bool {
    match &release.outcome {
        ReleaseOutcome::Refused(Refusal::Unproved) => true,
        ReleaseOutcome::Refused(Refusal::HolderUnseen(state)) => {
            state.holding.as_ref().is_some_and(|holding| holding.changes_hands)
        }
        _ => false,
    }
}

impl ReleaseRules for Replacement<'_> {
    /// Returns true if the holders have stamps or slots, or belong to the acquisition that the record describes. All holders of an
    /// exclusive lock belong to one acquisition, so the proof for one of them is enough.
    fn is_proved(&self, file: &WantedFile, holders: &[&LockingProcess]) -> bool {
        let record = match record::read_path(&file.path) {
            Content::Record(record) => Some(record),
            Content::Empty | Content::Incomplete | Content::Foreign => None,
        };
        let is_here =
            |record: &record::Record| record.boot == process::boot_id() && record.ns == process::pid_namespace();
        let record = record.filter(|record| is_here(record));
        let is_recorded = |holder: &LockingProcess| {
            record.as_ref().is_some_and(|record| match holder.lock.locker {
                // In a pid namespace other than the first one, the kernel names no locker that has ended.
                0 => record.pid == holder.pid && process::is_alive(record.pid, record.tick),
                locker => locker == record.locker,
            })
        };
        let is_known = |holder: &&LockingProcess| {
            is_recorded(holder) || holder.lock.slots.slot().is_some() || openers::has_byte_lock(holder.pid, file, STAMP)
        };
        if holders.iter().any(|holder| holder.lock.exclusive) {
            holders.iter().any(is_known)
        } else {
            holders.iter().all(is_known)
        }
    }

    /// Writes a message to the standard error of the first holder that has one.
    fn announce(&self, holders: &[(u32, &os::Process)]) {
        let Successor { target, pid, command, grace } = self.successor;
        let command = command.map_or_else(|| process::command_line(*pid), str::to_owned);
        let label = target.label.replace(char::is_control, " ");
        let command = cut(&command, MAX_COMMAND).replace(char::is_control, " ");
        let signals = if grace.is_zero() {
            "sending SIGKILL".to_owned()
        } else {
            format!("sending SIGTERM, and SIGKILL after {}", format_limit(*grace))
        };
        let line = format!("aba-lock: {label}: replaced by pid {pid} ({command}): {signals}\n");
        let _ = holders.iter().any(|(pid, process)| os::write_to_stderr_of(*pid, process, &line));
    }

    fn goes_on(&self) -> bool {
        (self.goes_on)()
    }
}

/// Returns the error for a file on which tickets cannot be locked, because the call failed with `source`.
pub(super) fn cannot_replace(path: &Path, source: io::Error) -> LockError {
    let mistake = match source.raw_os_error() {
        Some(libc::EBADF | libc::EACCES | libc::EROFS | libc::EISDIR | libc::EPERM | libc::ETXTBSY) => {
            ReplaceMistake::NotWritable
        }
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP) => {
            ReplaceMistake::FileSystem(os::file_system(path))
        }
        Some(libc::ENOENT) => return LockError::NoProc,
        _ if source.kind() == io::ErrorKind::Unsupported => ReplaceMistake::FileSystem("this system".to_owned()),
        _ => return LockError::cannot_lock(path, source),
    };
    LockError::Replace { label: path.display().to_string(), mistake }
}
