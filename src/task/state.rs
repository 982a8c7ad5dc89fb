//! Tasks: one run of a command by id; everyone else waits for it, or reads its outcome.
//!
//! A task is a directory. Its state is never stored: it follows from what is there.
//!
//! | file | is |
//! |---|---|
//! | `lock` | locked (flock(2)) by the supervisor while the command runs, and for an instant by those who start, expire or reset; in it the holder record, and how the run ended |
//! | `pid` | the command's process, which leads its group and session; locked by the supervisor, and gone when the run has ended |
//! | `exit` | the outcome: a decimal number; when it was written is the clock of a TTL |
//! | `log.out`, `log.err`, `log` | what the command printed; `log` leads to the first. `.1`: of the run before, `.prev`: before the last reset |
//! | `cmd.sh` | the saved command with its directory |
//! | `cmd`, `cwd`, `history` | for people: the command, the directory, a line an event; written a moment after a start has returned |
//!
//! `pid` locked: **running**. Else `exit` with 0: **succeeded**; from 128 to 165, the statuses of a death by signal:
//! **interrupted**; another: **failed**. Else `pid` there: **interrupted**, with the supervisor. Else **new**.
//! Looking takes no lock that a starter could need: it asks for `pid`, which only a supervisor locks, before it gives
//! the file its name. (Were it `lock`, a starter beside would take the one who looks for one who runs.)
//!
//! A task also runs if a program other than this helper holds `lock` (`foreign.rs`). That takes a look at all processes, so
//! it is asked only by callers that find `lock` held, and by those that show what runs.
//!
//! The supervisor is this helper, forked twice, with nothing of the caller's open. Only it writes an outcome, and only
//! who holds the lock (`guard.rs`) can make one, or change anything else here.
//!
//! # The descriptors of the caller
//!
//! The process in the foreground keeps every descriptor that it inherited. It may be the last process that has the
//! descriptor of a lock: `aba-lock lock NAME -- aba-lock run-once -w ...` becomes the waiter, and that lock must be held
//! until the wait ends. So a script's lock is held during a wait as it is held during any other command of the script: if
//! the script is killed, its lock is released when the wait ends. The supervisor, and with it the command, must not keep
//! the lock of a script that has gone on or has ended. So it closes everything that it inherited, before its starter
//! returns.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | the starter, before the supervisor is there | perhaps a directory, the saved command, no `pid` | starts it |
//! | the starter, later | the supervisor, which is nobody's child | finds it running |
//! | the supervisor, before the command runs | its child finds its pipe at the end, or another parent, and ends | starts it |
//! | the supervisor, while it runs | the command is killed by its parent-death signal; its children are left, and `pid`, not locked | ends them: those that were given this run's token or print to its logs, and the session that these prove, so that a reused number harms nobody; then runs it again |
//! | the supervisor, after the end was noted in `lock` | `pid`, not locked | completes `exit` from that note |
//! | the supervisor, after `exit` | `pid`, not locked | removes it |
//! | the command, or its group | nothing: the supervisor writes 128 + n | runs it again |
//! | the process that copies stderr (`--combined-log`) | nothing: the command gets SIGPIPE when it writes to stderr | runs it again if the command ended by that |
//! | who waits | nothing | – |
//! | who resets, between two removals | a part of the files, and the lock is free | sees what follows from the rest; `lock` goes last |
//!
//! Processes are looked for in `/proc`, which may be that of another PID namespace (`unshare --pid` without
//! `--mount-proc`). Its numbers are then translated, and each process is signalled through a descriptor of its own
//! ([`crate::os::Process`]). Where `/proc` does not show us at all, the supervisor still knows when it has no descendant
//! any more, as it adopts orphans; the rest of a killed supervisor cannot be found then, and the task is not run again
//! until it can.
//!
//! A lock file that was removed (reset, purge) may still be granted to who waited for it: after every grant it is
//! compared with the path. Who waited so through the whole run reads from the removed file how that ended.

