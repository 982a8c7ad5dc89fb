//! Ends the holders of a lock by signals, and waits until they have released the lock: for `aba-lock unlock --kill`, `--max-time` and
//! `--replace`.
//!
//! The processes to end are the holders at the beginning, and the processes that they start afterwards, which inherit the
//! lock. A process that acquires the lock after them must not be signalled. The kernel shows the difference, because it
//! names the process that called flock(2), the **locker**: an inherited lock still has the locker that it had at the beginning. But the pid
//! of a locker that has ended may be reused, so a holder that was not seen at the beginning must also be younger than this
//! process, or a child of a known holder. A process that a holder starts while it handles the signal belongs to its cleanup: it gets
//! no signal before SIGKILL.
//!
//! Before each signal, the receiver is verified. This process opens a descriptor for it ([`os::Process`]), and then checks
//! that the process of this descriptor has the start time of the holder and has the locked file open. That needs a
//! `/proc` of this pid namespace. A process that cannot be verified is never signalled, for example one that only a record
//! names.

mod kind;
mod rules;
mod signals;

pub(super) use rules::ReleaseRules;
pub use signals::{KILL, TERM, name_signal, parse_signal};

use crate::lock::holders::{self, Availability, LockState};
use crate::lock::peer;
use crate::lock::record;
use crate::os;
use crate::os::proc::lock_table::{KernelLock, NO_LOCKER, WantedFile};
use crate::os::proc::openers::{LockingProcess, Scan};
use crate::os::proc::process::{self, ProcessStat};
use kind::LockKind;
use rules::Unrestricted;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Maximum time to wait for the holders after SIGKILL. The signal has no effect on a process while it waits for a disk.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time until a process that has released the lock is reported as still running.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses between the checks of holders that may release the lock without ending. The last one is repeated.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
];

/// Maximum number of attempts to see a holder while the lock goes from one process to the next.
const MAX_TRIES: u32 = 5;

/// The first signal for the holders, and the time until SIGKILL.
#[derive(Debug, Clone, Copy)]
pub struct KillPlan {
    pub signal: i32,
    /// The time between the first signal and SIGKILL.
    pub grace: Duration,
}

/// A process that was signalled.
#[derive(Debug)]
pub struct SignalledProcess {
    pub pid: u32,
    /// The command line, quoted for a shell.
    pub command: String,
    pub user: String,
    /// True if SIGKILL was sent.
    pub killed: bool,
    /// False if the process has only released the lock, or could not be ended.
    pub ended: bool,
}

/// The result of a forced release.
#[derive(Debug)]
pub struct ForcedRelease {
    /// The processes that were signalled, in the order in which they were found.
    pub signalled: Vec<SignalledProcess>,
    pub outcome: ReleaseOutcome,
}

/// The outcome of a forced release for the lock.
#[derive(Debug)]
pub enum ReleaseOutcome {
    /// The holders have released the lock. Another process may have acquired it since.
    Released,
    /// No process was signalled.
    Refused(Refusal),
    /// The lock is still held after the maximum time.
    StillHeld,
}

/// The reason why no process was signalled.
#[derive(Debug)]
pub enum Refusal {
    /// The caller or one of its ancestors holds the lock.
    HeldByCaller,
    /// The holder cannot be seen from here, whatever a record says.
    HolderUnseen(Box<LockState>),
    /// This process cannot signal one of the holders.
    NotAllowed(SignalledProcess, io::Error),
    /// `/proc` belongs to another pid namespace, so its pids mean nothing here.
    OtherProc,
    /// There is no `/proc` that shows this process.
    NoProc,
    /// It is not proved that the holders are those that the rules allow.
    Unproved,
}

/// Ends the holders of the lock at `path`, and waits until they have released it. Then does the same for a file lease that lasts.
#[must_use]
pub fn end_holders(path: &Path, plan: &KillPlan) -> ForcedRelease {
    end_holders_of_kinds(&[LockKind::Flock, LockKind::Lease], path, plan)
}

/// Does the same as [`end_holders`] for all locks on a file of the user: first for the one of flock(2), then for those of fcntl(2).
#[must_use]
pub fn end_holders_of_file(path: &Path, plan: &KillPlan) -> ForcedRelease {
    end_holders_of_kinds(&[LockKind::Flock, LockKind::Fcntl, LockKind::Lease], path, plan)
}

