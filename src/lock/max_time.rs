//! A maximum time for which locks are held (`--max-time`): a watcher acquires them, and ends their holders when the time is over.
//!
//! The watcher is a process of its own ([`os::start_watcher`]). It follows the acquisition and not the script or command, because
//! a lock is held by each process that inherited its descriptor. `tests/models` has the same steps, and runs them in each order.
//!
//! The helper:
//!
//! 1. It forks a process that exists only until the report, the **process in between**, which forks the watcher. Both inherit the
//!    descriptors of a script.
//! 2. It waits for the report of the watcher, or for its end. After the report, it waits until the watcher has closed its copies of
//!    the files, and ends with success or becomes the command. Otherwise, it fails, and the script closes the files.
//!
//! The watcher:
//!
//! 1. It acquires the locks ([`acquire`](super::acquire)). So the kernel names it as the locker, and as long as it lives, no other
//!    acquisition has its pid.
//! 2. It watches the lock files with inotify(7), detaches itself, reports the grant, and closes its copies of the open files.
//! 3. It waits until one of the files is closed, or for the end of the time.
//! 4. After a close, it looks whether the lock table still has a lock with its pid. If not, it ends. The kernel reports the close
//!    before it releases the lock, so the watcher looks again after pauses.
//! 5. When the time is over, it searches the processes that hold a lock with its pid as locker. If there is none, it ends.
//! 6. It opens a descriptor for each of them, verifies that it holds the lock, signals it, and goes to 5
//!    ([`kill::end_acquisition`]).
//!
//! | killed process | state that it leaves |
//! |---|---|
//! | the helper, before the report | the kernel kills the process in between, too, and so the watcher gives up. If the watcher has acquired the locks, its report fails, and it releases them |
//! | the helper of a script, after the report | the script closes the files, and the watcher ends |
//! | the watcher, before its report | the helper fails in the same way |
//! | the watcher, later | the locks are held until their holders end, without a limit. `status` shows that |
//!
//! A release without a close (`flock -u`) is not reported. The watcher then ends with the next close, or when the time is over.

use crate::base::duration::format_limit;
use crate::base::target::Target;
use crate::base::text::shorten;
use crate::lock::error::LockError;
use crate::lock::events::{self, LockEvent};
use crate::lock::holders;
use crate::lock::kill::{self, KillPlan};
use crate::lock::log_flag;
use crate::lock::request::{Acquired, Guard, Request, require_linux};
use crate::lock::unlock::unlock_description;
use crate::os::proc::lock_table::{self, WantedFile};
use crate::os::proc::process;
use crate::os::{self, WatcherAnswer, WatcherLink, WatcherSide};
use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

/// The time between SIGTERM and SIGKILL, if the user gives none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// The pause after each look at the lock table. Each caller that tries the lock closes the file, too, so the number of looks must
/// be limited.
const PAUSE: Duration = Duration::from_millis(20);

/// The times after which the watcher looks again after a close: the kernel may be slow to release the lock.
const LOOKS: [Duration; 4] =
    [Duration::from_millis(5), Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(20)];

/// The pause between two looks if the system does not report closes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The pause before holders that did not end are signalled again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Number of times that the lock table is read before a lock that it does not show counts as released. The kernel prints the table
/// in pages, and may leave out a lock at the end of a page while other locks are released.
const LISTS: u32 = 5;

/// Maximum number of characters of the names in the message. A longer message could block in a pipe that is nearly full.
const MAX_LABELS: usize = 500;

/// The first byte of a report.
const ACQUIRED: u8 = b'A';
const CONTENDED: u8 = b'C';

/// The maximum time for which locks are held.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimit {
    pub time: Duration,
    /// The time between SIGTERM and SIGKILL. If it is zero, only SIGKILL is sent.
    pub grace: Duration,
}

impl TimeLimit {
    /// Returns the signals that are sent when the time is over, for a message.
    #[must_use]
    pub fn describe_signals(&self) -> String {
        if self.grace.is_zero() {
            return "sending SIGKILL".to_owned();
        }
        format!("sending SIGTERM, and SIGKILL after {}", format_limit(self.grace))
    }
}

/// The side of a call with a time limit on which this process is.
#[derive(Debug)]
pub enum LimitedCall {
    /// This process must acquire the locks, and then call [`watch`].
    Watcher(WatcherLink),
    Caller(LimitedAnswer),
}

