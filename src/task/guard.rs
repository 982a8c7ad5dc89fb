//! The lock of a task: taking it, and what only its holder may do.

use super::files;
use super::state::{State, Task};
use super::wait::Stream;
use crate::base::environment::TASK;
use crate::base::target::{Kind, Target};
use crate::lock::deadlock::circle::Circle;
use crate::lock::deadlock::detector::DeadlockDetector;
use crate::lock::error::LockError;
use crate::lock::record::{self, Content, Record};
use crate::lock::{open, wait};
use crate::os::proc::process::{self, InitialVariable, LocalNumbers, ProcessStat};
use crate::os::{self, Mode, leads_to};
use crate::task::error::TaskError;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often the lock file may be replaced while it is opened: it takes somebody who resets in a loop.
const MAX_OPENS: u32 = 1000;

/// How long processes that a killed supervisor left may take to be gone after SIGKILL.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// How long to look again at one that does not show what it was started with.
const UNSURE_FOR: Duration = Duration::from_millis(200);

/// The right to start a task, to give it an outcome, and to forget it. Dropping it lets go.
#[derive(Debug)]
#[must_use = "the task's lock is released when it is dropped"]
pub(super) struct Guard<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) lock: File,
    /// How the last run ended, where no `exit` says so: its lock file was removed while we waited for it, or there was
    /// no room.
    pub(super) missed: Option<End>,
}

/// How a run ended, as it is noted in the lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) status: u8,
    pub(super) took: Duration,
}

/// The events that a caller of [`Guard::take`] waits for, in addition to the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    /// The time after which it looks again.
    limit: Option<Duration>,
    /// True if it also looks again after a change in the directory of the task.
    for_change: bool,
}

impl Pause {
    /// Looks again after a change in the directory of the task, and after this time.
    pub(super) fn for_change(limit: Option<Duration>) -> ControlFlow<(), Self> {
        ControlFlow::Continue(Self { limit, for_change: true })
    }

    /// Looks again only after this time. The end of a run changes files in its directory, so a waiter that needs only the
    /// lock must not look then: many waiters would read the list of all locks at once, and delay each other.
    pub(super) fn for_lock(limit: Option<Duration>) -> ControlFlow<(), Self> {
        ControlFlow::Continue(Self { limit, for_change: false })
    }
}

/// The outcome of an attempt to acquire the lock.
pub(super) enum Taken<'a> {
    /// We hold it.
    Granted(Guard<'a>),
    /// The deadline passed, or the caller would not wait any longer. The lock file, which another process has locked.
    GivenUp(File),
}

impl<'a> Taken<'a> {
    pub(super) fn guard(self) -> Option<Guard<'a>> {
        match self {
            Self::Granted(guard) => Some(guard),
            Self::GivenUp(_) => None,
        }
    }
}

