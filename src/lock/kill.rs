//! Releasing a lock of others, by ending who has it.
//!
//! What is to be ended are the processes that have *this* lock: those that have its open file description, and what they
//! start meanwhile, which inherits it. Who gets the lock next is not harmed: then it has been released, and we are done.
//! That it is this lock is seen from who took it, as the kernel tells (`locker`); one that was not there at the beginning
//! must have been started since, or by one of those, as the number of a locker that has ended may be given away again.
//!
//! Before each signal it is proved whom it goes to: the process is held by a descriptor of its own ([`os::Process`]), and
//! looked at after that: it started when the one we saw did, and has the locked file open. That needs a `/proc` of our own
//! pid namespace. What cannot be seen so is never signalled: another user's process, or one that only a record tells of.

use crate::lock::holders::{self, Availability, LockState};
use crate::lock::record;
use crate::os;
use crate::os::proc::lock_table::{self, ListedLock, WantedFile};
use crate::os::proc::openers::{self, LockingProcess, Scan};
use crate::os::proc::process;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long the holders may take to be gone after SIGKILL. One that waits for a disk does not act on it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How long one that has let go may take to be gone, until we say that it lives on.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// How often to look again at those that may let go without ending: this long at first, then longer and longer.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
];

/// How often to look for one that can be seen, where the lock goes from one to the next.
const MOST_TRIES: u32 = 5;

/// The signal that asks a process to end.
pub const TERM: i32 = libc::SIGTERM;

/// The signal that no process can see to.
pub const KILL: i32 = libc::SIGKILL;

/// The signals that end a process, unless it has seen to that.
const SIGNALS: [(&str, i32); 19] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", KILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", TERM),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("SYS", libc::SIGSYS),
];

/// The signal of this name, with or without `SIG`, or number. `None`: there is none that ends a process.
#[must_use]
pub fn parse_signal(text: &str) -> Option<i32> {
    // Of ASCII alone: `ſ` and `ı` become S and I.
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(known, number)| *known == name || number.to_string() == text).map(|(_, number)| *number)
}

/// How to end them.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// The first signal.
    pub signal: i32,
    /// How long they have after that, before SIGKILL.
    pub grace: Duration,
}

/// A process that was signalled.
#[derive(Debug)]
pub struct Signalled {
    /// Its number.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// Its user.
    pub user: String,
    /// Whether it took SIGKILL.
    pub killed: bool,
    /// Whether it has ended; if not, it has let go, or could not be ended.
    pub ended: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Forced {
    /// Who was signalled, in the order in which they were found.
    pub signalled: Vec<Signalled>,
    /// The end.
    pub end: End,
}

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// Those who had it have it no more. Another may have taken it since.
    Released,
    /// Nobody was signalled, for this reason.
    Refused(Why),
    /// It is still held, although the time is up.
    StillHeld,
}

/// Why nobody was signalled.
#[derive(Debug)]
pub enum Why {
    /// It is held by the process that asks, or by one above it.
    Ours,
    /// Who has it cannot be seen from here, whatever a record says.
    Unseen(Box<LockState>),
    /// One of them may not be signalled by us.
    NotAllowed(Signalled, io::Error),
    /// `/proc` is of another pid namespace: its numbers mean nothing here.
    OtherProc,
    /// There is no `/proc`.
    NoProc,
}