fn end_holders_of_kinds(kinds: &[LockKind], path: &Path, plan: &KillPlan) -> ForcedRelease {
    let mut signalled = Vec::new();
    for kind in kinds {
        // `clean` has a lease for an instant.
        if *kind == LockKind::Lease && holders::find_lasting_lease(path).is_none() {
            continue;
        }
        let mut release = end_holders_of_kind(*kind, &Unrestricted, path, plan);
        signalled.append(&mut release.signalled);
        if !matches!(release.outcome, ReleaseOutcome::Released) {
            return ForcedRelease { signalled, outcome: release.outcome };
        }
    }
    ForcedRelease { signalled, outcome: ReleaseOutcome::Released }
}

/// Ends the holders of a lock of flock(2) at `path`, within the rules.
pub(super) fn end_holders_by(rules: &dyn ReleaseRules, path: &Path, plan: &KillPlan) -> ForcedRelease {
    end_holders_of_kind(LockKind::Flock, rules, path, plan)
}

fn end_holders_of_kind(kind: LockKind, rules: &dyn ReleaseRules, path: &Path, plan: &KillPlan) -> ForcedRelease {
    let refused = |refusal| ForcedRelease { signalled: Vec::new(), outcome: ReleaseOutcome::Refused(refusal) };
    let begin = Instant::now();
    let files = [holders::identify_file(path)];
    if !process::has_our_numbers() {
        return refused(if process::can_be_seen() { Refusal::OtherProc } else { Refusal::NoProc });
    }
    let us = std::process::id();
    let Some(ancestors) = process::all_ancestors(us) else { return refused(Refusal::NoProc) };
    // A script to which the lock is bound can have become this process by exec.
    let is_caller = |pid: u32| pid == us || ancestors.contains(&pid);
    let mut tries = 0;
    let look = loop {
        let look = kind.find_openers(&files);
        let scripts: Vec<_> = list_live(&look).map(|opener| peer::try_find_bound_script(opener.pid)).collect();
        let is_ours = |opener: &LockingProcess| is_caller(opener.pid);
        if kind.is_held_by(us, &files[0], |_| true)
            || list_live(&look).any(is_ours)
            || scripts.iter().flatten().flatten().any(|script| is_caller(*script))
        {
            return refused(Refusal::HeldByCaller);
        }
        // Each of them may hold the lock for the caller.
        if scripts.iter().any(Result::is_err) {
            return refused(Refusal::HolderUnseen(Box::new(kind.observe(path))));
        }
        if list_live(&look).next().is_some() {
            break look;
        }
        let state = kind.observe(path);
        if state.availability() == Availability::Free {
            return ForcedRelease { signalled: Vec::new(), outcome: ReleaseOutcome::Released };
        }
        tries += 1;
        // If a holder is seen now, it acquired the lock after the first look, and another look finds it.
        let is_seen = state.holding.as_ref().is_some_and(|holding| !holding.holders.is_empty())
            || state.range.as_ref().is_some_and(|range| !range.holders.is_empty());
        if tries == MAX_TRIES || !is_seen {
            return refused(Refusal::HolderUnseen(Box::new(state)));
        }
    };
    if !rules.is_proved(&files[0], &list_live(&look).collect::<Vec<_>>()) {
        return refused(Refusal::Unproved);
    }
    let mut release = HolderRelease::new(kind, &files, path, &look);
    for opener in list_live(&look) {
        if release.find_victim(opener).is_none() {
            release.add(opener);
        }
    }
    // All holders are checked before the first signal, so that either all of them are ended or none.
    for victim in &release.victims {
        if let Err(error) = victim.process.signal(0)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            return refused(Refusal::NotAllowed(victim.report(), error));
        }
    }
    if rules.goes_on() {
        rules.announce(&release.victims.iter().map(|victim| (victim.pid, &victim.process)).collect::<Vec<_>>());
    }
    release.run(rules, plan, begin)
}

/// Ends the processes that hold a lock on one of the files through the acquisition of this process, and waits until they have
/// released all of them. This process is their locker, and has closed the files.
#[must_use]
pub fn end_acquisition(files: &[WantedFile], plan: &KillPlan) -> ForcedRelease {
    let is_locker = true;
    let lockers = BTreeSet::from([std::process::id()]);
    let path = Path::new("");
    let release = HolderRelease {
        kind: LockKind::Flock,
        files,
        path,
        is_locker,
        lockers,
        token: 0,
        start: 0,
        victims: Vec::new(),
        asked: os::AskedProcesses::default(),
    };
    release.run(&Unrestricted, plan, Instant::now())
}

/// Returns the processes that hold a lock on one of the files through the acquisition of this process.
#[must_use]
pub fn find_own_holders(files: &[WantedFile]) -> BTreeSet<u32> {
    let found = LockKind::Flock.find_openers(files).found.into_iter();
    found.filter(|opener| opener.lock.locker == std::process::id()).map(|opener| opener.pid).collect()
}

