//! The lock of a task, and the changes that only its holder may make.
//!
//! Starting, waiting, expiring, resetting and cleaning all acquire a [`TaskGuard`] first. An acquisition also finishes a run
//! whose supervisor was killed, so the holder always finds a task that is complete and not running.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::leftovers::{kill_foreign_leftovers, kill_leftovers};
use super::run_end::RunEnd;
use super::stream::Stream;
use crate::base::target::{Kind, Target};
use crate::lock::deadlock::circle::Circle;
use crate::lock::deadlock::detector::DeadlockDetector;
use crate::lock::error::LockError;
use crate::lock::record::{self, Content};
use crate::lock::{open, wait};
use crate::os::{self, Mode, leads_to};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Maximum number of times that the lock file is opened again because it was removed or replaced. Only a process that resets
/// the task in a loop reaches it.
const MAX_OPENS: u32 = 1000;

/// The lock of a task: the right to start it, to give it an outcome, and to forget it. Dropping it releases the lock.
#[derive(Debug)]
#[must_use = "the task's lock is released when it is dropped"]
pub(super) struct TaskGuard<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) lock: File,
    /// The end of the last run if the file `exit` does not hold it: because the task was removed while this process waited for
    /// its lock, or because the disk was full.
    pub(super) missed: Option<RunEnd>,
}

/// The events after which the caller of [`TaskGuard::acquire`] looks again, in addition to the grant of the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    limit: Option<Duration>,
    /// True if a change in the directory of the task ends the pause.
    for_change: bool,
}

impl Pause {
    /// The caller looks again after a change in the directory of the task, and after this time.
    pub(super) fn for_change(limit: Option<Duration>) -> ControlFlow<(), Self> {
        ControlFlow::Continue(Self { limit, for_change: true })
    }

    /// The caller looks again only after this time. A waiter that needs only the lock must not look at each change: the end of a
    /// run changes files in the directory, so many waiters would read the lock table at once and delay each other.
    pub(super) fn for_lock(limit: Option<Duration>) -> ControlFlow<(), Self> {
        ControlFlow::Continue(Self { limit, for_change: false })
    }
}

/// The result of an attempt to acquire the lock.
pub(super) enum LockAttempt<'a> {
    Granted(TaskGuard<'a>),
    /// The deadline passed, or the caller stopped waiting. This is the lock file, which another process has locked.
    GivenUp(File),
}

impl<'a> LockAttempt<'a> {
    pub(super) fn into_guard(self) -> Option<TaskGuard<'a>> {
        match self {
            Self::Granted(guard) => Some(guard),
            Self::GivenUp(_) => None,
        }
    }
}

/// The longest time for which a call tries to open the lock file of a task on which another process has a lease.
const LEASE_LIMIT: Duration = Duration::from_secs(5);

