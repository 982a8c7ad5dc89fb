//! The supervisor: the process that holds the lock of a task during a run, is the parent of the command, and writes the outcome.
//!
//! `run` forks it, detached from the caller. In `crate::task`, a table lists what happens if it is killed. One run goes like
//! this:
//!
//! 1. The supervisor closes everything that it inherited, enters the directory, and forks the command, which waits.
//! 2. It writes the holder record and `pid`, lets the command run, and reports the start to its starter.
//! 3. It waits for the command, and ends the processes of the run if there is a maximum time (`--max-time`) that is over.
//!    It notes the end in the lock file, and writes `exit`.
//! 4. If a signal killed the command, it ends the processes that the command left, because the task may run again.
//! 5. It removes `pid` and sends the result to the starter. Its own end releases the lock.

use super::directory::Task;
use super::files;
use super::leftovers::{build_run_label, signal_all, signal_process};
use super::run_end::RunEnd;
use super::saved::SavedCommand;
use super::state::{RunResult, is_signal};
use crate::base::command_error::CommandError;
use crate::base::duration::format_limit;
use crate::base::environment::TASK;
use crate::base::text::format_io_error;
use crate::lock::events::{self, LockEvent, ReleaseCause};
use crate::lock::max_time::TimeLimit;
use crate::lock::record::{self, RecordDraft, Taker};
use crate::os::proc::process::{self, InitialVariable, ProcessStat};
use crate::os::{self, Mode, leads_to, replace};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for the process that copies stderr to empty its pipe after the command has ended.
const COPY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between SIGTERM and SIGKILL for the processes that an interrupted run left.
const GRACE: Duration = Duration::from_secs(2);

/// Time between SIGTERM and SIGKILL if `/proc` does not show these processes.
const BLIND_GRACE: Duration = Duration::from_millis(200);

/// The first byte of the report to the starter. A number follows: the pid of the command, or the error of the system.
pub(super) const STARTED: u8 = 0;
pub(super) const NO_DIRECTORY: u8 = 1;
pub(super) const NO_STATE: u8 = 2;

/// The purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunPurpose {
    /// The run produces the outcome.
    Run,
    /// The run produces the outcome, and stderr also goes to the log of stdout.
    RunCombined,
    /// The run checks whether the earlier outcome still holds. That outcome stays in force during the run.
    Validate,
}

impl RunPurpose {
    /// Returns the name of the end of the run in the history.
    pub(super) fn event(self, status: u8) -> &'static str {
        match self {
            Self::Validate => "VALIDATE",
            _ if is_signal(status) => "SIGNAL",
            _ => "COMPLETE",
        }
    }
}

/// Writes a line to a log, or to the pipe of the process that copies stderr, if that is possible without waiting.
fn write_log(log: &File, line: &str) {
    if os::can_be_written(log.as_raw_fd(), Duration::ZERO) {
        let _ = os::write_once(log, format!("{line}\n").as_bytes());
    }
}

/// Writes the error of a command that could not be run to the log. Returns the exit status for this error.
pub(super) fn log_command_error(log: &File, error: &CommandError) -> u8 {
    write_log(log, &format!("aba-lock: {error}"));
    if matches!(error, CommandError::NotFound { .. }) { 127 } else { 126 }
}

/// The data that the supervisor gets from its starter.
pub(super) struct Supervisor<'s> {
    pub(super) task: &'s Task<'s>,
    pub(super) lock: &'s File,
    pub(super) token: u64,
    /// The text from which the id was derived.
    pub(super) key: Option<String>,
    pub(super) saved: &'s SavedCommand,
    /// True if the command is new, so that its readable form must be written.
    pub(super) save: bool,
    pub(super) purpose: RunPurpose,
    /// The maximum time of the run.
    pub(super) limit: Option<TimeLimit>,
    pub(super) command: os::PreparedCommand,
    pub(super) starter: &'s UnixStream,
}