impl<'a> Guard<'a> {
    /// Takes the lock, and ends what a killed supervisor left. While another process holds the lock, `meanwhile` is called
    /// before each time that we block, and decides when it is called again ([`Pause`]).
    pub(super) fn take(
        task: &'a Task<'a>,
        deadline: Option<Instant>,
        meanwhile: &mut dyn FnMut() -> ControlFlow<(), Pause>,
    ) -> Result<Taken<'a>, TaskError> {
        let path = task.file(files::LOCK);
        let target = Target { label: task.id.to_string(), path, kind: Kind::Named, link: None };
        let mut missed = None;
        task.is_no_link()?;
        for _ in 0..MAX_OPENS {
            let lock = match open::open_lock_file(&target, None) {
                // Not made yet, or a reset took it away again.
                Err(LockError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    task.make_directory()?;
                    continue;
                }
                Err(LockError::Open { path, source, .. }) => return Err(TaskError::Unusable { path, source }),
                opened => opened?,
            };
            let before = end_in(&lock);
            let cannot = |source| LockError::cannot_lock(&target.path, source);
            let at_once = os::try_lock(&lock, Mode::Exclusive).map_err(cannot)?;
            if !at_once {
                let alarm = os::Alarm::new();
                let mut bell: Option<os::Bell> = None;
                let mut watch = Watch::new(&target.path);
                let mut or_circle = || {
                    if watch.sees_circle() {
                        return ControlFlow::Break(());
                    }
                    loop {
                        // Before the look, so that a change after the look ends the pause.
                        let look_again = bell.as_mut().and_then(os::Bell::silence);
                        let ControlFlow::Continue(pause) = meanwhile() else { return ControlFlow::Break(()) };
                        if !pause.for_change {
                            bell = None;
                        } else if bell.is_none() {
                            bell = Some(os::Bell::new(task.directory(), &alarm));
                            continue;
                        }
                        return ControlFlow::Continue(watch.limit([pause.limit, look_again]));
                    }
                };
                let granted = wait::block_until_granted(&alarm, &lock, Mode::Exclusive, deadline, &mut or_circle);
                if !granted.map_err(cannot)? {
                    let Some(circle) = watch.circle else { return Ok(Taken::GivenUp(lock)) };
                    return Err(
                        LockError::Deadlock { label: format!("task {}", task.id), circle: Box::new(circle) }.into()
                    );
                }
            }
            // Acquired is not yet valid: a reset may have removed the file since we opened it.
            if leads_to(&target.path, &lock) {
                let mut guard = Self { task, lock, missed };
                guard.settle()?;
                return Ok(Taken::Granted(guard));
            }
            // An older note is of a run that was forgotten since.
            missed = end_in(&lock).filter(|end| !at_once && Some(*end) != before).or(missed);
        }
        Err(LockError::KeepsChanging { path: target.path }.into())
    }

    /// A supervisor that was killed left its `pid`, and perhaps processes.
    fn settle(&mut self) -> Result<(), TaskError> {
        let task = self.task;
        // Locked or not: the kernel closes the descriptors of one that was killed in the order of their numbers, so that
        // we may have its lock a moment before it loses that of `pid`.
        if fs::symlink_metadata(task.file(files::PID)).is_err() {
            return Ok(());
        }
        let outcome = task.outcome();
        // A run that is not ours has no record, or only an older one.
        let record = match record::read(&self.lock) {
            Content::Record(record) if task.pid_in_file() == Some(record.pid) => Some(record),
            _ => None,
        };
        let end = record.as_ref().and_then(|_| end_in(&self.lock));
        if let Some(record) = &record
            && end.is_none_or(|end| State::of(end.status) == State::Interrupted)
        {
            end_rest(task, record)?;
        } else if record.is_none() && matches!(outcome, Ok(None)) {
            end_foreign_rest(task)?;
        }
        match end {
            // It came as far as this: what is left is to say so.
            Some(end) if task.write(files::EXIT, format!("{}\n", end.status).as_bytes()).is_err() => {
                // There is still no room for it: the next one will see.
                self.missed = Some(end);
                return Ok(());
            }
            // One that was being validated stands as it is.
            None if matches!(outcome, Ok(None)) => {
                task.write(files::EXIT, b"137\n")?;
                task.note("SIGNAL rc=137 (its supervisor was killed)");
            }
            _ => {}
        }
        task.remove(files::PID)
    }

    /// Forgets the outcome and sets the logs aside; the saved command stays.
    pub(super) fn expire(&self) -> Result<(), TaskError> {
        self.task.remove(files::EXIT)?;
        self.task.set_logs_aside("prev")?;
        self.task.note("TTL_EXPIRED");
        Ok(())
    }

    /// Forgets everything, but for the logs, which are set aside, and the history. What was forgotten before goes
    /// altogether.
    pub(super) fn reset(self) -> Result<(), TaskError> {
        let task = self.task;
        if !task.is_known() && task.log(Stream::Out).is_none() {
            return self.purge().map(drop);
        }
        task.set_logs_aside("prev")?;
        task.note("RESET");
        // The outcome late, so that one that failed stays so for the next reset if we are killed; the lock last: from
        // there on another may begin anew.
        task.forget()
    }

    /// Removes all of it. Whether the directory is gone, too: not if there is anything else in it.
    pub(super) fn purge(self) -> Result<bool, TaskError> {
        self.task.remove_all()
    }

    /// Lets go, and leaves nothing behind where nothing was before.
    pub(super) fn leave(self) -> Result<(), TaskError> {
        let task = self.task;
        if task.is_known() || task.has_history() { Ok(()) } else { self.purge().map(drop) }
    }
}

/// Looks for deadlocks between one time that a wait blocks and the next: here nobody minds who is served first.
struct Watch {
    detector: DeadlockDetector,
    looked: Option<Instant>,
    circle: Option<Circle>,
}

impl Watch {
    fn new(path: &Path) -> Self {
        Self { detector: DeadlockDetector::new(path), looked: None, circle: None }
    }

    fn sees_circle(&mut self) -> bool {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= self.detector.interval());
        if due {
            // No circle comes back to a process for which no other waits, which is known without a look at all locks.
            self.circle = if self.detector.may_be_awaited() { self.detector.search() } else { None };
            self.looked = Some(Instant::now());
        }
        self.circle.is_some()
    }

    /// The shortest of these pauses and the time until the next look.
    fn limit(&self, pauses: [Option<Duration>; 2]) -> Option<Duration> {
        pauses.into_iter().flatten().chain([self.detector.interval()]).min()
    }
}

/// What tells the processes of one run from all others: it is in their environment.
pub(super) fn mark(task: &Task, token: u64) -> String {
    format!("{}/{token}", task.id)
}