/// Returns the holders whose locked file is the one to which the path leads now.
fn list_live(look: &Scan<LockingProcess>) -> impl Iterator<Item = &LockingProcess> {
    look.found.iter().filter(|opener| !opener.removed)
}

/// A holder that must end.
struct Victim {
    pid: u32,
    /// The process that has the file open: the same one, or the one that is bound to it.
    opener: u32,
    seen: ProcessStat,
    process: os::Process,
    command: String,
    user: String,
    signalled: bool,
    killed: bool,
}

impl Victim {
    /// Sends a signal, if this is still the process that was seen, and it still holds one of the locks through one of these lockers.
    fn send(&self, kind: LockKind, files: &[WantedFile], lockers: &BTreeSet<u32>, signal: i32) -> bool {
        let is_meant = |lock: KernelLock| lockers.contains(&lock.locker) || cfg!(not(linux)) && lock.locker == 0;
        let holds = || files.iter().any(|file| kind.is_held_by(self.opener, file, is_meant));
        let is_bound = || matches!(peer::try_find_bound_script(self.opener), Ok(Some(script)) if script == self.pid);
        let holds = || holds() && (self.opener == self.pid || is_bound());
        let proved = process::is_alive(self.pid, self.seen.start) && holds();
        proved && self.process.signal(signal).is_ok()
    }

    fn has_ended(&self) -> bool {
        process::read_stat(self.pid).is_none_or(|seen| seen.start != self.seen.start)
    }

    fn report(&self) -> SignalledProcess {
        let ended = self.has_ended();
        let (command, user) = (self.command.clone(), self.user.clone());
        SignalledProcess { pid: self.pid, command, user, killed: self.killed, ended }
    }
}

/// A forced release in progress.
struct HolderRelease<'a> {
    kind: LockKind,
    files: &'a [WantedFile],
    /// The path of the record, if this process is not the locker.
    path: &'a Path,
    /// True if this process is the locker. Its pid is not reused, so each process that holds a lock of it has inherited that lock.
    is_locker: bool,
    /// The processes that took the lock, according to the kernel: several if the lock is shared. 0: a process that has
    /// ended, in a pid namespace.
    lockers: BTreeSet<u32>,
    token: u64,
    /// The start time of this process, in clock ticks since boot.
    start: u64,
    victims: Vec<Victim>,
    asked: os::AskedProcesses,
}

impl<'a> HolderRelease<'a> {
    fn new(kind: LockKind, files: &'a [WantedFile], path: &'a Path, look: &Scan<LockingProcess>) -> Self {
        Self {
            kind,
            files,
            path,
            is_locker: false,
            lockers: list_live(look).map(|opener| opener.lock.locker).collect(),
            token: record::read_path(path).token(),
            start: process::start_time(std::process::id()).unwrap_or(u64::MAX),
            victims: Vec::new(),
            asked: os::AskedProcesses::default(),
        }
    }

    fn add(&mut self, opener: &LockingProcess) {
        let command = process::command_line(opener.pid);
        // The end of a script releases the lock that is bound to it. After the end of the other process, the script would go on
        // without the lock if it ignores SIGTERM.
        let Ok(script) = peer::try_find_bound_script(opener.pid) else { return };
        let (pid, command) = script.map_or((opener.pid, command), |script| (script, process::command_line(script)));
        let Some(seen) = process::read_stat(pid) else { return };
        let Some(process) = os::Process::open(pid, seen.start) else { return };
        let user = process::user_name(opener.uid);
        let (signalled, killed, opener) = (false, false, opener.pid);
        self.victims.push(Victim { pid, opener, seen, process, command, user, signalled, killed });
    }

    fn find_victim(&self, opener: &LockingProcess) -> Option<usize> {
        let is_same = |victim: &Victim| victim.opener == opener.pid && process::is_alive(victim.pid, victim.seen.start);
        self.victims.iter().position(is_same)
    }

    /// Returns true if a process that is not in the list of victims has inherited the lock, and did not acquire it
    /// itself.
    fn has_inherited(&self, opener: &LockingProcess) -> bool {
        if self.is_locker {
            return true;
        }
        let Some(seen) = process::read_stat(opener.pid) else { return false };
        let is_child = self.victims.iter().any(|victim| victim.pid == seen.parent);
        is_child || (![0, NO_LOCKER].contains(&opener.lock.locker) && seen.start >= self.start)
    }

