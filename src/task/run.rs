//! The start of a run: the holder of the lock forks a supervisor, hands the lock over to it, and reads the supervisor's
//! report of the start.

use super::error::TaskError;
use super::files;
use super::guard::TaskGuard;
use super::leftovers::build_run_label;
use super::saved::SavedCommand;
use super::state::RunResult;
use super::stream::Stream;
use super::supervisor::{NO_DIRECTORY, RunPurpose, STARTED, Supervisor, log_command_error};
use crate::base::command_error::CommandError;
use crate::base::environment::{FDS, TASK, TOKEN};
use crate::base::programs::find_program;
use crate::lock::max_time::TimeLimit;
use crate::lock::record::{self, Content, RecordDraft, Taker};
use crate::os::{self, Mode};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A run that this process started. The supervisor sends the result through a socket; dropping this value does not
/// disturb the run.
#[derive(Debug)]
pub(super) struct StartedRun {
    pub(super) pid: u32,
    /// The logs of this run, which stay open if they are removed or replaced.
    pub(super) logs: [Option<File>; 2],
    supervisor: UnixStream,
    limit: Option<TimeLimit>,
}

impl StartedRun {
    /// Waits for the result. Returns `Err` after the deadline or an interrupt, and `Ok(None)` if the supervisor was killed.
    pub(super) fn wait_for_result(
        &mut self,
        deadline: Option<Instant>,
        interrupts: Option<&os::Interrupts>,
    ) -> Result<Option<RunResult>, ()> {
        loop {
            if interrupts.is_some_and(os::Interrupts::came) {
                return Err(());
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(());
            }
            let _ = self.supervisor.set_read_timeout(left);
            let mut result = [0; 2];
            match self.supervisor.read(&mut result) {
                Ok(2) => {
                    let [status, is_over] = result;
                    let time_over = self.limit.map(|limit| limit.time).filter(|_| is_over == 1);
                    return Ok(Some(RunResult { status, time_over }));
                }
                Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {}
                _ => return Ok(None),
            }
        }
    }
}

impl TaskGuard<'_> {
    /// Starts the command. The lock goes to the supervisor, which releases it when the run has ended.
    pub(super) fn start_run(
        self,
        saved: &SavedCommand,
        save: bool,
        purpose: RunPurpose,
        limit: Option<TimeLimit>,
    ) -> Result<StartedRun, TaskError> {
        let task = self.task;
        if purpose != RunPurpose::Validate {
            task.remove(files::EXIT)?;
        }
        let logs = task.create_logs()?;
        let readers = Stream::BOTH.map(|stream| task.log(stream));
        if save {
            task.save_command(saved)?;
        }
        // The program is searched here, so that the starter need not wait for the result of exec in the child.
        if let Err(why) = find_program(&saved.words[0], &saved.directory) {
            let error = CommandError::new(&saved.words[0].to_string_lossy(), why);
            let status = log_command_error(&logs[1], &error);
            if purpose == RunPurpose::RunCombined {
                log_command_error(&logs[0], &error);
            }
            task.link_log();
            self.note_key(saved);
            task.write(files::EXIT, format!("{status}\n").as_bytes())?;
            task.add_event(&format!("{} rc={status}", purpose.event(status)));
            return Err(error.into());
        }
        let run = self.start_supervisor(saved, save, (purpose, limit), logs, readers);
        if run.is_err() && purpose == RunPurpose::Validate {
            // The outcome of the last run stays in force, so its logs must stay readable.
            task.restore_logs();
        }
        run
    }

    /// Writes a record with the text from which the id was derived, for a run without a supervisor.
    fn note_key(&self, saved: &SavedCommand) {
        if self.task.key.is_none() {
            return;
        }
        let taker = Taker::new(std::process::id(), Some(&saved.to_line()));
        let draft = RecordDraft::new(taker, Mode::Exclusive, None, None).with_key(self.task.key.clone());
        let (_, text) = draft.finish(record::next_token(record::read(&self.lock).token()));
        // The text is for people.
        let _ = record::write_text(&self.lock, &self.task.file(files::LOCK), &text);
    }

    fn start_supervisor(
        self,
        saved: &SavedCommand,
        save: bool,
        (purpose, limit): (RunPurpose, Option<TimeLimit>),
        logs: [File; 2],
        readers: [Option<File>; 2],
    ) -> Result<StartedRun, TaskError> {
        let task = self.task;
        let last = record::read(&self.lock);
        let token = record::next_token(last.token());
        // A call with the id itself keeps the text.
        let key = task.key.clone().or(match last {
            Content::Record(record) => record.key,
            _ => None,
        });
        let variables = [(TASK, build_run_label(task, token))];
        let failed = |source| TaskError::Supervisor { id: task.id.to_string(), source: Some(source) };
        let command = os::PreparedCommand::new(&saved.words, &variables).map_err(failed)?.without(&[FDS, TOKEN]);
        let (mut here, there) = UnixStream::pair().map_err(failed)?;
        let supervisor =
            Supervisor { task, lock: &self.lock, token, key, saved, save, purpose, limit, command, starter: &there };
        // The caller may be part of the run of another task. Without the label of that run in TASK, the supervisor does
        // not belong to it.
        os::detached(&[TASK], || supervisor.run(logs)).map_err(failed)?;
        drop(there);
        // At the same time, the supervisor starts the command. This process still holds the lock, too, so no other process removes the
        // task before the link is there.
        task.link_log();
        drop(self.lock);

        let mut report = [0; 5];
        let killed = |_| TaskError::Supervisor { id: task.id.to_string(), source: None };
        here.read_exact(&mut report).map_err(killed)?;
        let number = i32::from_ne_bytes([report[1], report[2], report[3], report[4]]);
        let reason = io::Error::from_raw_os_error(number);
        match report[0] {
            STARTED => Ok(StartedRun { pid: number.cast_unsigned(), logs: readers, supervisor: here, limit }),
            NO_DIRECTORY => {
                let command = format!("{} in {}", saved.words[0].to_string_lossy(), saved.directory.display());
                Err(CommandError::Failed { command, source: reason }.into())
            }
            _ => Err(TaskError::Unusable { path: task.directory().to_owned(), source: reason }),
        }
    }
}
