//! Running a task: the supervisor, which has the lock, is the parent of the command, and writes its outcome.

use super::guard::{self, End, Guard};
use super::saved::Saved;
use super::state::{State, Task};
use super::wait::Stream;
use super::{files, saved};
use crate::base::environment::{FDS, TASK, TOKEN};
use crate::base::error::CommandError;
use crate::base::programs::find_program;
use crate::base::text::format_io_error;
use crate::lock::record::{self, RecordDraft, Taker};
use crate::os::proc::process::{self, InitialVariable, ProcessStat};
use crate::os::{self, Mode, leads_to, replace};
use crate::task::error::TaskError;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// Why it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To have an outcome.
    Run,
    /// The same, with both streams in the log of stdout.
    RunCombined,
    /// To see whether the outcome, which stands meanwhile, still holds.
    Validate,
}

impl Purpose {
    /// What the history calls its end.
    fn event(self, status: u8) -> &'static str {
        match self {
            Self::Validate => "VALIDATE",
            _ if State::of(status) == State::Interrupted => "SIGNAL",
            _ => "COMPLETE",
        }
    }
}

/// Says in the log why a command did not run. The status that stands for that.
fn not_run(log: &File, error: &CommandError) -> u8 {
    let mut log = log;
    let _ = writeln!(log, "aba-lock: {error}");
    if matches!(error, CommandError::NotFound { .. }) { 127 } else { 126 }
}

/// A run that we started. Its supervisor tells us how it ends; that we do not ask does not disturb it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pid: u32,
    /// What it prints: its own logs, also where others remove or replace them.
    pub(super) logs: [Option<File>; 2],
    supervisor: UnixStream,
}

impl Run {
    /// Waits for the end, not longer than until the deadline or an interrupt. `Err`: that came. `Ok(None)`: the supervisor
    /// was killed.
    pub(super) fn status(
        &mut self,
        deadline: Option<Instant>,
        interrupts: Option<&os::Interrupts>,
    ) -> Result<Option<u8>, ()> {
        loop {
            if interrupts.is_some_and(os::Interrupts::came) {
                return Err(());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(());
            }
            let _ = self.supervisor.set_read_timeout(left);
            let mut status = [0];
            match self.supervisor.read(&mut status) {
                Ok(1) => return Ok(Some(status[0])),
                Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {}
                _ => return Ok(None),
            }
        }
    }
}

/// What the supervisor says of the start: one byte, and a number.
const STARTED: u8 = 0;
const NO_DIRECTORY: u8 = 1;
const NO_STATE: u8 = 2;

impl Guard<'_> {
    /// Runs the command. The lock goes to the supervisor, and is let go when that ends.
    pub(super) fn run(self, saved: &Saved, save: bool, purpose: Purpose) -> Result<Run, TaskError> {
        let task = self.task;
        if purpose != Purpose::Validate {
            task.remove(files::EXIT)?;
        }
        let logs = task.new_logs()?;
        let read = Stream::BOTH.map(|stream| task.log(stream));
        if save {
            saved::write(task, saved)?;
        }
        // Asked before, so that who starts it need not wait until the command has taken the place of our child.
        if let Err(why) = find_program(&saved.words[0], &saved.directory) {
            let error = CommandError::new(&saved.words[0].to_string_lossy(), why);
            let status = not_run(&logs[1], &error);
            if purpose == Purpose::RunCombined {
                not_run(&logs[0], &error);
            }
            task.write(files::EXIT, format!("{status}\n").as_bytes())?;
            task.note(&format!("{} rc={status}", purpose.event(status)));
            return Err(error.into());
        }
        let run = self.supervise(saved, save, purpose, logs, read);
        if run.is_err() && purpose == Purpose::Validate {
            // What it was that stands is still to be read.
            task.take_logs_back();
        }
        run
    }

    fn supervise(
        self,
        saved: &Saved,
        save: bool,
        purpose: Purpose,
        logs: [File; 2],
        read: [Option<File>; 2],
    ) -> Result<Run, TaskError> {
        let task = self.task;
        let token = record::next_token(record::read(&self.lock).token());
        let variables = [(TASK, guard::mark(task, token))];
        let failed = |source| TaskError::Supervisor { id: task.id.to_string(), source: Some(source) };
        let command = os::Command::new(&saved.words, &variables).map_err(failed)?.without(&[FDS, TOKEN]);
        let (mut here, there) = UnixStream::pair().map_err(failed)?;
        let supervisor = Supervisor { task, lock: &self.lock, token, saved, save, purpose, command, starter: &there };
        // It does not belong to the run of which our caller may be a part.
        os::detached(&[TASK], || supervisor.run(logs)).map_err(failed)?;
        drop(there);
        drop(self.lock);

        let mut said = [0; 5];
        let killed = |_| TaskError::Supervisor { id: task.id.to_string(), source: None };
        here.read_exact(&mut said).map_err(killed)?;
        let number = i32::from_ne_bytes([said[1], said[2], said[3], said[4]]);
        let reason = io::Error::from_raw_os_error(number);
        match said[0] {
            STARTED => Ok(Run { pid: number.cast_unsigned(), logs: read, supervisor: here }),
            NO_DIRECTORY => {
                let command = format!("{} in {}", saved.words[0].to_string_lossy(), saved.directory.display());
                Err(CommandError::Failed { command, source: reason }.into())
            }
            _ => Err(TaskError::Unusable { path: task.directory().to_owned(), source: reason }),
        }
    }
}

