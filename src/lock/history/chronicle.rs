//! Builds the past holdings of locks from the events of a log.
//!
//! An event is a proof about a holding H of the same lock:
//!
//! | event | proves |
//! |---|---|
//! | `released` of the process of H | the end of H |
//! | `contended` that names the process of H as the holder | H was held then |
//! | `timed_out` of a waiter whose `contended` named H, without an acquisition in between | H was held then |
//! | `inherited` | a process that the command of H started still holds the lock, also after `released` if that process could not be seen |
//! | `expired` and `taken_over` of the process of H | H was held then, and the reason for its end |
//! | `acquired` that excludes H, after a wait for H | H ended then: the kernel wakes the waiter |
//! | `acquired` that excludes H, without a wait | H had ended by then |
//! | `contended` that names a holder, if no holding is known | a holding whose acquisition was not logged |
//! | `released`, if no holding of the lock is known | a holding of this length |
//! | `free` | H had ended by then, unless the observer waits for shared locks |

use super::holding::{EndCause, Ending, Killer, PastHolding, PastOutcome, PastWait, RemainingHolder, elapsed_between};
use super::logged_event::LoggedEvent;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The maximum difference between a time span in a line and the times of two lines.
const CLOCK_PRECISION: Duration = Duration::from_secs(1);

/// The holdings of all locks in a log.
#[derive(Debug, Default)]
pub struct Chronicle {
    holdings: Vec<PastHolding>,
    locks: HashMap<PathBuf, LockHoldings>,
    /// The processes at each lock file. Without them, each event about an ended holding would search all holdings of the log.
    processes: HashMap<(PathBuf, u32), LoggedProcess>,
}

/// The holdings of one lock file.
#[derive(Debug, Default)]
struct LockHoldings {
    /// The holdings whose end was not logged yet.
    open: Vec<usize>,
    /// True if there was such a holding.
    was_open: bool,
    /// The last holding.
    last: Option<usize>,
}

impl LockHoldings {
    fn add_open(&mut self, at: usize) {
        self.open.push(at);
        self.was_open = true;
        self.last = self.last.max(Some(at));
    }
}

/// A process at one lock file.
#[derive(Debug, Default)]
struct LoggedProcess {
    /// Its last holding.
    last: Option<usize>,
    /// The wait whose end was not logged yet: the holding, and the number of the wait in it.
    wait: Option<(usize, usize)>,
}

impl Chronicle {
    /// Returns all holdings, in the order in which they began.
    #[must_use]
    pub fn into_holdings(self) -> Vec<PastHolding> {
        let mut holdings = self.holdings;
        holdings.sort_by_key(|holding| holding.since);
        holdings
    }

    /// Adds the next event.
    pub fn add(&mut self, event: &LoggedEvent) {
        let path = PathBuf::from(event.path());
        let pid = event.pid("pid").unwrap_or_default();
        match event.name() {
            "acquired" => self.add_acquisition(event, path, pid),
            "contended" => self.add_contention(event, path, pid),
            "timed_out" => {
                let waited = span_of(event);
                let is_skipped = event.flag("skipped") == Some(true);
                let outcome =
                    if is_skipped { PastOutcome::Skipped(Some(waited)) } else { PastOutcome::TimedOut(waited) };
                self.end_wait(event, &path, pid, outcome);
            }
            "superseded" | "deadlock" => self.end_wait(event, &path, pid, PastOutcome::GaveUp),
            "covered" => self.cover(event, &path, pid),
            "inherited" => self.add_inheritance(event, &path, pid),
            "released" => {
                let cause = EndCause::from_release(event);
                if let Some(at) = self.find_open(&path, pid) {
                    let holding = &mut self.holdings[at];
                    holding.ending = Ending::At(event.time.max(holding.since));
                    // The command may have exited before the process that inherited the lock is ended.
                    let exited = matches!(holding.cause, Some(EndCause::Exited(_)));
                    holding.cause = holding.cause.filter(|_| !exited || cause != Some(EndCause::Killed)).or(cause);
                    holding.signal = event.text("signal").map(str::to_owned);
                    holding.killer = holding.killer.take().or(Killer::from_event(event, "killer_"));
                    self.close(&path, at);
                } else if cause == Some(EndCause::Killed) {
                    self.explain_exit(&path, pid, EndCause::Killed, Killer::from_event(event, "killer_"));
                } else if self.locks.get(&path).is_none_or(|lock| !lock.was_open) {
                    self.add_ended_holding(event, pid, cause);
                }
            }
            "expired" => self.note_cause(event, &path, pid, EndCause::Expired, None),
            "taken_over" => {
                if let Some(holder) = event.pid("holder_pid") {
                    let killer = Killer::from_event(event, "");
                    self.note_cause(event, &path, holder, EndCause::Replaced(pid), killer);
                }
            }
            "free" => self.end_all(event, &path, |_| true, false),
            _ => {}
        }
    }