/// Ends those who have the lock at `path`, and waits until they have it no more.
#[must_use]
pub fn release(path: &Path, how: &How) -> Forced {
    let refused = |why| Forced { signalled: Vec::new(), end: End::Refused(why) };
    let begin = Instant::now();
    let file = holders::identify_file(path);
    if !process::has_our_numbers() {
        return refused(if process::can_be_seen() { Why::OtherProc } else { Why::NoProc });
    }
    let (above, mut tries): (BTreeSet<u32>, u32) = (process::ancestors(std::process::id()).collect(), 0);
    let look = loop {
        let look = look(&file);
        if openers::holds(std::process::id(), &file) || live(&look).any(|opener| above.contains(&opener.pid)) {
            return refused(Why::Ours);
        }
        if live(&look).next().is_some() {
            break look;
        }
        let state = holders::observe_lock(path);
        if state.availability() == Availability::Free {
            return Forced { signalled: Vec::new(), end: End::Released };
        }
        tries += 1;
        // Else it was taken meanwhile, by one that can be seen.
        if tries == MOST_TRIES || state.holding.as_ref().is_none_or(|holding| holding.holders.is_empty()) {
            return refused(Why::Unseen(Box::new(state)));
        }
    };
    let mut force = Force::new(&file, path, &look);
    for opener in live(&look) {
        force.add(opener);
    }
    // All or none: half of them ended is nobody's wish.
    for victim in &force.victims {
        if let Err(error) = victim.process.signal(0)
            && error.raw_os_error() == Some(libc::EPERM)
        {
            return refused(Why::NotAllowed(victim.told(), error));
        }
    }
    force.until_released(how, begin)
}

/// Who has a lock on the file, or on one that was removed from there.
fn look(file: &WantedFile) -> Scan<LockingProcess> {
    openers::find_locking_processes(&mut vec![file.clone()], None, &AtomicBool::new(false))
}

/// Those that have the lock on the file that the path leads to.
fn live(look: &Scan<LockingProcess>) -> impl Iterator<Item = &LockingProcess> {
    look.found.iter().filter(|opener| !opener.removed)
}

/// A process that is to be ended.
struct Victim {
    pid: u32,
    start: u64,
    process: os::Process,
    command: String,
    user: String,
    asked: bool,
    killed: bool,
}

impl Victim {
    /// Sends a signal, if it is proved that this is the process that was seen, and that it has the file open still.
    fn send(&self, file: &WantedFile, signal: i32) -> bool {
        let proved = process::is_alive(self.pid, self.start) && openers::holds(self.pid, file);
        proved && self.process.signal(signal).is_ok()
    }

    fn told(&self) -> Signalled {
        let ended = process::read_stat(self.pid).is_none_or(|seen| seen.start != self.start);
        let (command, user) = (self.command.clone(), self.user.clone());
        Signalled { pid: self.pid, command, user, killed: self.killed, ended }
    }
}

struct Force<'a> {
    file: &'a WantedFile,
    path: &'a Path,
    /// Who took the lock, in the kernel's words: several, if it is shared. 0: one that has ended, in a pid namespace.
    lockers: BTreeSet<u32>,
    token: u64,
    /// When we started, in clock ticks since boot.
    start: u64,
    victims: Vec<Victim>,
}

impl<'a> Force<'a> {
    fn new(file: &'a WantedFile, path: &'a Path, look: &Scan<LockingProcess>) -> Self {
        Self {
            file,
            path,
            lockers: live(look).map(|opener| opener.lock.locker).collect(),
            token: record::read_path(path).token(),
            start: process::start_time(std::process::id()).unwrap_or(u64::MAX),
            victims: Vec::new(),
        }
    }

    /// Adds one that was found to have the lock.
    fn add(&mut self, opener: &LockingProcess) {
        let Some(seen) = process::read_stat(opener.pid) else { return };
        let Some(process) = os::Process::open(opener.pid, seen.start) else { return };
        let (command, user) = (process::command_line(opener.pid), process::user_name(opener.uid));
        let (asked, killed) = (false, false);
        self.victims.push(Victim { pid: opener.pid, start: seen.start, process, command, user, asked, killed });
    }

    fn known(&self, opener: &LockingProcess) -> Option<usize> {
        let is_it = |victim: &Victim| victim.pid == opener.pid && process::is_alive(victim.pid, victim.start);
        self.victims.iter().position(is_it)
    }

    /// Whether one that was not there before has the same lock, and not another that was taken since.
    fn is_heir(&self, opener: &LockingProcess) -> bool {
        let Some(seen) = process::read_stat(opener.pid) else { return false };
        let is_child = self.victims.iter().any(|victim| victim.pid == seen.parent);
        is_child || (opener.lock.locker != 0 && seen.start >= self.start)
    }