/// How long the process that copies stderr may take for what is in its pipe when the command has ended.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1);

/// How long what is left of an interrupted run has to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// The same where `/proc` does not show what is left.
const BLIND_GRACE: Duration = Duration::from_millis(200);

/// Ends what a command left in its session. Its own process must not be reaped yet: so the number is still the session's.
/// `None`: `/proc` does not show us and the command.
fn end_session(leader: u32, mark: &str) -> Option<bool> {
    let started = Instant::now();
    let mut asked: Vec<ProcessStat> = Vec::new();
    let (ours, leader) = (process::own_number()?, process::number_of(leader)?);
    loop {
        let left = left_of((ours, leader), mark, &process::read_all_stats());
        if left.is_empty() || started.elapsed() > GRACE * 2 {
            return Some(true);
        }
        let force = started.elapsed() > GRACE;
        for seen in left {
            if force {
                guard::send(&seen, libc::SIGKILL);
            } else if !asked.contains(&seen) {
                guard::send(&seen, libc::SIGTERM);
                asked.push(seen);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The session of the command, and the other processes that came from it: those whose parents have ended are our children. All
/// numbers are those of `/proc`. But not the
/// tasks that it started, which are for themselves: their supervisors have blanked the mark, and their commands have
/// another.
fn left_of((ours, leader): (u32, u32), mark: &str, all: &[ProcessStat]) -> Vec<ProcessStat> {
    let is_task = |seen: &ProcessStat| matches!(process::initial_variable(seen.pid, TASK), InitialVariable::Value(other) if other != mark);
    let mut left: Vec<ProcessStat> =
        all.iter().filter(|seen| seen.session == leader && seen.pid != leader).copied().collect();
    let mut parents: Vec<u32> = left.iter().map(|seen| seen.pid).chain([ours, leader]).collect();
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|seen| seen.parent == parent && seen.pid != leader);
        for seen in children.copied().collect::<Vec<_>>() {
            if !left.iter().any(|other| other.pid == seen.pid) && !is_task(&seen) {
                left.push(seen);
                parents.push(seen.pid);
            }
        }
    }
    left
}

/// All that it needs. It owns nothing of the caller's.
struct Supervisor<'s> {
    task: &'s Task<'s>,
    lock: &'s File,
    token: u64,
    saved: &'s Saved,
    /// Whether it is to be saved.
    save: bool,
    purpose: Purpose,
    command: os::Command,
    starter: &'s UnixStream,
}

impl Supervisor<'_> {
    fn run(&self, logs: [File; 2]) {
        let started = Instant::now();
        let [out, err] = logs;
        let [lock, out_fd, err_fd] = [self.lock, &out, &err].map(AsRawFd::as_raw_fd);
        os::close_inherited_except(&[lock, out_fd, err_fd, self.starter.as_raw_fd()]);
        os::adopt_orphans();
        if let Err(error) = std::env::set_current_dir(&self.saved.directory) {
            let what = format!("could not enter {}", self.saved.directory.display());
            self.cannot_start(&err, &what, &error, NO_DIRECTORY, 126);
            return;
        }
        let (copier, err) = match self.copier(&out, err) {
            Ok(started) => started,
            Err(error) => return self.tell(NO_STATE, error.raw_os_error().unwrap_or(0)),
        };
        let child = os::redirect_output(&out, &err).and_then(|()| self.command.fork_session());
        os::quiet_stdio();
        let _ = std::env::set_current_dir("/");
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return self.tell(NO_STATE, error.raw_os_error().unwrap_or(0)),
        };
        // Before it runs: what cannot be found again must not be started.
        let pid = match self.say_who(child.pid()) {
            Ok(pid) => pid,
            Err(error) => return self.tell(NO_STATE, error.raw_os_error().unwrap_or(0)),
        };
        let _ = child.go();
        self.tell(STARTED, child.pid().cast_signed());
        // For people: who starts it does not wait until it is on disk.
        if self.purpose != Purpose::Validate {
            self.task.note(&format!("STARTED pid={}", child.pid()));
        }
        if self.save {
            saved::write_texts(self.task, self.saved);
        }
        let begun = child.start();
        let not_begun =
            begun.err().map(|why| not_run(&err, &CommandError::new(&self.saved.words[0].to_string_lossy(), why)));
        drop((out, err));
        let status = not_begun.unwrap_or_else(|| u8::try_from(child.wait()).unwrap_or(u8::MAX));
        if let Some(copier) = copier {
            copier.catch_up(CAUGHT_UP_WITHIN);
        }
        let mut complete = self.write_end(status, started.elapsed());
        if State::of(status) == State::Interrupted {
            // It will be run again: not beside what is left of it.
            let mark = guard::mark(self.task, self.token);
            let is_alone = end_session(child.pid(), &mark).unwrap_or_else(|| child.end_group(BLIND_GRACE));
            // Otherwise the next starter looks for what is left, or refuses to run it again.
            complete &= is_alone;
        }
        self.let_go(complete);
        drop(pid);
        let _ = (&mut &*self.starter).write_all(&[status]);
    }

    /// The descriptor that gets stderr: the log, or a pipe to a process that writes to both logs.
    fn copier(&self, out: &File, err: File) -> io::Result<(Option<os::Copier>, File)> {
        if self.purpose != Purpose::RunCombined {
            return Ok((None, err));
        }
        os::Copier::start([&err, out]).map(|(copier, pipe)| (Some(copier), pipe))
    }

    /// Writes down which process is the task's, before that becomes the command.
    fn say_who(&self, pid: u32) -> io::Result<File> {
        let taker = Taker::new(pid, Some(&self.saved.line()));
        let (_, text) = RecordDraft::new(taker, Mode::Exclusive, None, None).finish(self.token);
        record::write_text(self.lock, &self.task.file(files::LOCK), &text)?;
        replace::replace_with_locked_file(&self.task.file(files::PID), format!("{pid}\n").as_bytes(), 0o644)
    }

    fn cannot_start(&self, err: &File, what: &str, error: &io::Error, tag: u8, status: u8) {
        let mut err = err;
        let _ = writeln!(err, "aba-lock: {what}: {}", format_io_error(error));
        self.write_end(status, Duration::ZERO);
        self.tell(tag, error.raw_os_error().unwrap_or(0));
    }

    /// The end: first noted where there is room also on a full disk, then for all to see. `false`: it was only noted.
    fn write_end(&self, status: u8, took: Duration) -> bool {
        let task = self.task;
        // Also in a lock file that was removed: waiters that have it open read the status from it.
        let noted = guard::note_end(self.lock, End { status, took });
        if !leads_to(&task.file(files::LOCK), self.lock) {
            // The directory was removed: the files that are there now belong to another run.
            return false;
        }
        let written = task.write(files::EXIT, format!("{status}\n").as_bytes());
        task.note(&format!("{} rc={status}", self.purpose.event(status)));
        written.is_ok() || noted.is_err()
    }

    /// The run is over. As long as there is a `pid`, the next one completes what could not be written.
    fn let_go(&self, complete: bool) {
        // (Nor is `pid`, then.)
        if complete {
            let _ = self.task.remove(files::PID);
        }
    }

    fn tell(&self, tag: u8, number: i32) {
        let mut said = vec![tag];
        said.extend(number.to_ne_bytes());
        let _ = (&mut &*self.starter).write_all(&said);
    }
}