impl Supervisor<'_> {
    /// Runs the command from start to end, with these logs for stdout and stderr.
    pub(super) fn run(&self, logs: [File; 2]) {
        let started = Instant::now();
        let [out, err] = logs;
        let [lock, out_fd, err_fd] = [self.lock, &out, &err].map(AsRawFd::as_raw_fd);
        os::close_inherited_except(&[lock, out_fd, err_fd, self.starter.as_raw_fd()]);
        os::adopt_orphans();
        if let Err(error) = std::env::set_current_dir(&self.saved.directory) {
            self.report_no_directory(&err, &error);
            return;
        }
        let (copier, err) = match self.start_copier(&out, err) {
            Ok(started) => started,
            Err(error) => return self.report(NO_STATE, error.raw_os_error().unwrap_or(0)),
        };
        let child = os::redirect_output(&out, &err).and_then(|()| self.command.fork_session());
        os::quiet_stdio();
        let _ = std::env::set_current_dir("/");
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return self.report(NO_STATE, error.raw_os_error().unwrap_or(0)),
        };
        // The record is written before the command runs, because a run that could not be found again must not begin.
        let pid = match self.write_record(child.pid()) {
            Ok(pid) => pid,
            Err(error) => return self.report(NO_STATE, error.raw_os_error().unwrap_or(0)),
        };
        let _ = child.go();
        self.report(STARTED, child.pid().cast_signed());
        // These files are for people, so the starter does not wait for them.
        if self.purpose != RunPurpose::Validate {
            self.task.add_event(&format!("STARTED pid={}", child.pid()));
            let event =
                LockEvent::Acquired { waited: Duration::ZERO, mode: Mode::Exclusive, slot: None, token: self.token };
            self.log(&event, child.pid());
        }
        if self.save {
            self.task.save_readable_command(self.saved);
        }
        let begun = child.start();
        let start_error = begun
            .err()
            .map(|why| log_command_error(&err, &CommandError::new(&self.saved.words[0].to_string_lossy(), why)));
        drop(out);
        // Without a limit, the log or pipe is closed now, so that only the command has it open.
        let err = self.limit.map(|_| err);
        let (result, ending) = start_error.map_or_else(
            || self.wait_for_command(&mut child, err.as_ref(), started),
            |status| (RunResult { status, time_over: None }, None),
        );
        drop(err);
        if let Some(copier) = copier {
            copier.catch_up(COPY_TIMEOUT);
        }
        let mut is_complete = self.write_end(result, started.elapsed());
        if self.purpose != RunPurpose::Validate {
            let cause = Some(ReleaseCause::Exit(result.status.into()));
            self.log(&LockEvent::Released { held: Some(started.elapsed()), cause }, child.pid());
        }
        if result.may_leave_processes() {
            // The task may run again, and then no process of this run may be left.
            let label = build_run_label(self.task, self.token);
            let ending = ending.unwrap_or_else(|| RunEnding::new(GRACE));
            let is_alone = end_session(child.pid(), &label, ending).unwrap_or_else(|| child.end_group(BLIND_GRACE));
            // A process may outlive SIGKILL: it waits for a disk, or belongs to another user. Without `pid`, the next run
            // would begin next to it:
            //
            // 1. The supervisor gives up, removes `pid`, and ends. That releases the lock.
            // 2. A waiter gets the lock. It finds an interrupted run that is complete, and starts the task again.
            //
            // With `pid`, the waiter searches and kills the processes in step 2, and if one is still left, its call fails
            // and names that process.
            is_complete &= is_alone;
        }
        // As long as `pid` exists, the next holder of the lock completes what this process could not write.
        if is_complete {
            let _ = self.task.remove(files::PID);
        }
        drop(pid);
        let _ = (&mut &*self.starter).write_all(&[result.status, result.time_over.is_some().into()]);
    }

    /// Waits for the command. If the maximum time is over before, begins to end the processes of the run, and waits for the command.
    fn wait_for_command(
        &self,
        child: &mut os::Child,
        err: Option<&File>,
        started: Instant,
    ) -> (RunResult, Option<RunEnding>) {
        let result = |status: i32, time_over| RunResult { status: u8::try_from(status).unwrap_or(u8::MAX), time_over };
        let deadline = self.limit.and_then(|limit| Some((limit, started.checked_add(limit.time)?)));
        let Some((limit, deadline)) = deadline else { return (result(child.wait(), None), None) };
        if let Some(status) = child.wait_until(deadline) {
            return (result(status, None), None);
        }
        let time = format_limit(limit.time);
        if let Some(err) = err {
            let (id, signals) = (&self.task.id, limit.describe_signals());
            write_log(err, &format!("aba-lock: task {id}: ran for the maximum time of {time}: {signals}"));
        }
        self.task.add_event(&format!("MAX_TIME {time}"));
        self.log(&LockEvent::Expired { held: started.elapsed(), limit: limit.time }, child.pid());
        let label = build_run_label(self.task, self.token);
        let mut ending = RunEnding::new(limit.grace);
        // Without a time in between, SIGKILL would come before a process can act on SIGTERM.
        let status = if limit.grace.is_zero() {
            None
        } else {
            let before = os::SignalTime::now();
            for asked in signal_run(child.pid(), &label, libc::SIGTERM) {
                ending.asked.add(&asked, before);
            }
            // A stopped process acts on the signal only after SIGCONT.
            signal_run(child.pid(), &label, libc::SIGCONT);
            match ending.kill_at {
                Some(kill_at) => child.wait_until(kill_at),
                None => Some(child.wait()),
            }
        };
        let status = status.unwrap_or_else(|| {
            signal_run(child.pid(), &label, libc::SIGKILL);
            child.wait()
        });
        (result(status, Some(limit.time)), Some(ending))
    }

    /// Returns the descriptor for stderr: the log, or for a combined log a pipe to a process that writes to both logs,
    /// and this process.
    fn start_copier(&self, out: &File, err: File) -> io::Result<(Option<os::Copier>, File)> {
        if self.purpose != RunPurpose::RunCombined {
            return Ok((None, err));
        }
        os::Copier::start([&err, out]).map(|(copier, pipe)| (Some(copier), pipe))
    }

    /// Writes the holder record and `pid` for the process that will become the command. Returns `pid`, which is locked.
    fn write_record(&self, pid: u32) -> io::Result<File> {
        let taker = Taker::new(pid, Some(&self.saved.to_line()));
        let draft =
            RecordDraft::new(taker, Mode::Exclusive, None, None).with_max_time(self.limit.map(|limit| limit.time));
        let draft = if self.key.is_some() { draft.with_key(self.key.clone()) } else { draft };
        let (_, text) = draft.finish(self.token);
        record::write_text(self.lock, &self.task.file(files::LOCK), &text)?;
        replace::replace_with_locked_file(
            &self.task.file(files::PID),
            format!("{pid}\n").as_bytes(),
            os::FileAccess::with_mode(0o644),
        )
    }

    fn report_no_directory(&self, err: &File, error: &io::Error) {
        let directory = self.saved.directory.display();
        write_log(err, &format!("aba-lock: cannot enter {directory}: {}", format_io_error(error)));
        self.write_end(RunResult { status: 126, time_over: None }, Duration::ZERO);
        self.report(NO_DIRECTORY, error.raw_os_error().unwrap_or(0));
    }

    /// Notes the end in the lock file, where there is room even on a full disk, and then writes `exit`. Returns false
    /// if `pid` must stay: because the end was only noted, or because the directory now belongs to another run.
    fn write_end(&self, result: RunResult, took: Duration) -> bool {
        let (task, status) = (self.task, result.status);
        // The end is noted even if the lock file was removed: waiters that have it open read the status from it.
        let noted = RunEnd { result, took }.append_to(self.lock);
        if !leads_to(&task.file(files::LOCK), self.lock) {
            // The directory was removed. The files that are there now belong to another run, and so does `pid`.
            return false;
        }
        let written = task.write(files::EXIT, format!("{status}\n").as_bytes());
        task.add_event(&format!("{} rc={status}", self.purpose.event(status)));
        written.is_ok() || noted.is_err()
    }

    /// Writes an event to the event log, if there is one.
    fn log(&self, event: &LockEvent, pid: u32) {
        let (task, key) = (self.task, self.key.as_deref());
        let command = self.saved.to_line();
        events::log_task_event(
            event,
            (task.id.as_str(), key),
            &task.file(files::LOCK),
            task.state_root(),
            (pid, &command),
        );
    }

    fn report(&self, tag: u8, number: i32) {
        let mut report = vec![tag];
        report.extend(number.to_ne_bytes());
        let _ = (&mut &*self.starter).write_all(&report);
    }
}

