//! The state that all threads of one walk share: where it takes place, what it may do there, counters, and the broken rules that
//! the threads themselves found.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Stage {
    pub(crate) directory: PathBuf,
    /// `true` if there are small file systems, which fill up or become read-only.
    pub(crate) mounts: bool,
    /// `true` if the clock of a process can be changed.
    pub(crate) clocks: bool,
    /// Calls of the helper.
    pub(crate) steps: AtomicUsize,
    pub(crate) kills: AtomicUsize,
    pub(crate) stops: AtomicUsize,
    pub(crate) threadless: AtomicUsize,
    pub(crate) removals: AtomicUsize,
    pub(crate) full: AtomicUsize,
    pub(crate) remounts: AtomicUsize,
    /// Daemons that were left running.
    pub(crate) daemons: AtomicUsize,
    broken: Mutex<Vec<String>>,
}

impl Stage {
    pub(crate) fn new(directory: &Path, mounts: bool, clocks: bool) -> Self {
        Self {
            directory: directory.to_owned(),
            mounts,
            clocks,
            steps: AtomicUsize::new(0),
            kills: AtomicUsize::new(0),
            stops: AtomicUsize::new(0),
            threadless: AtomicUsize::new(0),
            removals: AtomicUsize::new(0),
            full: AtomicUsize::new(0),
            remounts: AtomicUsize::new(0),
            daemons: AtomicUsize::new(0),
            broken: Mutex::new(Vec::new()),
        }
    }

    /// Records a broken rule.
    pub(crate) fn report(&self, why: String) {
        self.broken.lock().unwrap().push(why);
    }

    pub(crate) fn into_broken(self) -> Vec<String> {
        self.broken.into_inner().unwrap()
    }

    /// Returns a sentence on the disturbances, from which a reader sees how hard the walk was.
    pub(crate) fn describe_disturbances(&self) -> String {
        let count = |number: &AtomicUsize| number.load(Ordering::SeqCst);
        format!(
            "{} kills, {} stops, {} without threads, {} lock files taken away, {} times no space, {} times read-only",
            count(&self.kills),
            count(&self.stops),
            count(&self.threadless),
            count(&self.removals),
            count(&self.full),
            count(&self.remounts)
        )
    }
}