use super::saved::Saved;
use super::wait::Stream;
use super::{files, foreign, guard, saved};
use crate::base::names::TaskId;
use crate::lock::clean::CLOCK_TOLERANCE;
use crate::lock::record::{self, Content};
use crate::os::proc::process;
use crate::os::{self, Mode};
use crate::store::TaskRoot;
use crate::task::error::TaskError;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The most that a failure is kept for where a TTL is given.
pub const FAILURE_TTL: Duration = Duration::from_secs(30);

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Never started, or forgotten.
    New,
    /// It runs.
    Running,
    /// It ended with 0.
    Succeeded,
    /// It ended with another status.
    Failed,
    /// It was ended by a signal, or its supervisor was: the next start or wait runs it again.
    Interrupted,
}

impl State {
    /// The state that follows from an exit status.
    #[must_use]
    pub fn of(status: u8) -> Self {
        match status {
            0 => Self::Succeeded,
            // What a death by signal looks like, also where a shell passes it on.
            128..=165 => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether it has an outcome that stands.
    #[must_use]
    pub fn has_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The exit status, 128 + n for signal n.
    pub status: u8,
    /// When.
    pub at: SystemTime,
    /// Each is a new file: which tells two runs apart.
    pub(super) file: u64,
}

impl Outcome {
    /// The state that follows from it.
    #[must_use]
    pub fn state(&self) -> State {
        State::of(self.status)
    }
}

/// A run that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The command's process.
    pub pid: u32,
    /// Since when.
    pub since: SystemTime,
    /// A process that holds `lock`, if the run is not ours ([`Task::foreign_run`]).
    pub(super) holder: Option<u32>,
}

/// What can be seen of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The run that goes on. With an outcome beside it: that of an earlier run, which is being validated.
    pub running: Option<Running>,
    /// The outcome of the last run.
    pub outcome: Option<Outcome>,
    /// Whether a supervisor left its `pid` behind.
    pub(super) left: bool,
}

impl Look {
    /// The state that follows from it.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self { running: Some(_), .. } => State::Running,
            Self { outcome: Some(outcome), .. } => outcome.state(),
            Self { left: true, .. } => State::Interrupted,
            _ => State::New,
        }
    }

    /// The outcome that stands, also while it is being validated.
    #[must_use]
    pub fn finished(&self) -> Option<Outcome> {
        self.outcome.filter(|outcome| outcome.state().has_finished())
    }
}

/// A task.
#[derive(Debug)]
pub struct Task<'a> {
    /// Its id.
    pub id: TaskId,
    pub(super) root: &'a TaskRoot,
    pub(super) directory: PathBuf,
    /// And the moment from which back it is counted: what comes later is not too old.
    pub(super) ttl: Option<(Duration, SystemTime)>,
}

/// Looks at these tasks, also for runs that are not ours ([`Task::foreign_run`]).
#[must_use]
pub fn looks(tasks: &[&Task]) -> Vec<Look> {
    let mut looks: Vec<Look> = tasks.iter().map(|task| task.look()).collect();
    let (at, rest): (Vec<usize>, Vec<&Task>) =
        (0..tasks.len()).filter(|at| looks[*at].running.is_none()).map(|at| (at, tasks[at])).unzip();
    for (at, run) in at.into_iter().zip(foreign::runs(&rest)) {
        looks[at].running = run;
    }
    looks
}

impl<'a> Task<'a> {
    /// The task of this id. Nothing is made or looked at.
    #[must_use]
    pub fn new(root: &'a TaskRoot, id: TaskId) -> Self {
        Self { directory: root.path().join(id.as_str()), id, root, ttl: None }
    }

    /// All that have a directory, in the order of their ids.
    pub fn all(root: &'a TaskRoot) -> Result<Vec<Self>, TaskError> {
        Ok(root.ids()?.into_iter().map(|id| Self::new(root, id)).collect())
    }

