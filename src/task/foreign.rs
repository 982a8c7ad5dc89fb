//! Runs that are not ours. The bash function `run_once`, which this helper replaces, keeps its tasks in the same directory:
//! during an upgrade, or next to a second checkout, both use the same tasks. For the function, "`lock` is held" means that
//! the task runs. It writes no record, and its `pid` is not locked:
//!
//! | a run of the function | `lock` is held by | `pid` | prints to |
//! |---|---|---|---|
//! | in the background | a subshell | the command, which leads a session; it stays when the run has ended | `log.out`, and `tee` to both logs |
//! | in the foreground (`-w`) | a subshell, and `tee` | none | a pipe to `tee` |
//! | a validation | the shell of the script, and the command | none, or an old one | the logs |
//!
//! A helper holds `lock` without running the task only for the instant in which it starts, expires or forgets it. So a task
//! whose `lock` is held by any other program runs.

use super::files;
use super::state::{Running, Task};
use super::wait::Stream;
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

/// Pause between two searches for a run: each goes through all processes.
const NOT_AGAIN_FOR: Duration = Duration::from_millis(50);

/// Time that a helper may hold the lock before another holder is searched for: most helpers are done by then.
const HEAD_START: Duration = Duration::from_millis(25);

/// Looks for a run of a task, again and again.
pub(super) struct Lookout<'a> {
    task: &'a Task<'a>,
    begin: Instant,
    looked: Option<Instant>,
    found: Option<Running>,
}

impl<'a> Lookout<'a> {
    pub(super) fn new(task: &'a Task<'a>) -> Self {
        Self { task, begin: Instant::now(), looked: None, found: None }
    }

    /// A lookout that has found this run already.
    pub(super) fn with(task: &'a Task<'a>, run: Running) -> Self {
        Self { found: Some(run), looked: Some(Instant::now()), ..Self::new(task) }
    }

    /// The run of the task, ours or not.
    pub(super) fn run(&mut self) -> Option<Running> {
        self.task.look().running.or_else(|| self.foreign_run())
    }

    /// The run of the task that is not ours.
    pub(super) fn foreign_run(&mut self) -> Option<Running> {
        let still_runs = self.found.is_some_and(|run| self.task.is_held_by(run));
        let may_look = match self.looked {
            Some(looked) => looked.elapsed() >= NOT_AGAIN_FOR,
            None => self.begin.elapsed() >= HEAD_START,
        };
        if !still_runs && (may_look || self.found.is_some()) {
            self.found = self.task.foreign_run();
            self.looked = Some(Instant::now());
        }
        self.found
    }

    /// Limits a pause to the time until the first look.
    pub(super) fn limit(&self, pause: Option<Duration>) -> Option<Duration> {
        let first = self.looked.is_none().then(|| HEAD_START.saturating_sub(self.begin.elapsed()));
        [pause, first].into_iter().flatten().min()
    }
}

/// The runs of these tasks that are not ours, with one look through all processes.
pub(super) fn runs(tasks: &[&Task]) -> Vec<Option<Running>> {
    let mut wanted: Vec<WantedFile> =
        tasks.iter().map(|task| holders::identify_file(&task.file(files::LOCK))).collect();
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
    tasks.iter().zip(holders).map(|(task, holder)| Some(task.run_of(holder?))).collect()
}

/// Returns false if the kernel's list, which is quicker to read, shows that no process holds one of these locks.
fn may_be_held(locks: &[WantedFile]) -> bool {
    let mut locks = locks.iter().filter(|lock| lock.ino != 0).peekable();
    if locks.peek().is_none() {
        return false;
    }
    // In another PID namespace the list leaves out each lock whose taker has ended.
    if process::pid_namespace() != lock_table::FIRST_NAMESPACE {
        return true;
    }
    let Some(list) = lock_table::try_list() else { return true };
    let held: HashSet<FileId> = list.into_iter().map(|listed| listed.file).collect();
    locks.any(|lock| held.contains(&lock_table::file_id(lock)))
}

impl Task<'_> {
    /// The run of this task that is not ours, if there is one.
    #[must_use]
    pub fn foreign_run(&self) -> Option<Running> {
        runs(&[self]).pop().flatten()
    }

    /// The run of the task, ours or not.
    #[must_use]
    pub fn any_run(&self) -> Option<Running> {
        self.look().running.or_else(|| self.foreign_run())
    }

    fn run_of(&self, holder: u32) -> Running {
        let modified = |name| fs::symlink_metadata(self.file(name)).and_then(|data| data.modified()).ok();
        let pid = self.pid_in_file().filter(|pid| os::exists(*pid));
        let since = pid.and(modified(files::PID)).or_else(|| modified(files::LOCK));
        Running { pid: pid.unwrap_or(holder), since: since.unwrap_or(SystemTime::UNIX_EPOCH), holder: Some(holder) }
    }

    /// The number in the file `pid`.
    pub(super) fn pid_in_file(&self) -> Option<u32> {
        process::read_small(self.file(files::PID).to_str()?)?.trim().parse().ok()
    }

    /// Returns true if the process that was seen to hold `lock` still holds it.
    fn is_held_by(&self, run: Running) -> bool {
        run.holder.is_some_and(|holder| openers::holds(holder, &holders::identify_file(&self.file(files::LOCK))))
    }

    /// The processes of a run that is not ours. That a process belongs to it must be proved:
    ///
    /// - it prints to the logs of the task, or to a `tee` that does;
    /// - or it is in a session whose leader does so, or whose leader is named by `pid` and is the child of a holder of
    ///   `lock`.
    pub(super) fn foreign_processes(&self) -> Vec<ProcessStat> {
        let logs: Vec<(u64, u64)> = Stream::BOTH
            .into_iter()
            .filter_map(|stream| fs::symlink_metadata(self.file(stream.file())).ok())
            .map(|data| (data.dev(), data.ino()))
            .collect();
        let lock = holders::identify_file(&self.file(files::LOCK));
        let ours = process::own_number();
        let named = self.pid_in_file().and_then(process::number_of);
        let all = process::read_all_stats();
        // `tee` has its file open on a descriptor other than stdout.
        let has_open = |pid| process::descriptors(pid).any(|(_, data)| logs.contains(&(data.dev(), data.ino())));
        let (copiers, others): (Vec<&ProcessStat>, Vec<&ProcessStat>) =
            all.iter().filter(|seen| Some(seen.pid) != ours).partition(|seen| process::name(seen.pid) == "tee");
        let copied = copiers.into_iter().filter(|seen| has_open(seen.pid)).filter_map(|seen| input_pipe(seen.pid));
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

/// The pipe that a process has as its standard input, by device and inode.
fn input_pipe(pid: u32) -> Option<(u64, u64)> {
    let path = format!("/proc/{pid}/fd/0");
    let data = fs::metadata(&path).ok()?;
    process::is_pipe(Path::new(&path)).then_some((data.dev(), data.ino()))
}
