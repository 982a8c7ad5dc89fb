//! Runs by another program: the bash function `run_once`, which this helper replaces, keeps its tasks in the same directory.
//!
//! The function and this helper use the same tasks during an upgrade, or if an older checkout is still in use. For the
//! function, a held `lock` means that the task is running. The function writes no record, and does not lock `pid`:
//!
//! | a run of the function | `lock` is held by | `pid` | output goes to |
//! |---|---|---|---|
//! | in the background | a subshell | the command, which leads a session; the file stays when the run has ended | `log.out`, and `tee`, which writes to both logs |
//! | in the foreground (`-w`) | a subshell, and `tee` | none | a pipe to `tee` |
//! | a validation | the shell of the script, and the command | none, or the one of an earlier run | the logs |
//!
//! A helper that does not run the task holds `lock` only for the instant in which it starts, expires or resets the
//! task. So a task counts as running if a program other than the helper holds its `lock`.

use super::directory::Task;
use super::files;
use super::state::{Running, TaskLook};
use super::stream::Stream;
use crate::lock::holders;
use crate::os;
use crate::os::proc::lock_table::{self, FileId, WantedFile};
use crate::os::proc::openers;
use crate::os::proc::process::{self, ProcessStat};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

/// Pause between two searches for a run: each search examines all processes.
const SEARCH_INTERVAL: Duration = Duration::from_millis(50);

/// Time for which the lock may be held before the first search for a run by another program. Most helpers have released
/// the lock by then.
const HEAD_START: Duration = Duration::from_millis(25);

/// Repeated search for a run of one task, while a process waits for it.
pub(super) struct ForeignWatch<'a> {
    task: &'a Task<'a>,
    begin: Instant,
    searched: Option<Instant>,
    found: Option<Running>,
}

impl<'a> ForeignWatch<'a> {
    pub(super) fn new(task: &'a Task<'a>) -> Self {
        Self { task, begin: Instant::now(), searched: None, found: None }
    }

    /// Starts with a run that was already found.
    pub(super) fn with_run(task: &'a Task<'a>, run: Running) -> Self {
        Self { found: Some(run), searched: Some(Instant::now()), ..Self::new(task) }
    }

    /// Returns the run of the task, by a helper or by another program.
    pub(super) fn find_run(&mut self) -> Option<Running> {
        self.task.look().running.or_else(|| self.find_foreign_run())
    }

    /// Returns the run of the task by another program.
    pub(super) fn find_foreign_run(&mut self) -> Option<Running> {
        let still_runs = self.found.is_some_and(|run| self.task.is_held_by(run));
        let may_search = match self.searched {
            Some(searched) => searched.elapsed() >= SEARCH_INTERVAL,
            None => self.begin.elapsed() >= HEAD_START,
        };
        if !still_runs && (may_search || self.found.is_some()) {
            self.found = self.task.find_foreign_run();
            self.searched = Some(Instant::now());
        }
        self.found
    }

    /// Limits a pause to the time until the first search.
    pub(super) fn limit_pause(&self, pause: Option<Duration>) -> Option<Duration> {
        let first = self.searched.is_none().then(|| HEAD_START.saturating_sub(self.begin.elapsed()));
        [pause, first].into_iter().flatten().min()
    }
}

/// Looks at these tasks, and finds runs by helpers and by other programs.
#[must_use]
pub fn look_at_all(tasks: &[&Task]) -> Vec<TaskLook> {
    find_other_runs(tasks, tasks.iter().map(|task| task.look()).collect())
}

/// Looks at those of these tasks that have an outcome, a run or a saved command.
#[must_use]
pub fn look_at_known<'a>(tasks: &'a [Task<'a>]) -> Vec<(&'a Task<'a>, TaskLook)> {
    let looks = tasks.iter().map(|task| (task, task.look()));
    // Most looks find an outcome or a run. Only for the others, the files are searched.
    let is_known = |(task, look): &(&Task, TaskLook)| {
        look.outcome.is_some() || look.running.is_some() || look.has_leftover_pid || task.is_known()
    };
    let (tasks, looks): (Vec<&Task>, Vec<TaskLook>) = looks.filter(is_known).unzip();
    let looks = find_other_runs(&tasks, looks);
    tasks.into_iter().zip(looks).collect()
}

/// Adds the runs by other programs to the looks at these tasks.
fn find_other_runs(tasks: &[&Task], mut looks: Vec<TaskLook>) -> Vec<TaskLook> {
    let (indices, rest): (Vec<usize>, Vec<&Task>) =
        (0..tasks.len()).filter(|at| looks[*at].running.is_none()).map(|at| (at, tasks[at])).unzip();
    for (at, run) in indices.into_iter().zip(find_foreign_runs(&rest)) {
        looks[at].running = run;
    }
    looks
}