/// The result of a call with a time limit, for the process that is not the watcher.
#[derive(Debug)]
pub enum LimitedAnswer {
    Acquired(Acquired),
    /// The lock with this label is held by another process, which was reported.
    Contended(String),
    /// The watcher has reported an error, and ended with this status, or with 128 + n because of signal n.
    Ended(i32),
}

/// Starts a watcher. `targets` are the locks in the order in which they are acquired, with the descriptors of the `script`, if
/// there is one.
pub fn start(targets: &[(Target, Option<RawFd>)], script: Option<u32>) -> Result<LimitedCall, LockError> {
    require_linux("--max-time")?;
    if !process::has_our_numbers() {
        return Err(LockError::NoProc);
    }
    let label = || targets.first().map(|(target, _)| target.label.clone()).unwrap_or_default();
    let fail = |step, source| LockError::NoWatcher { label: label(), step, source };
    let answer = match os::start_watcher(script).map_err(|source| fail("cannot start a process", source))? {
        WatcherSide::Watcher(link) => return Ok(LimitedCall::Watcher(link)),
        WatcherSide::Caller(answer) => answer,
    };
    Ok(LimitedCall::Caller(match answer {
        WatcherAnswer::Ended(status) => LimitedAnswer::Ended(status),
        // The watcher had acquired the lock, and has released it before this report.
        WatcherAnswer::Unreported(source) => {
            return Err(fail("cannot pass the open lock file from its watcher to this process", source));
        }
        WatcherAnswer::ScriptEnded => return Err(LockError::ScriptEnded { label: label() }),
        WatcherAnswer::Report(text, files) => match text.split_first() {
            Some((&CONTENDED, label)) => LimitedAnswer::Contended(String::from_utf8_lossy(label).into_owned()),
            _ => LimitedAnswer::Acquired(parse_report(&text, files, targets)),
        },
    }))
}

/// Returns the report of a grant: the token, the byte of the slot or 0, and for each lock whether it is fresh.
fn format_report(acquired: &Acquired) -> Vec<u8> {
    let slot = acquired.slot.map_or(0, os::Slot::byte);
    let fresh = acquired.guards.iter().map(|guard| u8::from(guard.fresh));
    [ACQUIRED].into_iter().chain(acquired.token.to_ne_bytes()).chain(slot.to_ne_bytes()).chain(fresh).collect()
}

fn parse_report(text: &[u8], files: Vec<File>, targets: &[(Target, Option<RawFd>)]) -> Acquired {
    let (token, rest) = text.get(1..).and_then(|rest| rest.split_first_chunk()).unwrap_or((&[0; 8], &[]));
    let (slot, fresh) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let slot = os::Slot::from_byte(u64::from_ne_bytes(*slot));
    let guards = files.into_iter().zip(targets).zip(fresh);
    let guards = guards.map(|((file, (target, fd)), fresh)| Guard {
        file,
        target: target.clone(),
        inherited: *fd,
        fresh: *fresh == 1,
        copy: OnceCell::new(),
    });
    let guards: Vec<Guard> = guards.collect();
    let is_logged = guards.iter().any(|guard| guard.file.metadata().is_ok_and(|data| log_flag::is_logged(data.mode())));
    Acquired { token: u64::from_ne_bytes(*token), slot, is_logged, unrecorded: None, guards }
}

/// Reports to the caller that the lock with this label is held by another process.
pub fn report_contention(link: &WatcherLink, label: &str) {
    let mut text = vec![CONTENDED];
    text.extend(label.bytes().take(512));
    let _ = link.report(&text, &[]);
}

/// Fails if one of the locks was held before: it keeps the limit of its own acquisition.
pub fn check_fresh(acquired: &Acquired) -> Result<(), LockError> {
    match acquired.guards.iter().find(|guard| !guard.fresh && guard.inherited.is_some()) {
        Some(guard) => Err(LockError::HeldWithoutLimit { label: guard.target.label.clone() }),
        None => Ok(()),
    }
}