impl<'a> TaskGuard<'a> {
    /// Acquires the lock, and finishes a run whose supervisor was killed. While another process holds the lock, `before_pause` is
    /// called each time before this process blocks. It decides whether to wait, and when it is called again.
    pub(super) fn acquire(
        task: &'a Task<'a>,
        deadline: Option<Instant>,
        before_pause: &mut dyn FnMut() -> ControlFlow<(), Pause>,
    ) -> Result<LockAttempt<'a>, TaskError> {
        let path = task.file(files::LOCK);
        let target = Target { label: task.id.to_string(), path, kind: Kind::Named, key: None, link: None };
        let mut missed = None;
        let patience = || {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            left.unwrap_or(LEASE_LIMIT).clamp(open::INSTANT, LEASE_LIMIT)
        };
        task.make_directory()?;
        for _ in 0..MAX_OPENS {
            let lock = match open::open_lock_file(&target, None, patience()) {
                // A reset has removed the directory of the task.
                Err(LockError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    task.create_directory()?;
                    continue;
                }
                Err(LockError::Open { source, .. }) => return Err(task.failed(files::LOCK)(source)),
                opened => opened?,
            };
            let before = RunEnd::read_from(&lock);
            let cannot = |source| LockError::cannot_lock(&target.path, source);
            let at_once = os::try_lock(&lock, Mode::Exclusive).map_err(cannot)?;
            if !at_once {
                let alarm = os::Alarm::new();
                let mut bell: Option<os::Bell> = None;
                let mut watch = DeadlockWatch::new(&target.path);
                let mut before_block = || {
                    if watch.finds_deadlock() {
                        return ControlFlow::Break(());
                    }
                    loop {
                        // The bell is reset before the look, so that a change after the look ends the pause.
                        let look_again = bell.as_mut().and_then(os::Bell::silence);
                        let ControlFlow::Continue(pause) = before_pause() else { return ControlFlow::Break(()) };
                        if !pause.for_change {
                            bell = None;
                        } else if bell.is_none() {
                            bell = Some(os::Bell::new(task.directory(), &alarm));
                            continue;
                        }
                        return ControlFlow::Continue(watch.limit([pause.limit, look_again]));
                    }
                };
                let mut block_once = || os::wait_lock(&lock, Mode::Exclusive);
                let granted = wait::block_until_granted(&alarm, &mut block_once, deadline, &mut before_block);
                if !granted.map_err(cannot)? {
                    let Some(circle) = watch.circle else { return Ok(LockAttempt::GivenUp(lock)) };
                    return Err(
                        LockError::Deadlock { label: format!("task {}", task.id), circle: Box::new(circle) }.into()
                    );
                }
            }
            // The lock is valid only if the file still has its name: a reset may have removed it after it was opened.
            if leads_to(&target.path, &lock) {
                let mut guard = Self { task, lock, missed };
                guard.finish_killed_run()?;
                return Ok(LockAttempt::Granted(guard));
            }
            // If the note of the end changed during the wait, it is from the run for which this process waited. Otherwise it
            // is from an earlier run, which has been forgotten since.
            missed = RunEnd::read_from(&lock).filter(|end| !at_once && Some(*end) != before).or(missed);
        }
        Err(LockError::KeepsChanging { path: target.path }.into())
    }

    /// Finishes a run whose supervisor was killed: kills the processes that it left, writes its outcome, and removes its `pid`.
    fn finish_killed_run(&mut self) -> Result<(), TaskError> {
        let task = self.task;
        // The lock of `pid` does not matter here. The kernel closes the descriptors of a killed process in the order of their
        // numbers, so this process may get the lock of the task a moment before `pid` is unlocked.
        if fs::symlink_metadata(task.file(files::PID)).is_err() {
            return Ok(());
        }
        let outcome = task.read_outcome();
        // A run by another program has no record, or only that of an earlier run.
        let record = match record::read(&self.lock) {
            Content::Record(record) if task.read_pid_number() == Some(record.pid) => Some(record),
            _ => None,
        };
        let end = record.as_ref().and_then(|_| RunEnd::read_from(&self.lock));
        if let Some(record) = &record
            && end.is_none_or(|end| end.result.may_leave_processes())
        {
            kill_leftovers(task, record, end.is_some())?;
        } else if record.is_none() && matches!(outcome, Ok(None)) {
            kill_foreign_leftovers(task)?;
        }
        match end {
            // The supervisor noted the end. Only the file `exit` is missing.
            Some(end) if task.write(files::EXIT, format!("{}\n", end.result.status).as_bytes()).is_err() => {
                // The disk is still full. The next holder tries again.
                self.missed = Some(end);
                return Ok(());
            }
            // If there is an outcome, the killed run only validated it (`RunPurpose::Validate`), so it stays valid.
            None if matches!(outcome, Ok(None)) => {
                task.write(files::EXIT, b"137\n")?;
                task.add_event("SIGNAL rc=137 (the supervisor was killed)");
            }
            _ => {}
        }
        task.remove(files::PID)
    }

    /// Forgets the outcome and sets the logs aside. The saved command stays.
    pub(super) fn expire(&self) -> Result<(), TaskError> {
        self.task.remove(files::EXIT)?;
        self.task.set_logs_aside("prev")?;
        self.task.add_event("TTL_EXPIRED");
        Ok(())
    }

    /// Forgets everything except the history and the logs, which are set aside. If the task was already forgotten, the rest is
    /// removed, too.
    pub(super) fn reset(self) -> Result<(), TaskError> {
        let task = self.task;
        if !task.is_known() && task.log(Stream::Out).is_none() {
            return self.purge().map(drop);
        }
        task.set_logs_aside("prev")?;
        task.add_event("RESET");
        task.remove_run()
    }

    /// Removes all files of the task. Returns false if the directory stays because it holds other files.
    pub(super) fn purge(self) -> Result<bool, TaskError> {
        self.task.remove_all()
    }

    /// Releases the lock. Removes the directory if it holds no task and no history.
    pub(super) fn release(self) -> Result<(), TaskError> {
        let task = self.task;
        if task.is_known() || task.has_history() { Ok(()) } else { self.purge().map(drop) }
    }
}

/// Searches for deadlocks between two blocking calls of a wait. Each search costs the process its place in the queue of the
/// lock. That does no harm here, because the order in which waiters get the lock of a task does not matter.
struct DeadlockWatch {
    detector: DeadlockDetector,
    searched: Option<Instant>,
    circle: Option<Circle>,
}

impl DeadlockWatch {
    fn new(path: &Path) -> Self {
        Self { detector: DeadlockDetector::new(path), searched: None, circle: None }
    }

    fn finds_deadlock(&mut self) -> bool {
        let due = self.searched.is_none_or(|searched| searched.elapsed() >= self.detector.interval());
        if due {
            let never = AtomicBool::new(false);
            // This process is part of a circle only if another process waits for it. That is known without reading all locks.
            self.circle = if self.detector.may_be_awaited(&never) { self.detector.search(&never) } else { None };
            self.searched = Some(Instant::now());
        }
        self.circle.is_some()
    }

    /// Returns the shortest of these pauses and the time until the next search.
    fn limit(&self, pauses: [Option<Duration>; 2]) -> Option<Duration> {
        pauses.into_iter().flatten().chain([self.detector.interval()]).min()
    }
}