/// Finds the runs of these tasks by other programs. All processes are examined once.
pub(super) fn find_foreign_runs(tasks: &[&Task]) -> Vec<Option<Running>> {
    // The paths do not matter, because the holders of removed files are left out below. So no links are resolved.
    let identify = |task: &&Task| holders::identify_file_in(task.directory(), Path::new(files::LOCK));
    let mut wanted: Vec<WantedFile> = tasks.iter().map(identify).collect();
    let mut holders = vec![None; tasks.len()];
    if may_be_held(&wanted) {
        let helper = process::own_number().map(process::name);
        let look = openers::find_locking_processes(&mut wanted, None, &AtomicBool::new(false));
        for opener in look.found.into_iter().filter(|opener| !opener.removed) {
            if Some(process::name(opener.pid)) != helper {
                holders[opener.index].get_or_insert(opener.pid);
            }
        }
    }
    tasks.iter().zip(holders).map(|(task, holder)| Some(task.build_foreign_run(holder?))).collect()
}

/// Returns false if the lock table of the kernel shows that no process holds one of these locks. Reading that table is
/// faster than examining all processes.
fn may_be_held(locks: &[WantedFile]) -> bool {
    let mut locks = locks.iter().filter(|lock| lock.ino != 0).peekable();
    if locks.peek().is_none() {
        return false;
    }
    // In another PID namespace, the table omits every lock that was taken by a process that has ended.
    if process::pid_namespace() != lock_table::FIRST_NAMESPACE {
        return true;
    }
    let Some(list) = lock_table::try_list() else { return true };
    let held: HashSet<FileId> = list.into_iter().map(|listed| listed.file).collect();
    locks.any(|lock| held.contains(&lock_table::file_id(lock)))
}

impl Task<'_> {
    /// Returns the run of this task by another program, if there is one.
    #[must_use]
    pub fn find_foreign_run(&self) -> Option<Running> {
        find_foreign_runs(&[self]).pop().flatten()
    }

    /// Returns the run of the task, by a helper or by another program.
    #[must_use]
    pub fn find_run(&self) -> Option<Running> {
        self.look().running.or_else(|| self.find_foreign_run())
    }

    fn build_foreign_run(&self, holder: u32) -> Running {
        let modified = |name| fs::symlink_metadata(self.file(name)).and_then(|data| data.modified()).ok();
        let pid = self.read_pid_number().filter(|pid| os::exists(*pid));
        let since = pid.and(modified(files::PID)).or_else(|| modified(files::LOCK));
        Running { pid: pid.unwrap_or(holder), since: since.unwrap_or(SystemTime::UNIX_EPOCH), holder: Some(holder) }
    }

    /// Returns true if the process that was seen to hold `lock` still holds it.
    fn is_held_by(&self, run: Running) -> bool {
        run.holder.is_some_and(|holder| openers::holds(holder, &holders::identify_file(&self.file(files::LOCK))))
    }

    /// Finds the processes of a run by another program. A process belongs to it only if one of these is true:
    ///
    /// - It writes to the logs of the task, or to a `tee` that does.
    /// - It is in a session whose leader writes there.
    /// - It is in a session whose leader is named by `pid` and is the child of a holder of `lock`.
    ///
    /// In a directory that users share, another user could choose these processes, so none is found.
    pub(super) fn find_foreign_processes(&self) -> Vec<ProcessStat> {
        if !self.is_private() {
            return Vec::new();
        }
        let logs: Vec<(u64, u64)> = Stream::BOTH
            .into_iter()
            .filter_map(|stream| fs::symlink_metadata(self.file(stream.file_name())).ok())
            .map(|data| (data.dev(), data.ino()))
            .collect();
        let lock = holders::identify_file(&self.file(files::LOCK));
        let ours = process::own_number();
        let named = self.read_pid_number().and_then(process::number_of);
        let all = process::read_all_stats();
        // `tee` has its file open on a descriptor other than stdout.
        let has_open = |pid| process::descriptors(pid).any(|(_, data)| logs.contains(&(data.dev(), data.ino())));
        let (copiers, others): (Vec<&ProcessStat>, Vec<&ProcessStat>) =
            all.iter().filter(|seen| Some(seen.pid) != ours).partition(|seen| process::name(seen.pid) == "tee");
        let copied = copiers.into_iter().filter(|seen| has_open(seen.pid)).filter_map(|seen| find_input_pipe(seen.pid));
        let outputs: Vec<(u64, u64)> = copied.chain(logs.iter().copied()).collect();
        let prints = |seen: &&&ProcessStat| process::prints_to(seen.pid, &outputs);
        let direct: BTreeSet<u32> = others.iter().filter(prints).map(|seen| seen.pid).collect();
        let is_named = |seen: &ProcessStat| Some(seen.pid) == named && openers::holds(seen.parent, &lock);
        let leaders: BTreeSet<u32> = all
            .iter()
            .filter(|seen| seen.session == seen.pid && (direct.contains(&seen.pid) || is_named(seen)))
            .map(|seen| seen.pid)
            .collect();
        all.into_iter().filter(|seen| direct.contains(&seen.pid) || leaders.contains(&seen.session)).collect()
    }
}

/// Returns the device and inode of the pipe that is the standard input of a process.
fn find_input_pipe(pid: u32) -> Option<(u64, u64)> {
    let path = format!("/proc/{pid}/fd/0");
    let data = fs::metadata(&path).ok()?;
    process::is_pipe(Path::new(&path)).then_some((data.dev(), data.ino()))
}