/// Reports the grant to the caller, and then watches the locks until no process holds them through this
/// acquisition. Returns false if the grant could not be reported, so that the locks were released. The caller reports the error if it
/// still runs.
#[must_use]
pub fn watch(link: WatcherLink, acquired: Acquired, request: &Request, limit: TimeLimit) -> bool {
    let begin = Instant::now();
    let report = format_report(&acquired);
    let targets: Vec<Target> = acquired.guards.iter().map(|guard| guard.target.clone()).collect();
    let (wanted, files): (Vec<WantedFile>, Vec<File>) = acquired.guards.into_iter().map(identify_guard).unzip();
    let mut closes = os::FileWatch::new();
    let reports_closes = files.iter().all(|file| closes.add_open_file(file));
    let mut kept: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    kept.push(link.descriptor());
    kept.extend(closes.descriptor());
    os::detach_from_caller(&kept);
    if let Err(error) = link.report(&report, &files.iter().map(AsFd::as_fd).collect::<Vec<_>>()) {
        for file in &files {
            let _ = unlock_description(file);
        }
        link.report_failure(&error);
        return false;
    }
    // The caller goes on when the connection is closed.
    drop(files);
    drop(link);
    os::release_program_pages();
    let mut watch = ReleaseWatch { closes, pause: if reports_closes { Duration::MAX } else { LOOK_AGAIN } };
    if !watch.wait_for_release(begin.checked_add(limit.time)) {
        announce(&targets, &wanted, request, limit, begin.elapsed());
        let plan = KillPlan { signal: kill::TERM, grace: limit.grace };
        loop {
            let _ = kill::end_acquisition(&wanted, &plan);
            // A process of another user may not be signalled, and one that waits for a disk does not end.
            if !is_held() || watch.wait_for_release(Instant::now().checked_add(TRY_AGAIN)) {
                break;
            }
        }
    }
    true
}

fn identify_guard(guard: Guard) -> (WantedFile, File) {
    let Guard { file, target, .. } = guard;
    let mut wanted = holders::identify_file(&target.path);
    if let Ok(data) = file.metadata() {
        (wanted.dev, wanted.ino) = (data.dev(), data.ino());
    }
    (wanted, file)
}

/// The wait for the last holder.
struct ReleaseWatch {
    closes: os::FileWatch,
    /// The longest time between two looks at the lock table.
    pause: Duration,
}

impl ReleaseWatch {
    /// Waits until no process holds a lock that this process has acquired. Returns false at the deadline.
    fn wait_for_release(&mut self, deadline: Option<Instant>) -> bool {
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        let mut looks = [].iter();
        loop {
            let next = looks.next().copied().unwrap_or(self.pause);
            if self.closes.wait(&[], left().min(next)) {
                looks = LOOKS.iter();
            }
            if !is_held() {
                return true;
            }
            if left().is_zero() {
                return false;
            }
            thread::sleep(left().min(PAUSE));
        }
    }
}

/// Returns true if a process holds a lock that this process has acquired. This process has no other locks.
fn is_held() -> bool {
    let us = std::process::id();
    (0..LISTS)
        .any(|_| lock_table::list_held().is_none_or(|all| all.iter().any(|one| !one.waits && one.lock.locker == us)))
}

/// Logs that the time is over, and prints a message on the standard error of the first holder that has one.
fn announce(targets: &[Target], files: &[WantedFile], request: &Request, limit: TimeLimit, held: Duration) {
    for target in targets {
        let event = LockEvent::Expired { held, limit: limit.time };
        events::log_event(&event, target, request.holder, request.command.as_deref());
    }
    let labels: Vec<&str> = targets.iter().map(|target| target.label.as_str()).collect();
    let labels = shorten(&labels.join(", ").replace(char::is_control, " "), MAX_LABELS);
    let line = format!(
        "aba-lock: {labels}: held for the maximum time of {}: {}\n",
        format_limit(limit.time),
        limit.describe_signals()
    );
    let is_written = |pid: u32| {
        let opened = process::start_time(pid).and_then(|start| os::Process::open(pid, start));
        opened.is_some_and(|opened| os::write_to_stderr_of(pid, &opened, &line))
    };
    let pids = kill::find_own_holders(files);
    let holder = Some(request.holder).filter(|holder| pids.contains(holder));
    let _ = holder.into_iter().chain(pids.iter().copied().filter(|pid| Some(*pid) != holder)).any(is_written);
}
