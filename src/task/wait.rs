//! Starting a task, and waiting for it.

use super::guard::{self, Guard};
use super::run::{Purpose, Run};
use super::{Look, Outcome, Running, Saved, State, Task, files, saved};
use crate::error::Error;
use crate::{record, store, sys};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a start waits for another that has the lock and does not run the task yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How long a validation may take before we say that we wait.
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
    /// Whether to run the saved command again where a success is found that was there before.
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
    /// The command printed this.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
}

impl Task<'_> {
    /// Starts it, unless it runs or has finished. Returns when it has been started, in the background.
    ///
    /// [`Error::CommandNotFound`] and the like are outcomes, too: the task has failed then.
    pub fn start(&self, command: &[OsString]) -> Result<Started, Error> {
        if let Some(already) = already(&self.look()) {
            return Ok(already);
        }
        // Before anything is made.
        if self.to_run(command)?.is_none() {
            return Err(Error::NothingToRun { id: self.id.to_string() });
        }
        let (begin, mut seen) = (Instant::now(), None);
        let guard = Guard::take(self, None, &mut || {
            seen = already(&self.look());
            let wait = seen.is_none() && begin.elapsed() < PATIENCE;
            if wait { ControlFlow::Continue(Some(LOOK_AGAIN)) } else { ControlFlow::Break(()) }
        })?;
        let Some(guard) = guard else {
            return seen.ok_or(Error::TaskBusy { id: self.id.to_string(), path: self.file(files::LOCK) });
        };
        // Once more, under the lock: it may have been run between the look and the lock.
        if guard.outcome().is_some_and(|status| State::of(status).has_finished()) {
            return Ok(Started::Finished);
        }
        let Some((saved, save)) = self.to_run(command)? else {
            guard.leave()?;
            return Err(Error::NothingToRun { id: self.id.to_string() });
        };
        guard.run(&saved, save, Purpose::Run)?;
        Ok(Started::Now)
    }

    /// Waits until it has finished; runs it if it was never run, or was interrupted.
    pub fn wait(&self, ask: &Ask, teller: &mut dyn Teller) -> Result<Ended, Error> {
        let deadline = ask.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let first = self.look();
        if let Some(outcome) = first.finished()
            && first.running.is_none()
            && !first.left
            && !(ask.validate && outcome.state() == State::Succeeded)
        {
            let ended = self.ended(outcome.status, false);
            if ask.purge {
                self.purge_if(outcome)?;
            }
            return Ok(ended);
        }
        if first.running.is_some() {
            self.is_not_ours()?;
        } else if first.outcome.is_none() && self.to_run(ask.command)?.is_none() {
            return Err(Error::NothingToRun { id: self.id.to_string() });
        }
        let (guard, told) = self.join(ask, deadline, teller)?;
        let ended = match guard.outcome() {
            Some(0) if ask.validate && self.look().outcome == first.outcome => match saved::to_run(self)? {
                Some(saved) => return self.validate(guard, &saved, ask, deadline, teller),
                None => self.ended(0, told),
            },
            Some(status) if State::of(status).has_finished() => self.ended(status, told),
            interrupted => match (self.to_run(ask.command)?, interrupted) {
                (Some((saved, save)), _) => {
                    let run = guard.run(&saved, save, Purpose::Run)?;
                    return self.stream(run, ask, deadline, teller);
                }
                (None, Some(status)) => self.ended(status, told),
                (None, None) => {
                    guard.leave()?;
                    return Err(Error::NothingToRun { id: self.id.to_string() });
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

    /// Waits until nobody else has the lock. Whether what the run printed was told meanwhile.
    fn join(&self, ask: &Ask, deadline: Option<Instant>, teller: &mut dyn Teller) -> Result<(Guard<'_>, bool), Error> {
        let mut told = false;
        let mut begun = false;
        loop {
            let follow = ask.follow && !told;
            let guard = Guard::take(self, deadline, &mut || {
                let Some(running) = self.look().running else { return ControlFlow::Continue(Some(LOOK_AGAIN)) };
                if follow {
                    return ControlFlow::Break(());
                }
                if begun {
                    teller.tick(self, running);
                } else {
                    teller.begins(self, running);
                }
                begun = true;
                ControlFlow::Continue(teller.interval())
            });
            if begun {
                teller.ends();
            }
            if let Some(guard) = guard? {
                return Ok((guard, told));
            }
            told = follow && self.follow(deadline, teller, &mut || ControlFlow::Continue(()));
            if !told {
                return Err(self.timed_out(ask));
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
    ) -> Result<Ended, Error> {
        let interrupts = sys::Interrupts::notice();
        let mut heard = || if interrupts.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let over = self.follow(deadline, teller, &mut heard);
        if interrupts.came() {
            return Err(Error::Interrupted { id: self.id.to_string(), pid: run.pid });
        }
        drop(interrupts);
        if !over {
            return Err(self.timed_out(ask));
        }
        let status = run.status(deadline).map_err(|()| self.timed_out(ask))?;
        self.own_end(status, ask, true)
    }

    fn validate(
        &self,
        guard: Guard,
        saved: &Saved,
        ask: &Ask,
        deadline: Option<Instant>,
        teller: &mut dyn Teller,
    ) -> Result<Ended, Error> {
        let mut run = guard.run(saved, false, Purpose::Validate)?;
        let running = Running { pid: run.pid, since: std::time::SystemTime::now() };
        let mut silent = Some(SILENT);
        loop {
            let interval = silent.or(teller.interval()).and_then(|interval| Instant::now().checked_add(interval));
            match run.status([deadline, interval].into_iter().flatten().min()) {
                Ok(status) => {
                    if silent.is_none() {
                        teller.ends();
                    }
                    return self.own_end(status, ask, false);
                }
                Err(()) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    if silent.is_none() {
                        teller.ends();
                    }
                    return Err(self.timed_out(ask));
                }
                Err(()) if silent.take().is_some() => teller.begins(self, running),
                Err(()) => teller.tick(self, running),
            }
        }
    }

    /// The end of a run of our own. `None`: its supervisor was killed.
    fn own_end(&self, status: Option<u8>, ask: &Ask, told: bool) -> Result<Ended, Error> {
        let status = match status {
            Some(status) => status,
            None => match Guard::take(self, None, &mut || ControlFlow::Continue(None))? {
                // It has been brought to its end now.
                Some(guard) => guard.outcome().unwrap_or(137),
                None => 137,
            },
        };
        let ended = self.ended(status, told);
        if ask.purge
            && let Some(outcome) = self.look().outcome
        {
            self.purge_if(outcome)?;
        }
        Ok(ended)
    }

    fn ended(&self, status: u8, told: bool) -> Ended {
        let tail = |stream| self.log(stream).map(|log| tail(&log, LAST_LINES)).filter(|tail| !tail.is_empty());
        let last_lines = if status == 0 { None } else { tail(Stream::Err).or_else(|| tail(Stream::Out)) };
        Ended { status, told, last_lines: last_lines.unwrap_or_default() }
    }

    /// The last line of what it printed: of the log that was written to last.
    #[must_use]
    pub fn last_line(&self) -> String {
        let written = |log: &File| log.metadata().and_then(|data| data.modified()).ok();
        let logs = Stream::BOTH.into_iter().filter_map(|stream| self.log(stream));
        let filled = logs.filter(|log| log.metadata().is_ok_and(|data| data.len() > 0));
        filled.max_by_key(written).map(|log| tail(&log, 1)).unwrap_or_default()
    }

    /// Removes the task, unless it was run again since.
    fn purge_if(&self, outcome: Outcome) -> Result<(), Error> {
        let guard = Guard::take(self, None, &mut || {
            if self.look().running.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(Some(LOOK_AGAIN)) }
        })?;
        match guard {
            Some(guard) if self.look().outcome == Some(outcome) => guard.purge().map(drop),
            Some(guard) => guard.leave(),
            None => Ok(()),
        }
    }

    /// Tells what the run prints, from its beginning to its end. `false`: the deadline passed before that, or `heard`
    /// would not go on.
    fn follow(
        &self,
        deadline: Option<Instant>,
        teller: &mut dyn Teller,
        heard: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> bool {
        let mut watch = sys::Watch::new(self.directory());
        let run = self.look().running.map(|running| running.pid);
        let mut logs = Stream::BOTH.map(|stream| (stream, self.log(stream)));
        loop {
            // In this order: what is printed last is there when it runs no more.
            let runs = self.look().running.map(|running| running.pid);
            for (stream, log) in &mut logs {
                if let Some(log) = log {
                    copy(log, *stream, teller);
                }
            }
            if runs.is_none() || runs != run {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) || heard().is_break() {
                return false;
            }
            watch.wait(left);
        }
    }

    fn timed_out(&self, ask: &Ask) -> Error {
        Error::TaskTimedOut { id: self.id.to_string(), after: ask.timeout.unwrap_or_default() }
    }

    /// What to run: the command that was given, to be saved, or the saved one.
    fn to_run(&self, command: &[OsString]) -> Result<Option<(Saved, bool)>, Error> {
        if command.is_empty() {
            return Ok(saved::to_run(self)?.map(|saved| (saved, false)));
        }
        let directory = std::env::current_dir();
        let directory = directory.map_err(|source| Error::Task { path: ".".into(), source })?;
        Ok(Some((Saved { words: command.to_owned(), directory }, true)))
    }

    /// A task that waits for itself would wait for ever.
    fn is_not_ours(&self) -> Result<(), Error> {
        let Some(ours) = store::task_of_this_process() else { return Ok(()) };
        let token = record::read_path(&self.file(files::LOCK)).token();
        if ours == guard::mark(self, token) {
            return Err(Error::WaitsForItself { id: self.id.to_string() });
        }
        Ok(())
    }
}

impl Guard<'_> {
    /// The status of the last run, if it is known.
    fn outcome(&self) -> Option<u8> {
        let outcome = self.task.look().outcome.map(|outcome| outcome.status);
        outcome.or(self.missed.map(|end| end.status))
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

/// Tells what was added to a log.
fn copy(log: &mut File, stream: Stream, teller: &mut dyn Teller) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(len) = log.read(&mut bytes) {
        if len == 0 {
            break;
        }
        teller.output(stream, &bytes[..len]);
    }
}