/// The processes of a run that must end.
struct RunEnding {
    /// The processes that have got SIGTERM.
    asked: os::AskedProcesses,
    /// The time of SIGKILL. `None`: never.
    kill_at: Option<Instant>,
}

impl RunEnding {
    fn new(grace: Duration) -> Self {
        Self { asked: os::AskedProcesses::default(), kill_at: Instant::now().checked_add(grace) }
    }
}

/// Sends a signal to a command that runs, to its session, and to its other descendants. Returns these processes, if `/proc` shows
/// them.
fn signal_run(leader: u32, label: &str, signal: i32) -> Vec<ProcessStat> {
    let (Some(ours), Some(number)) = (process::own_number(), process::number_of(leader)) else {
        os::signal_group(leader.cast_signed(), signal);
        return Vec::new();
    };
    // The command may start its cleanup as soon as it has the signal.
    let found = find_remaining((ours, number), label, &process::read_all_stats());
    os::signal_child(leader.cast_signed(), signal);
    signal_all(&found, signal);
    found
}

/// Ends the processes that a command left in its session and below. The command itself must not have been reaped, so
/// that its pid still identifies the session. Returns `None` if `/proc` does not show this process and the command.
/// Otherwise returns false if a process is left [`GRACE`] after SIGKILL.
fn end_session(leader: u32, label: &str, ending: RunEnding) -> Option<bool> {
    let RunEnding { mut asked, kill_at } = ending;
    // The command may have ended only now.
    let give_up_at = kill_at.and_then(|at| at.max(Instant::now()).checked_add(GRACE));
    let has_come = |at: Option<Instant>| at.is_some_and(|at| Instant::now() > at);
    let (ours, leader) = (process::own_number()?, process::number_of(leader)?);
    loop {
        let left = find_remaining((ours, leader), label, &process::read_all_stats());
        if left.is_empty() || has_come(give_up_at) {
            return Some(left.is_empty());
        }
        let force = has_come(kill_at);
        for seen in left {
            if force {
                signal_process(&seen, libc::SIGKILL);
            } else if asked.must_ask(&seen) {
                asked.add(&seen, os::SignalTime::now());
                signal_process(&seen, libc::SIGTERM);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Finds the processes in the session of the command, and its other descendants: orphans have become children of this process.
/// All pids are those of `/proc`.
///
/// The tasks that the command started are not included, because they are independent. They are recognized by the value
/// of [`TASK`]: in their supervisors it was overwritten, and their commands have the label of another run.
fn find_remaining((ours, leader): (u32, u32), label: &str, all: &[ProcessStat]) -> Vec<ProcessStat> {
    let is_task = |seen: &ProcessStat| matches!(process::initial_variable(seen.pid, TASK), InitialVariable::Value(other) if other != label);
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
