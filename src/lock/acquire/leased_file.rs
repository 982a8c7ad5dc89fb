//! The steps of an acquisition while another process has a lease on the lock file, so that it cannot be opened.

use super::Attempt;
use crate::base::target::{Target, Wait};
use crate::lock::error::LockError;
use crate::lock::events::LockEvent;
use crate::lock::holders;
use crate::lock::linked_file::open_or_replace;
use crate::lock::open::is_lease_error;
use crate::lock::wait::{MOMENT, Waiting};
use crate::os;
use crate::store::Store;
use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The longest time without a look at the parent of this process.
const LOOK: Duration = Duration::from_secs(1);

/// Set when a wait is over, which it never is here: this thread reports it.
static NEVER: AtomicBool = AtomicBool::new(false);

impl Attempt<'_> {
    /// Opens the lock file. A lease of another process counts as a lock that it holds.
    pub(super) fn open(&mut self, target: &Target, store: Option<&Store>) -> Result<File, LockError> {
        let opened = match open_or_replace(target, store, Duration::ZERO) {
            Err(error) if is_lease_error(&error) => self.wait_for_end_of_lease(target, store),
            opened => opened,
        };
        opened.map_err(|error| self.explain_open_error(error, target))
    }

    fn wait_for_end_of_lease(&mut self, target: &Target, store: Option<&Store>) -> Result<File, LockError> {
        let blocks = self.request.wait.blocks();
        let limit = if let Wait::For(limit) = self.request.wait { Some(limit) } else { None };
        let deadline = limit.and_then(|limit| self.started.checked_add(limit));
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        // If this call logs nothing, an earlier one of the script has tried already.
        let first = match (blocks, self.request.logs_contention) {
            (true, _) => MOMENT.min(left()),
            (false, true) => holders::find_lease_patience(&target.path),
            (false, false) => Duration::ZERO,
        };
        let mut opened = open_or_replace(target, store, first);
        if !opened.as_ref().is_err_and(is_lease_error) {
            return opened;
        }
        if self.request.logs_contention {
            let is_skipped = self.request.skips && !blocks;
            self.log(&LockEvent::Contended { waits: blocks, is_skipped }, target);
        }
        let (label, path, kind) = (target.label.clone(), target.path.clone(), target.kind);
        if !blocks {
            let Some(after) = limit else { return Err(LockError::Busy { label, path, kind }) };
            return Err(LockError::TimedOut { label, path, kind, after });
        }
        let waiting = Waiting::without_queue(target, &NEVER);
        self.contention.begins(&waiting);
        let mut next_tick = self.find_next_tick();
        while opened.as_ref().is_err_and(is_lease_error) {
            if self.parent.is_some_and(|pid| os::parent_id() != pid) {
                opened = Err(LockError::ScriptEnded { label });
                break;
            }
            if left().is_zero() {
                let waited = self.started.elapsed();
                self.log(&LockEvent::TimedOut { waited, is_skipped: self.request.skips }, target);
                opened = Err(LockError::TimedOut { label, path, kind, after: limit.unwrap_or_default() });
                break;
            }
            if next_tick.is_some_and(|next| next <= Instant::now()) {
                self.contention.tick(&waiting);
                next_tick = self.find_next_tick();
            }
            let to_tick = next_tick.map_or(LOOK, |next| next.saturating_duration_since(Instant::now()));
            opened = open_or_replace(target, store, left().min(to_tick).min(LOOK));
        }
        self.contention.ends();
        opened
    }

    fn find_next_tick(&self) -> Option<Instant> {
        self.contention.interval().and_then(|interval| Instant::now().checked_add(interval))
    }
}
