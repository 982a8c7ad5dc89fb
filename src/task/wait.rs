//! Starting a task, and waiting for it.

use super::foreign::Lookout;
use super::guard::{self, Guard, Pause, Taken};
use super::run::{Purpose, Run};
use super::saved::Saved;
use super::state::{Look, Outcome, Running, State, Task};
use super::{files, saved};
use crate::base::environment::task_of_this_process;
use crate::base::error::ContextError;
use crate::lock::record::{self, Content};
use crate::os;
use crate::task::error::TaskError;
use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a start waits for another that has the lock and does not run the task yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a start waits for a lock that a program other than a helper holds, before it takes it for a run. The bash function
/// takes the lock for an instant, too, to see whether the task runs.
const INSTANT: Duration = Duration::from_millis(50);

/// When to look again where nothing more is told: not so often that it would be polling.
const LOOKS: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];

/// How long a validation, or somebody who does not run the task, may take before we say that we wait.
const SILENT: Duration = Duration::from_secs(1);

/// How many lines of a log are shown after a failure.
const LAST_LINES: usize = 10;

/// Where a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// stdout
    Out,
    /// stderr
    Err,
}

/// What a start came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// We started it.
    Now,
    /// It runs already.
    Running,
    /// It has finished already.
    Finished,
}

/// What a wait is to do.
#[derive(Debug)]
pub struct Ask<'q> {
    /// The command, for the case that it was never run. Empty: the saved one.
    pub command: &'q [OsString],
    /// How long to wait.
    pub timeout: Option<Duration>,
    /// True if the saved command is run again when the wait finds a success that it did not bring about. False once a run that
    /// began during the wait, or a validation, has found it.
    pub validate: bool,
    /// Whether to tell what a run prints that another started.
    pub follow: bool,
    /// Whether to remove the task afterwards.
    pub purge: bool,
}

/// How a wait ended.
#[derive(Debug)]
pub struct Ended {
    /// The task's own status.
    pub status: u8,
    /// Whether what it printed was told.
    pub told: bool,
    /// After a failure, the end of what it printed on stderr, or else on stdout.
    pub last_lines: String,
    /// On which of them.
    pub last_stream: Stream,
}

/// Is told of a wait, so that the user can be.
pub trait Teller {
    /// How often to call [`Teller::tick`], if at all.
    fn interval(&self) -> Option<Duration>;
    /// It runs, and we are about to wait.
    fn begins(&mut self, task: &Task, running: Running);
    /// We still wait.
    fn tick(&mut self, task: &Task, running: Running);
    /// We do not wait any more.
    fn ends(&mut self);
    /// Another has its lock and does not run it; we wait for that.
    fn is_blocked(&mut self, task: &Task);
    /// The command printed this. Returns how much of it was passed on: not all of it if a signal came.
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> usize;
}

/// One reader of a log, and how far it has come.
struct Reader {
    stream: Stream,
    file: Option<File>,
    at: u64,
}

impl Reader {
    fn all(files: [Option<File>; 2]) -> [Self; 2] {
        let [out, err] = files;
        [(Stream::Out, out), (Stream::Err, err)].map(|(stream, file)| Self { stream, file, at: 0 })
    }

    /// Tells some of what was added. Whether there was any.
    fn tell(&mut self, teller: &mut dyn Teller) -> bool {
        let mut bytes = [0; 16 * 1024];
        let Some(Ok(len)) = self.file.as_ref().map(|file| file.read_at(&mut bytes, self.at)) else { return false };
        if len == 0 {
            return false;
        }
        let told = teller.output(self.stream, &bytes[..len]);
        self.at += told as u64;
        true
    }
}

/// How a wait for a run came to its end.
enum Followed {
    Over,
    TimedOut,
    Interrupted,
}