    fn until_released(mut self, how: &How, begin: Instant) -> Forced {
        let mut looks = LOOKS.iter();
        let mut none = 0;
        loop {
            let look = look(self.file);
            let (mut holding, mut unproved) = (Vec::new(), false);
            for opener in live(&look) {
                if !self.lockers.contains(&opener.lock.locker) {
                    continue;
                }
                if self.known(opener).is_none() && self.is_heir(opener) {
                    self.add(opener);
                    looks = LOOKS.iter();
                }
                match self.known(opener) {
                    Some(index) => holding.push(index),
                    None => unproved = true,
                }
            }
            // A number alone says nothing if the lock was taken anew since.
            unproved = (unproved || self.is_listed()) && record::read_path(self.path).token() == self.token;
            // Twice: a child whose number is lower than its parent's may appear behind us as we go through them.
            none = if holding.is_empty() && !unproved { none + 1 } else { 0 };
            if none == 2 {
                return self.ended(End::Released);
            }
            let spent = begin.elapsed();
            let is_hard = how.signal == KILL || spent >= how.grace;
            let limit = if how.signal == KILL { GONE_WITHIN } else { how.grace.saturating_add(GONE_WITHIN) };
            if spent >= limit {
                return self.ended(End::StillHeld);
            }
            for index in &holding {
                self.signal(*index, how, is_hard);
            }
            let next = if is_hard { limit } else { how.grace };
            let pause = looks.next().or(LOOKS.last()).copied().unwrap_or_default();
            let waited_for: Vec<&os::Process> = holding.iter().map(|index| &self.victims[*index].process).collect();
            os::wait_for_any(&waited_for, pause.min(next.saturating_sub(spent)));
        }
    }

    fn signal(&mut self, index: usize, how: &How, is_hard: bool) {
        let (file, victim) = (self.file, &mut self.victims[index]);
        if !victim.asked {
            victim.asked = victim.send(file, how.signal);
            victim.killed = how.signal == KILL;
            // One that is stopped acts on it only when it goes on.
            if victim.asked {
                victim.send(file, libc::SIGCONT);
            }
        }
        if is_hard && !victim.killed {
            victim.killed = victim.send(file, KILL);
        }
    }

    /// Whether the kernel's list says that it is held as it was: also by somebody whose descriptors we may not see.
    fn is_listed(&self) -> bool {
        let file = lock_table::file_id(self.file);
        let held = |listed: &ListedLock| listed.file == file && !listed.waits;
        let locker = |listed: &ListedLock| Some(listed.lock.locker).filter(|pid| *pid != 0);
        lock_table::list()
            .iter()
            .filter(|listed| held(listed))
            .filter_map(locker)
            .any(|pid| self.lockers.contains(&pid))
    }

    fn ended(self, end: End) -> Forced {
        // One that ends loses its files a moment before it is gone.
        let begin = Instant::now();
        for victim in self.victims.iter().filter(|victim| victim.asked && matches!(end, End::Released)) {
            while !victim.told().ended && begin.elapsed() < ENDS_WITHIN {
                os::wait_for_any(&[&victim.process], ENDS_WITHIN);
            }
        }
        let signalled = self.victims.iter().filter(|victim| victim.asked).map(Victim::told).collect();
        Forced { signalled, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number_and_ends_a_process() {
        for text in ["TERM", "SIGTERM", "15", "term", "SigTerm"] {
            assert_eq!(parse_signal(text), Some(libc::SIGTERM), "{text}");
        }
        assert_eq!(parse_signal("9"), Some(libc::SIGKILL));
        for bad in
            ["", "0", "-9", "SIG", "SIGSIGTERM", "STOP", "CONT", "19", "CHLD", "999", "TERM ", "015", "ſIGTERM", "KıLL"]
        {
            assert_eq!(parse_signal(bad), None, "{bad}");
        }
    }
}