    /// The same task for one to whom an outcome that is older than this is none; a failure after [`FAILURE_TTL`], if
    /// that is less.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl: ttl.map(|ttl| (ttl, SystemTime::now())), ..self }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What can be seen of it. Takes no lock that another could want, and changes nothing.
    #[must_use]
    pub fn look(&self) -> Look {
        // In this order: were the outcome read first, a run that ends in between would have neither.
        let (running, left) = self.pid().unwrap_or_default();
        Look { running, left, outcome: self.outcome().unwrap_or_default() }
    }

    /// The same for one who goes by it: what is there and cannot be read is not taken for nothing.
    pub fn look_closely(&self) -> Result<Look, TaskError> {
        let (running, left) = self.pid().map_err(self.failed(files::PID))?;
        Ok(Look { running, left, outcome: self.outcome().map_err(self.failed(files::EXIT))? })
    }

    /// Who runs it, and whether somebody did who was killed.
    pub(super) fn pid(&self) -> io::Result<(Option<Running>, bool)> {
        let Some(mut file) = files::open_if_there(&self.file(files::PID))? else { return Ok((None, false)) };
        let mut text = String::new();
        file.by_ref().take(64).read_to_string(&mut text)?;
        let pid = text.trim().parse().unwrap_or(0);
        let is_locked = !os::try_lock(&file, Mode::Shared)?;
        if is_locked && self.is_there(pid) {
            let since = file.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            return Ok((Some(Running { pid, since, holder: None }), false));
        }
        // Removed while we looked: by a supervisor that came to its end.
        Ok((None, file.metadata()?.nlink() > 0))
    }

    /// Everyone may read `pid`, and so lock it: then it is the process that tells, where it can be seen from here.
    pub(super) fn is_there(&self, pid: u32) -> bool {
        let elsewhere = || match record::read_path(&self.file(files::LOCK)) {
            Content::Record(record) => record.ns != process::pid_namespace(),
            _ => false,
        };
        os::exists(pid) || elsewhere()
    }

    /// The outcome, unless it is too old for us.
    pub(super) fn outcome(&self) -> io::Result<Option<Outcome>> {
        Ok(self.outcome_of_any_age()?.filter(|outcome| !self.is_too_old(outcome)))
    }

    pub(super) fn is_too_old(&self, outcome: &Outcome) -> bool {
        self.ttl.is_some_and(|(ttl, began)| {
            let ttl = if outcome.status == 0 { ttl } else { ttl.min(FAILURE_TTL) };
            match began.duration_since(outcome.at) {
                Ok(age) => age > ttl,
                // It came after we began, unless the clock was set back since: then it would stand until that time comes.
                Err(_) => outcome.at.duration_since(SystemTime::now()).is_ok_and(|ahead| ahead > CLOCK_TOLERANCE),
            }
        })
    }

    pub(super) fn outcome_of_any_age(&self) -> io::Result<Option<Outcome>> {
        let Some(mut file) = files::open_if_there(&self.file(files::EXIT))? else { return Ok(None) };
        let mut text = Vec::new();
        file.by_ref().take(64).read_to_end(&mut text)?;
        let data = file.metadata()?;
        // By hand it may be written in any form that people give a number.
        let Ok(status) = String::from_utf8_lossy(&text).trim().parse() else { return Ok(None) };
        Ok(Some(Outcome { status, at: data.modified()?, file: data.ino() }))
    }

    /// What the command printed, of this run or the last. `None`: there is no such file.
    #[must_use]
    pub fn log(&self, stream: Stream) -> Option<File> {
        files::open(&self.file(stream.file()))
    }

    /// The saved command, if there is one.
    #[must_use]
    pub fn saved(&self) -> Option<Saved> {
        saved::read(self).ok().flatten().map(|(saved, _)| saved)
    }

    /// How long the last run took. `None` where that is not known.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        guard::end_in(&files::open(&self.file(files::LOCK))?).map(|end| end.took)
    }

    /// Whether there is anything of it but old logs.
    #[must_use]
    pub fn is_known(&self) -> bool {
        [files::EXIT, files::PID, files::COMMAND].iter().any(|name| fs::symlink_metadata(self.file(name)).is_ok())
    }
}