    fn add_acquisition(&mut self, event: &LoggedEvent, path: PathBuf, pid: u32) {
        let waited = span_of(event);
        let at = self.holdings.len();
        let process = self.processes.entry((path.clone(), pid)).or_default();
        process.last = Some(at);
        let wait = process.wait.take().map(|(at, number)| &mut self.holdings[at].waits[number]);
        // The wait of an earlier process with the same pid has ended without a line.
        let wait = wait.filter(|wait| elapsed_between(wait.since, event.time) <= waited + CLOCK_PRECISION);
        let has_waited = wait.is_some();
        if let Some(wait) = wait {
            wait.outcome = PastOutcome::Acquired(waited);
        }
        let is_shared = event.text("mode") == Some("shared");
        let slot = event.number("slot").zip(event.number("slots"));
        // A shared lock excludes exclusive ones, and a slot also the same slot.
        let excludes = |other: &PastHolding| {
            !is_shared || !other.is_shared || (slot.is_some() && slot == other.slot) || other.pid == pid
        };
        self.end_all(event, &path, excludes, has_waited);
        self.locks.entry(path).or_default().add_open(at);
        self.holdings.push(PastHolding {
            is_shared,
            slot,
            token: event.number("token"),
            waited,
            ..PastHolding::new(event, event.time, pid, event.text("command"), event.text("user"))
        });
    }

    /// Adds a holding whose acquisition is not in the log: its process did not log it, or that was before the log begins.
    fn add_unlogged_holding(&mut self, event: &LoggedEvent, path: PathBuf, pid: u32) -> usize {
        let at = self.holdings.len();
        self.processes.entry((path.clone(), pid)).or_default().last = Some(at);
        self.locks.entry(path).or_default().add_open(at);
        let holding = PastHolding::new(event, event.time, pid, event.text("holder_command"), None);
        self.holdings.push(PastHolding { is_late: true, ..holding });
        at
    }

    /// Adds a holding of which the log has only the end.
    fn add_ended_holding(&mut self, event: &LoggedEvent, pid: u32, cause: Option<EndCause>) {
        let Some(since) = event.span("held_seconds").and_then(|held| event.time.checked_sub(held).ok()) else { return };
        let holding = PastHolding::new(event, since, pid, event.text("command"), event.text("user"));
        let at = self.holdings.len();
        self.processes.entry((holding.path.clone(), pid)).or_default().last = Some(at);
        self.locks.entry(holding.path.clone()).or_default().last = Some(at);
        self.holdings.push(PastHolding { ending: Ending::At(event.time), cause, ..holding });
    }