/// Ends what is left of the run that `record` is of: all that were started with its mark or print to its logs, and the
/// session that its command began. That it is this session must be proved, by its leader or by one of those: a number
/// alone may have been given to another since. (As long as one is left in a session, its number is not given away.)
pub(super) fn end_rest(task: &Task, record: &Record) -> Result<(), TaskError> {
    if !process::can_be_seen() && cfg!(target_os = "linux") {
        return Err(TaskError::NotSeen { id: task.id.to_string(), path: task.file(files::PID) });
    }
    if record.boot != process::boot_id() || record.ns != process::pid_namespace() {
        return Ok(());
    }
    // `/proc` may show other numbers than those in the record, which are of our PID namespace.
    let has_our_numbers = process::has_our_numbers();
    let here = |seen: &ProcessStat| {
        let same = Some(LocalNumbers { pid: seen.pid, session: seen.session });
        if has_our_numbers { same } else { process::local_numbers(seen.pid) }
    };
    let ours = process::own_number().unwrap_or(0);
    let mark = InitialVariable::Value(mark(task, record.token));
    // Its logs: nobody else was given them to print to.
    let logs: Vec<(u64, u64)> = Stream::BOTH
        .into_iter()
        .filter_map(|stream| task.log(stream)?.metadata().ok())
        .map(|data| (data.dev(), data.ino()))
        .collect();
    let started = Instant::now();
    // Until none was found twice: one whose number is lower than its parent's may appear behind us as we go through them.
    let mut none = 0;
    while none < 2 {
        let (mut found, mut unsure) = (Vec::new(), false);
        let leader = process::number_of(record.pid);
        let mut proved = leader.is_some_and(|number| process::is_alive(number, record.tick));
        let mut near = Vec::new();
        for seen in process::read_all_stats().into_iter().filter(|seen| seen.pid != ours) {
            // It may not have begun its session yet.
            let here = here(&seen);
            let is_leader = here.is_some_and(|here| here.pid == record.pid) && seen.start <= record.tick;
            let is_in_session = here.is_some_and(|here| here.session == record.pid);
            let given = process::initial_variable(seen.pid, TASK);
            if given == mark || process::prints_to(seen.pid, &logs) {
                proved |= is_in_session;
                found.push(seen);
            } else if is_leader {
                found.push(seen);
            } else if is_in_session {
                unsure |= given == InitialVariable::Unknown;
                near.push(seen);
            }
        }
        if proved {
            found.append(&mut near);
        }
        let spent = started.elapsed();
        none = if found.is_empty() && (!unsure || spent > UNSURE_FOR) { none + 1 } else { 0 };
        if let (Some(first), true) = (found.first(), spent > KILLED_WITHIN) {
            return Err(TaskError::NotEnded { id: task.id.to_string(), pid: Some(first.pid) });
        }
        send_all(&found, libc::SIGKILL);
        if none == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Ends what is left of a run that was not ours and was killed.
pub(super) fn end_foreign_rest(task: &Task) -> Result<(), TaskError> {
    let started = Instant::now();
    loop {
        let left = task.foreign_processes();
        let Some(first) = left.first() else { return Ok(()) };
        if started.elapsed() > KILLED_WITHIN {
            return Err(TaskError::NotEnded { id: task.id.to_string(), pid: Some(first.pid) });
        }
        send_all(&left, libc::SIGKILL);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a process that was seen, and to no other that has its number by now.
pub(super) fn send(seen: &ProcessStat, signal: i32) {
    if let Some(process) = os::Process::open(seen.pid, seen.start) {
        process.send(signal);
    }
}

/// Sends a signal to each of these processes.
pub(super) fn send_all(processes: &[ProcessStat], signal: i32) {
    for seen in processes {
        send(seen, signal);
    }
}

/// Notes how the run ended, behind the record. There is room in the block of the file also when the disk is full.
pub(super) fn note_end(lock: &File, end: End) -> io::Result<()> {
    let mut lock = lock;
    lock.seek(SeekFrom::End(0))?;
    let text = format!("outcome={}\nseconds={:.3}\n", end.status, end.took.as_secs_f64());
    os::without_size_signal(|| lock.write_all(text.as_bytes()))
}

/// What [`note_end`] wrote into this lock file.
pub(super) fn end_in(lock: &File) -> Option<End> {
    let mut bytes = [0; 128];
    let begin = lock.metadata().ok()?.len().saturating_sub(bytes.len() as u64);
    let read = lock.read_at(&mut bytes, begin).ok()?;
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let end = text.rsplit_once("\noutcome=")?.1;
    let (status, took) = end.strip_suffix('\n')?.split_once("\nseconds=")?;
    let took = Duration::try_from_secs_f64(took.parse().ok()?).ok()?;
    Some(End { status: status.parse().ok()?, took })
}