    /// Returns true if a process has acquired the lock itself after the first look, when it ran already and did not hold the lock. The
    /// pid of the locker shows that for other locks.
    fn is_newcomer(&self, opener: &LockingProcess) -> bool {
        let is_older = |seen: ProcessStat| seen.start < self.start;
        opener.lock.locker == NO_LOCKER && process::read_stat(opener.pid).is_none_or(is_older)
    }

    /// Signals the holders until they have released the lock, or the maximum time has passed.
    fn run(mut self, rules: &dyn ReleaseRules, plan: &KillPlan, begin: Instant) -> ForcedRelease {
        // Without a time in between, SIGKILL would come before the process can act on the other signal.
        let signal = if plan.grace.is_zero() { KILL } else { plan.signal };
        let mut pauses = PAUSES.iter();
        let mut unheld = 0;
        loop {
            let look = self.kind.find_openers(self.files);
            let (mut holding, mut unproved) = (Vec::new(), false);
            for opener in &look.found {
                let is_wanted = self.is_locker || !opener.removed;
                // On other systems than Linux, the locker is not known any more when the process in the record has ended.
                let is_known = || cfg!(not(linux)) && self.find_victim(opener).is_some();
                if !is_wanted || !self.lockers.contains(&opener.lock.locker) && !is_known() {
                    continue;
                }
                if self.find_victim(opener).is_none() && self.has_inherited(opener) {
                    self.add(opener);
                    pauses = PAUSES.iter();
                }
                match self.find_victim(opener) {
                    Some(index) => holding.push(index),
                    None => unproved |= !self.is_newcomer(opener),
                }
            }
            // The pid of a locker means nothing if the lock was acquired again since.
            let is_same =
                |release: &Self| release.is_locker || record::read_path(release.path).token() == release.token;
            unproved = (unproved || self.kind.is_listed(self.files, &self.lockers)) && is_same(&self);
            // The lock counts as released after two looks without a holder. A single look reads the processes in the order
            // of their pids, so it can miss a child that is started with a lower pid than its parent.
            unheld = if holding.is_empty() && !unproved { unheld + 1 } else { 0 };
            if unheld == 2 {
                return self.finish(ReleaseOutcome::Released);
            }
            let spent = begin.elapsed();
            let kills = signal == KILL || spent >= plan.grace;
            let limit = if signal == KILL { KILL_TIMEOUT } else { plan.grace.saturating_add(KILL_TIMEOUT) };
            if spent >= limit || !rules.goes_on() {
                return self.finish(ReleaseOutcome::StillHeld);
            }
            // A shell gets the signal before the program for which it waits, and so cannot go on with its next command.
            holding.sort_by_cached_key(|index| process::count_ancestors(self.victims[*index].pid));
            for index in &holding {
                self.signal(*index, signal, kills);
            }
            let next = if kills { limit } else { plan.grace };
            let pause = pauses.next().or(PAUSES.last()).copied().unwrap_or_default();
            let waited_for: Vec<&os::Process> = holding.iter().map(|index| &self.victims[*index].process).collect();
            os::wait_for_any(&waited_for, pause.min(next.saturating_sub(spent)));
        }
    }

    /// Sends the signal of the plan if the victim has not received it yet, and SIGKILL if `kills` is true.
    fn signal(&mut self, index: usize, signal: i32, kills: bool) {
        let (kind, files, lockers, victim) = (self.kind, self.files, &self.lockers, &mut self.victims[index]);
        if !victim.signalled && (signal == KILL || self.asked.must_ask(&victim.seen)) {
            let before = os::SignalTime::now();
            victim.signalled = victim.send(kind, files, lockers, signal);
            victim.killed = signal == KILL;
            if victim.signalled {
                self.asked.add(&victim.seen, before);
                // A stopped process acts on the signal only after SIGCONT.
                victim.send(kind, files, lockers, libc::SIGCONT);
            }
        }
        if kills && !victim.killed {
            victim.killed = victim.send(kind, files, lockers, KILL);
            victim.signalled |= victim.killed;
        }
    }

    fn finish(self, outcome: ReleaseOutcome) -> ForcedRelease {
        // A process closes its files a moment before it has ended.
        let begin = Instant::now();
        for victim in
            self.victims.iter().filter(|victim| victim.signalled && matches!(outcome, ReleaseOutcome::Released))
        {
            while !victim.has_ended() && begin.elapsed() < EXIT_TIMEOUT {
                os::wait_for_any(&[&victim.process], EXIT_TIMEOUT);
            }
        }
        let signalled = self.victims.iter().filter(|victim| victim.signalled).map(Victim::report).collect();
        ForcedRelease { signalled, outcome }
    }
}