    fn add_contention(&mut self, event: &LoggedEvent, path: PathBuf, pid: u32) {
        let open = self.find_all_open(&path);
        let named = event.pid("holder_pid");
        let found = open.iter().rev().copied().find(|at| {
            let holding = &self.holdings[*at];
            // Any process that the command started may have inherited the lock.
            named.is_some_and(|named| {
                holding.has_holder(named) || (holding.remaining_holder.is_some() && !holding.is_shared)
            })
        });
        // A slot or a shared lock has several holders, of which the event names one.
        let at = match (found.or_else(|| open.last().copied().filter(|_| named.is_none())), named) {
            (Some(at), _) => at,
            (None, Some(named)) if open.is_empty() => match self.find_just_ended(event, &path) {
                Some(at) => at,
                None => self.add_unlogged_holding(event, path.clone(), named),
            },
            (None, _) => return,
        };
        let holding = &mut self.holdings[at];
        if found.is_some() {
            holding.prove(event);
        }
        let waits = event.flag("waits").unwrap_or_default();
        if waits {
            self.processes.entry((path, pid)).or_default().wait = Some((at, holding.waits.len()));
        }
        holding.waits.push(PastWait {
            pid,
            user: event.text("user").unwrap_or_default().to_owned(),
            command: event.text("command").unwrap_or_default().to_owned(),
            since: event.time,
            outcome: match (waits, event.flag("skipped")) {
                (true, _) => PastOutcome::Unknown,
                (false, Some(true)) => PastOutcome::Skipped(None),
                (false, _) => PastOutcome::Refused,
            },
        });
    }

    /// Returns the last holding of a lock, if it has ended just now: the line of a release comes a moment before the release.
    fn find_just_ended(&self, event: &LoggedEvent, path: &PathBuf) -> Option<usize> {
        let last = self.locks.get(path)?.last?;
        match self.holdings[last].ending {
            Ending::At(end) if elapsed_between(end, event.time) <= CLOCK_PRECISION => Some(last),
            _ => None,
        }
    }

    fn end_wait(&mut self, event: &LoggedEvent, path: &PathBuf, pid: u32, outcome: PastOutcome) {
        let process = self.processes.get_mut(&(path.clone(), pid));
        let Some((at, number)) = process.and_then(|process| process.wait.take()) else { return };
        let holding = &mut self.holdings[at];
        holding.waits[number].outcome = outcome;
        let is_only = self.locks.get(path).is_some_and(|lock| lock.open[..] == [at]);
        if is_only && matches!(outcome, PastOutcome::TimedOut(_) | PastOutcome::Skipped(_)) {
            holding.prove(event);
        }
    }

    /// Notes that a run after this call covers it. The call may have been one that would not wait.
    fn cover(&mut self, event: &LoggedEvent, path: &PathBuf, pid: u32) {
        if self.processes.get(&(path.clone(), pid)).is_some_and(|process| process.wait.is_some()) {
            self.end_wait(event, path, pid, PastOutcome::Covered);
            return;
        }
        let open = self.locks.get(path).map_or(&[][..], |lock| &lock.open);
        for at in open {
            let wait = self.holdings[*at].waits.iter_mut().rev().find(|wait| wait.pid == pid);
            let ends_at_once =
                |wait: &&mut PastWait| matches!(wait.outcome, PastOutcome::Refused | PastOutcome::Skipped(None));
            if let Some(wait) = wait.filter(ends_at_once) {
                wait.outcome = PastOutcome::Covered;
            }
        }
    }

    /// Notes that a process that the command started still holds the lock. If the process could not be seen, the line of the release was
    /// written before, and the lock was not free in between.
    fn add_inheritance(&mut self, event: &LoggedEvent, path: &PathBuf, pid: u32) {
        let holder = event.pid("holder_pid");
        let released = || {
            let last = self.find_last(path, pid)?;
            let is_released = matches!(self.holdings[last].cause, Some(EndCause::Exited(_)));
            (holder.is_none() && is_released).then_some(last)
        };
        let open = self.find_open(path, pid);
        let Some(at) = open.or_else(released) else { return };
        if open.is_none() {
            self.locks.entry(path.clone()).or_default().add_open(at);
        }
        let holding = &mut self.holdings[at];
        holding.prove(event);
        let status = event.members()["status"].as_i64().unwrap_or_default();
        holding.cause = holding.cause.or(Some(EndCause::Exited(status)));
        let command = event.text("holder_command").unwrap_or_default().to_owned();
        holding.remaining_holder =
            Some(holder.map_or(RemainingHolder::Unseen, |holder| RemainingHolder::Seen(holder, command)));
    }