impl Task<'_> {
    /// Starts it, unless it runs or has finished. Returns when it has been started, in the background. With `combined`, stderr
    /// also goes to the log of stdout.
    ///
    /// `CommandError::NotFound` and the like are outcomes, too: the task has failed then.
    pub fn start(&self, command: &[OsString], combined: bool) -> Result<Started, TaskError> {
        if let Some(already) = already(&self.look()) {
            return Ok(already);
        }
        // Before anything is made.
        if self.to_run(command)?.is_none() {
            return Err(self.nothing_to_run());
        }
        let (begin, mut seen) = (Instant::now(), None);
        let mut lookout = Lookout::new(self);
        let taken = Guard::take(self, None, &mut || {
            seen = already(&self.look());
            if seen.is_some() {
                return ControlFlow::Break(());
            }
            let is_foreign = lookout.foreign_run().is_some();
            let limit = if is_foreign { INSTANT } else { PATIENCE };
            let left = limit.saturating_sub(begin.elapsed());
            if left == Duration::ZERO {
                seen = is_foreign.then_some(Started::Running);
                return ControlFlow::Break(());
            }
            Pause::for_change(lookout.limit(Some(left)))
        })?;
        let Some(guard) = taken.guard() else {
            return seen.ok_or(TaskError::Busy { id: self.id.to_string(), path: self.file(files::LOCK) });
        };
        // Once more, under the lock: it may have been run between the look and the lock.
        if guard.outcome()?.is_some_and(|status| State::of(status).has_finished()) {
            guard.leave()?;
            return Ok(Started::Finished);
        }
        let Some((saved, save)) = self.to_run(command)? else {
            guard.leave()?;
            return Err(self.nothing_to_run());
        };
        guard.run(&saved, save, if combined { Purpose::RunCombined } else { Purpose::Run })?;
        Ok(Started::Now)
    }

    /// Waits until it has finished; runs it if it was never run, or was interrupted.
    pub fn wait(&self, ask: &Ask, teller: &mut dyn Teller) -> Result<Ended, TaskError> {
        let deadline = ask.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // A run that begins from now on has another token.
        let before = ask.validate.then(|| record::read_path(&self.file(files::LOCK)).token());
        let first = self.look();
        if let Some(outcome) = first.finished()
            && first.running.is_none()
            && !first.left
            && !(ask.validate && outcome.state() == State::Succeeded)
        {
            let ended = self.ended(outcome.status, false);
            self.purge_if(outcome, ask, deadline)?;
            return Ok(ended);
        }
        // An outcome stands while it is validated. Its result is also ours.
        let is_validated =
            ask.validate && first.outcome.is_some() && (first.running.is_some() || self.foreign_run().is_some());
        if first.running.is_some() {
            self.is_not_ours()?;
        } else if first.outcome.is_none() && self.to_run(ask.command)?.is_none() && self.foreign_run().is_none() {
            return Err(self.nothing_to_run());
        }
        let (guard, told) = self.join(ask, deadline, teller)?;
        let ended = match guard.outcome()? {
            Some(0) if !is_validated && before == Some(record::read(&guard.lock).token()) => {
                match saved::to_run(self)? {
                    Some(saved) => return self.validate(guard, &saved, ask, deadline, teller),
                    None => self.ended(0, told),
                }
            }
            Some(status) if State::of(status).has_finished() => self.ended(status, told),
            interrupted => match (self.to_run(ask.command)?, interrupted) {
                (Some((saved, save)), _) => {
                    let run = guard.run(&saved, save, Purpose::Run);
                    if let (Err(_), Ok(Some(outcome))) = (&run, self.outcome_of_any_age()) {
                        self.purge_if(outcome, ask, deadline)?;
                    }
                    return self.stream(run?, ask, deadline, teller);
                }
                (None, Some(status)) => self.ended(status, told),
                (None, None) => {
                    guard.leave()?;
                    return Err(self.nothing_to_run());
                }
            },
        };
        if ask.purge {
            guard.purge()?;
        } else {
            guard.leave()?;
        }
        Ok(ended)
    }

    /// Waits until no other process holds the lock. Returns also whether what the run printed was shown in the meantime.
    fn join(
        &self,
        ask: &Ask,
        deadline: Option<Instant>,
        teller: &mut dyn Teller,
    ) -> Result<(Guard<'_>, bool), TaskError> {
        let interrupts = os::Interrupts::notice();
        let (mut told, mut begun, mut last) = (None, false, None::<Running>);
        // The end of the run that we followed last.
        let mut missed = None;
        let mut lookout = Lookout::new(self);
        loop {
            let started = Instant::now();
            let taken = Guard::take(self, deadline, &mut || {
                if interrupts.came() {
                    return ControlFlow::Break(());
                }
                let Some(running) = lookout.run() else {
                    let left = SILENT.saturating_sub(started.elapsed());
                    if left == Duration::ZERO && !begun {
                        begun = true;
                        teller.is_blocked(self);
                    }
                    return Pause::for_change(lookout.limit(Some(left).filter(|left| !left.is_zero())));
                };
                last = Some(running);
                // Each run as a whole: also one that another starts when this one was killed.
                if ask.follow && told != Some(running.pid) {
                    return ControlFlow::Break(());
                }
                if begun {
                    teller.tick(self, running);
                } else {
                    teller.begins(self, running);
                }
                begun = true;
                if ask.follow {
                    // Another waiter may start it again when this run is killed.
                    Pause::for_change(teller.interval())
                } else {
                    Pause::for_lock(teller.interval())
                }
            });
            if begun {
                teller.ends();
            }
            let lock = match taken? {
                Taken::Granted(guard) => {
                    let missed = guard.missed.or(missed);
                    let told = told.is_some() && told == last.map(|running| running.pid);
                    return Ok((Guard { missed, ..guard }, told));
                }
                Taken::GivenUp(lock) => lock,
            };
            let followed = match last {
                _ if interrupts.came() => Followed::Interrupted,
                Some(running) if ask.follow && told != Some(running.pid) => {
                    // The supervisor notes the end in this file, which we have open also when the task is removed then.
                    let is_of_run = matches!(record::read(&lock), Content::Record(record) if record.pid == running.pid);
                    if !is_of_run && running.holder.is_none() {
                        // The task was removed and started again: its lock is another file.
                        continue;
                    }
                    let logs = Stream::BOTH.map(|stream| self.log(stream));
                    let followed = self.follow(running, logs, deadline, teller, &interrupts);
                    missed = guard::end_in(&lock).filter(|_| is_of_run);
                    followed
                }
                _ => Followed::TimedOut,
            };
            match followed {
                Followed::Over => {
                    told = last.map(|running| running.pid);
                    // Its supervisor may hold the lock for another moment.
                    lookout = Lookout::new(self);
                }
                Followed::TimedOut => return Err(self.timed_out(ask)),
                Followed::Interrupted => return Err(self.interrupted(last.map(|running| running.pid))),
            }
        }
    }

    /// Waits for a run that we started, and tells what it prints.
    fn stream(
        &self,
        mut run: Run,
        ask: &Ask,
        deadline: Option<Instant>,
        teller: &mut dyn Teller,
    ) -> Result<Ended, TaskError> {
        let interrupts = os::Interrupts::notice();
        let logs = std::mem::take(&mut run.logs);
        let running = Running { pid: run.pid, since: std::time::SystemTime::now(), holder: None };
        match self.follow(running, logs, deadline, teller, &interrupts) {
            Followed::Over => {}
            Followed::TimedOut => return Err(self.timed_out(ask)),
            Followed::Interrupted => return Err(self.interrupted(Some(run.pid))),
        }
        drop(interrupts);
        let status = run.status(deadline, None).map_err(|()| self.timed_out(ask))?;
        self.own_end(status, ask, deadline, true)
    }

    fn validate(
        &self,
        guard: Guard,
        saved: &Saved,
        ask: &Ask,
        deadline: Option<Instant>,
        teller: &mut dyn Teller,
    ) -> Result<Ended, TaskError> {
        let mut run = guard.run(saved, false, Purpose::Validate)?;
        let running = Running { pid: run.pid, since: std::time::SystemTime::now(), holder: None };
        let mut silent = Some(SILENT);
        let interrupts = os::Interrupts::notice();
        let status = loop {
            let interval = silent.or(teller.interval()).and_then(|interval| Instant::now().checked_add(interval));
            match run.status([deadline, interval].into_iter().flatten().min(), Some(&interrupts)) {
                Ok(status) => break Ok(status),
                Err(()) if interrupts.came() => break Err(self.interrupted(Some(run.pid))),
                Err(()) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    break Err(self.timed_out(ask));
                }
                Err(()) if silent.take().is_some() => teller.begins(self, running),
                Err(()) => teller.tick(self, running),
            }
        };
        if silent.is_none() {
            teller.ends();
        }
        drop(interrupts);
        self.own_end(status?, ask, deadline, false)
    }

    /// The end of a run of our own. `None`: its supervisor was killed.
    fn own_end(
        &self,
        status: Option<u8>,
        ask: &Ask,
        deadline: Option<Instant>,
        told: bool,
    ) -> Result<Ended, TaskError> {
        let status = match status {
            Some(status) => status,
            // With the lock, what it left is brought to its end. The outcome may be of another run by then.
            None => match Guard::take(self, deadline, &mut || Pause::for_lock(None))? {
                Taken::Granted(_) => 137,
                Taken::GivenUp(_) => return Err(self.timed_out(ask)),
            },
        };
        let ended = self.ended(status, told);
        if let Ok(Some(outcome)) = self.outcome_of_any_age() {
            self.purge_if(outcome, ask, deadline)?;
        }
        Ok(ended)
    }

    fn ended(&self, status: u8, told: bool) -> Ended {
        let tail = |stream: Stream| {
            let tail = tail(&self.log(stream)?, LAST_LINES);
            (!tail.is_empty()).then_some((stream, tail))
        };
        let last = if status == 0 { None } else { tail(Stream::Err).or_else(|| tail(Stream::Out)) };
        let (last_stream, last_lines) = last.unwrap_or((Stream::Err, String::new()));
        Ended { status, told, last_lines, last_stream }
    }

    /// The last line of what it printed: of the log that was written to last.
    #[must_use]
    pub fn last_line(&self) -> String {
        let written = |log: &File| log.metadata().and_then(|data| data.modified()).ok();
        let logs = Stream::BOTH.into_iter().filter_map(|stream| self.log(stream));
        let filled = logs.filter(|log| log.metadata().is_ok_and(|data| data.len() > 0));
        filled.max_by_key(written).map(|log| tail(&log, 1)).unwrap_or_default()
    }

    /// Removes the task, if that is asked for, unless it was run again since, or cannot be had in time.
    fn purge_if(&self, outcome: Outcome, ask: &Ask, deadline: Option<Instant>) -> Result<(), TaskError> {
        if !ask.purge {
            return Ok(());
        }
        let mut lookout = Lookout::new(self);
        let taken = Guard::take(self, deadline, &mut || match lookout.run() {
            Some(_) => ControlFlow::Break(()),
            None => Pause::for_change(lookout.limit(None)),
        })?;
        match taken.guard() {
            Some(guard) if self.outcome_of_any_age().is_ok_and(|now| now == Some(outcome)) => guard.purge().map(drop),
            Some(guard) => guard.leave(),
            None => Ok(()),
        }
    }

    /// Tells what a run prints, from its beginning to its end.
    fn follow(
        &self,
        run: Running,
        logs: [Option<File>; 2],
        deadline: Option<Instant>,
        teller: &mut dyn Teller,
        interrupts: &os::Interrupts,
    ) -> Followed {
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut watch = os::Watch::new(self.directory());
        let mut readers = Reader::all(logs);
        // Also a write to a reader who does not read must come to an end.
        interrupts.or_after(left());
        let mut looks = LOOKS.iter();
        let mut lookout = Lookout::with(self, run);
        loop {
            // In this order: what is printed last is there when it runs no more.
            let runs = match run.holder {
                Some(_) => lookout.foreign_run().is_some(),
                None => self.look().running.is_some_and(|running| running.pid == run.pid),
            };
            // One buffer of each, so that neither a log that grows fast nor its reader keeps us from the time.
            let more = readers.each_mut().map(|reader| reader.tell(teller)).contains(&true);
            if interrupts.came() {
                return Followed::Interrupted;
            }
            if left() == Some(Duration::ZERO) {
                return Followed::TimedOut;
            }
            if more {
                looks = LOOKS.iter();
            } else if !runs {
                return Followed::Over;
            } else {
                // The end of a run is told a moment before it can be seen: so look some times more.
                let pause = looks.next().copied();
                if watch.wait([left(), pause].into_iter().flatten().min()) {
                    looks = LOOKS.iter();
                }
            }
        }
    }

    fn timed_out(&self, ask: &Ask) -> TaskError {
        TaskError::TimedOut { id: self.id.to_string(), after: ask.timeout.unwrap_or_default() }
    }

    fn interrupted(&self, pid: Option<u32>) -> TaskError {
        TaskError::Interrupted { id: self.id.to_string(), pid }
    }

    fn nothing_to_run(&self) -> TaskError {
        let unreadable = self.look_closely().err();
        unreadable.unwrap_or_else(|| TaskError::NothingToRun { id: self.id.to_string() })
    }

    /// What to run: the command that was given, to be saved, or the saved one.
    fn to_run(&self, command: &[OsString]) -> Result<Option<(Saved, bool)>, TaskError> {
        if command.is_empty() {
            return Ok(saved::to_run(self)?.map(|saved| (saved, false)));
        }
        let directory = std::env::current_dir().map_err(|source| ContextError::NoDirectory { source })?;
        Ok(Some((Saved { words: command.to_owned(), directory }, true)))
    }

    /// A task that waits for itself would wait for ever.
    fn is_not_ours(&self) -> Result<(), TaskError> {
        let Some(ours) = task_of_this_process() else { return Ok(()) };
        let token = record::read_path(&self.file(files::LOCK)).token();
        if ours == guard::mark(self, token) {
            return Err(TaskError::WaitsForItself { id: self.id.to_string() });
        }
        Ok(())
    }
}

impl Guard<'_> {
    /// The status of the last run, if it has one. One that cannot be read is not none: it would be run twice.
    fn outcome(&self) -> Result<Option<u8>, TaskError> {
        let outcome = self.task.look_closely()?.outcome.map(|outcome| outcome.status);
        Ok(outcome.or(self.missed.map(|end| end.status)))
    }
}

/// Whether there is nothing to start.
fn already(look: &Look) -> Option<Started> {
    match look.state() {
        State::Running => Some(Started::Running),
        State::Succeeded | State::Failed if !look.left => Some(Started::Finished),
        _ => None,
    }
}

/// The last lines of a file that are not empty, as far as they are in its last 4 KiB.
fn tail(log: &File, lines: usize) -> String {
    let mut bytes = [0; 4096];
    let begin = log.metadata().map_or(0, |data| data.len().saturating_sub(4096));
    let read = log.read_at(&mut bytes, begin).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let mut last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(lines).collect();
    last.reverse();
    last.join("\n")
}