    fn note_cause(&mut self, event: &LoggedEvent, path: &PathBuf, pid: u32, cause: EndCause, killer: Option<Killer>) {
        if let Some(at) = self.find_open(path, pid) {
            let holding = &mut self.holdings[at];
            holding.prove(event);
            holding.cause = holding.cause.filter(|cause| !matches!(cause, EndCause::Exited(_))).or(Some(cause));
            holding.killer = holding.killer.take().or(killer);
        } else {
            self.explain_exit(path, pid, cause, killer);
        }
    }

    /// Notes the reason for which the command of the last holding of this process has exited. The process that ended the command logs
    /// that after the exit.
    fn explain_exit(&mut self, path: &Path, pid: u32, cause: EndCause, killer: Option<Killer>) {
        let Some(last) = self.find_last(path, pid) else { return };
        let holding = &mut self.holdings[last];
        if matches!(holding.cause, Some(EndCause::Exited(_))) {
            holding.cause = Some(cause);
            holding.killer = killer;
        }
    }

    /// Returns the last holding of this process.
    fn find_last(&self, path: &Path, pid: u32) -> Option<usize> {
        self.processes.get(&(path.to_owned(), pid))?.last
    }

    /// Returns the holdings of a lock whose end was not logged yet.
    fn find_all_open(&self, path: &PathBuf) -> &[usize] {
        self.locks.get(path).map_or(&[], |lock| &lock.open)
    }

    fn find_open(&self, path: &PathBuf, pid: u32) -> Option<usize> {
        self.find_all_open(path).iter().rev().copied().find(|at| self.holdings[*at].has_holder(pid))
    }

    fn close(&mut self, path: &PathBuf, at: usize) {
        if let Some(lock) = self.locks.get_mut(path) {
            lock.open.retain(|other| *other != at);
        }
    }

    /// Ends the holdings of a lock that `has_ended` selects, none of which can be held after this event. With `at_once`, the event is the
    /// end of the wait for them.
    fn end_all(
        &mut self,
        event: &LoggedEvent,
        path: &PathBuf,
        has_ended: impl Fn(&PastHolding) -> bool,
        at_once: bool,
    ) {
        let Some(LockHoldings { open, .. }) = self.locks.get_mut(path) else { return };
        let holdings = &mut self.holdings;
        let is_only = open.len() == 1;
        open.retain(|at| {
            let holding = &mut holdings[*at];
            if !has_ended(holding) {
                return true;
            }
            let end = event.time.max(holding.proved);
            holding.ending = if at_once && is_only { Ending::At(end) } else { Ending::Between(holding.proved, end) };
            false
        });
    }
}

impl PastHolding {
    /// Returns an exclusive holding of this process, of the lock of `event`.
    fn new(event: &LoggedEvent, since: jiff::Timestamp, pid: u32, command: Option<&str>, user: Option<&str>) -> Self {
        Self {
            lock: event.lock().to_owned(),
            key: event.text("key").map(str::to_owned),
            path: PathBuf::from(event.path()),
            pid,
            user: user.map(str::to_owned),
            command: command.unwrap_or_default().to_owned(),
            is_shared: false,
            slot: None,
            token: None,
            since,
            is_late: false,
            waited: Duration::ZERO,
            proved: event.time,
            ending: Ending::After(event.time),
            cause: None,
            signal: None,
            killer: None,
            remaining_holder: None,
            waits: Vec::new(),
        }
    }

    /// Notes that it was held at the time of this event.
    fn prove(&mut self, event: &LoggedEvent) {
        self.proved = self.proved.max(event.time);
        self.ending = Ending::After(self.proved);
    }
}

fn span_of(event: &LoggedEvent) -> Duration {
    event.span("waited_seconds").unwrap_or_default()
}

#[cfg(test)]
mod tests;
