//! Acquires locks: opens the lock file, locks it, checks that the path still leads to it, and writes the record.
//!
//! `lock`, `update`, `write`, the numbers and the lock service call [`acquire`], which opens the lock files. The bash library
//! has files open already, so the helper calls [`acquire_descriptors`] for it.
//!
//! When one of them returns guards, this process (or the script whose descriptor it got) holds each lock on the very file to
//! which its path leads. If a process removes the file later, the next caller creates a new file and locks that one, so there
//! are two holders. No lock on a file can prevent this.
//!
//! # Killed processes
//!
//! | killed process | state that it leaves | effect on the next caller |
//! |---|---|---|
//! | the helper, after opening the file | the file is not locked | it acquires the lock |
//! | the helper, after locking and before writing the record | the record of an earlier holder; the lock is held while a descriptor is open | it gets the holder from the kernel, and does not believe the record, because the kernel names another locker |
//! | the helper, while it writes the record | an incomplete record | it gets the holder from the kernel, and ignores the record |
//! | the helper of a script, while it waits for the next of several locks | a signal that can be handled: none, because the helper releases the locks that it has acquired. SIGKILL: these locks stay held until the shell library closes their descriptors, at the latest when it is called again | after SIGKILL, it waits until then |
//! | a script whose helper waits | none: the helper gets a signal and exits | it is not blocked by a waiter without a script |
//! | the helper of a script, after locking and before it reports success | the descriptor of the script holds the lock | the lock is free once the shell library has closed the descriptor, which it does after every exit status but 0 |
//!
//! # Several locks
//!
//! A call acquires all its locks or none. It takes them in the order of their names, or of the real paths of their files, and
//! not in the order of the request. So two callers that want the same locks never wait for each other.
//!
//! The file of one lock can be replaced while the caller waits for another one:
//!
//! 1. A acquires the first lock, checks its file, and waits for the second one.
//! 2. The first file is removed. B creates a new one, locks it, and runs.
//! 3. A is granted the second lock. If A ran now, it would be a second holder of the first name.
//!
//! So A checks every earlier file again after the last grant. If one was replaced, A releases all of them and starts over,
//! at most `MAX_OPENS` times. On descriptors of a script, A releases those that it has just locked and fails with
//! [`LockError::Replaced`], and the script opens the files again. If A is killed between the grant and the check, its locks end
//! with its descriptors, or with those of the script, because A did not report success.
//!
//! A releases a lock by a call, and not only by closing its descriptor: the second thread of a wait has descriptors of its own, and may
//! sleep for a while after the grant.

mod handed_down;
mod leased_file;
mod newcomer;

use super::lock_wait::{self, Attempted, LockWait, release_all, release_lock};
use super::request::{Acquired, AfterGrant, Guard, Request};
use super::wait::{self, Contention, DeadlockSearch, WaitOutcome};
use crate::base::environment::inherited_descriptors;
use crate::base::target::{Kind, Target, Wait};
use crate::lock::coalesce::CoalescedCall;
use crate::lock::error::{LockError, SlotMistake};
use crate::lock::events::{self, LockEvent};
use crate::lock::fcntl;
use crate::lock::grant;
use crate::lock::open::{MAX_OPENS, cannot_open, check_links};
use crate::lock::ownership::{find_held, is_held_from_above, is_taker, may_be_held};
use crate::lock::priority;
use crate::lock::record::{self, Content, RecordDraft, Taker};
use crate::lock::replace::Newcomer;
use crate::lock::slots;
use crate::os::proc::lock_table::KernelLock;
use crate::os::{self, Mode, Slot, word_for};
use crate::store::Store;
use std::cell::OnceCell;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Puts locks into the order in which they are acquired, without a second lock of one path.
pub fn put_in_order(targets: &mut Vec<(Target, Option<RawFd>)>) {
    targets.sort_by(|(one, _), (other, _)| one.rank().cmp(other.rank()));
    targets.dedup_by(|(one, fd), (other, _)| fd.is_none() && one.path == other.path);
}

/// Acquires all the locks, or none, on descriptors of our own.
pub fn acquire(
    targets: Vec<Target>,
    store: Option<&Store>,
    request: &Request,
    contention: &mut dyn Contention,
) -> Result<Acquired, LockError> {
    if cfg!(not(linux)) {
        request.check_system()?;
    }
    let mut targets = targets;
    targets.sort_by(|one, other| one.rank().cmp(other.rank()));
    targets.dedup_by(|one, other| one.path == other.path);
    let mut attempt = Attempt::new(request, contention, None);
    let mut replaced = None;
    for _ in 0..MAX_OPENS {
        let mut guards = Vec::with_capacity(targets.len());
        for target in &targets {
            let guard = attempt.acquire_target(target, store, &guards);
            guards.push(guard.inspect_err(|_| release_all(&guards, request))?);
        }
        match find_replaced(&guards) {
            Ok(None) => return Ok(attempt.write_records(guards)),
            Ok(Some(guard)) => {
                attempt.log(&LockEvent::Replaced, &guard.target);
                replaced = Some(guard.target.path.clone());
                // Waiting for the new file while the other locks are held could cause a deadlock.
                release_all(&guards, request);
            }
            Err(error) => {
                release_all(&guards, request);
                return Err(error);
            }
        }
    }
    Err(LockError::KeepsChanging { path: replaced.unwrap_or_default() })
}

/// Waits until each of the lock files can be opened, because no process has a lease on it, as [`acquire`] does.
pub fn wait_for_files(
    targets: &[Target],
    store: Option<&Store>,
    request: &Request,
    contention: &mut dyn Contention,
) -> Result<(), LockError> {
    let mut attempt = Attempt::new(request, contention, Some(request.holder));
    targets.iter().try_for_each(|target| attempt.open(target, store).map(drop))
}

/// Acquires all the locks, or none, on descriptors that a script has open. The script holds them after this process has exited.
pub fn acquire_descriptors(
    targets: Vec<(Target, RawFd)>,
    request: &Request,
    contention: &mut dyn Contention,
) -> Result<Acquired, LockError> {
    if cfg!(not(linux)) {
        request.check_system()?;
    }
    let mut targets = targets;
    targets.sort_by(|(one, _), (other, _)| one.rank().cmp(other.rank()));
    let mut attempt = Attempt::new(request, contention, Some(request.holder));
    let mut guards: Vec<Guard> = Vec::with_capacity(targets.len());
    for (target, fd) in targets {
        match attempt.acquire_descriptor(target, fd) {
            Ok(guard) => {
                if guard.fresh {
                    attempt.taken.push(guard.file.as_raw_fd());
                }
                guards.push(guard);
            }
            Err(error) => {
                release_all(&guards, request);
                return Err(error);
            }
        }
    }
    let error = match find_replaced(&guards) {
        Ok(None) => return Ok(attempt.write_records(guards)),
        Ok(Some(guard)) => {
            attempt.log(&LockEvent::Replaced, &guard.target);
            LockError::Replaced { fd: guard.inherited.unwrap_or(-1), path: guard.target.path.clone() }
        }
        Err(error) => error,
    };
    release_all(&guards, request);
    Err(error)
}

/// Returns the first guard whose file was replaced while the locks after it were acquired. The last one was checked
/// when it was granted.
fn find_replaced(guards: &[Guard]) -> Result<Option<&Guard>, LockError> {
    let Some((_, earlier)) = guards.split_last() else { return Ok(None) };
    for guard in earlier {
        if !is_open_as(&guard.target, &guard.file)? {
            return Ok(Some(guard));
        }
    }
    Ok(None)
}

/// Returns true if the path of `target` leads to the open `file`. An error is no answer: a caller that took the file for one
/// that was replaced would open it again, and could be refused by its own lock on the first descriptor.
fn is_open_as(target: &Target, file: &File) -> Result<bool, LockError> {
    target.is_open_as(file).map_err(|source| LockError::cannot_examine(&target.path, source))
}

/// Returns the lock that descriptor `fd`, open as `file`, holds already.
fn find_held_lock(fd: RawFd, file: &File, target: &Target, fcntl: bool) -> Result<Option<KernelLock>, LockError> {
    find_held(file, fcntl).map_err(|source| LockError::Unknown { fd, path: target.path.clone(), source })
}

/// The state of one call of [`acquire`] or [`acquire_descriptors`].
struct Attempt<'a> {
    request: &'a Request<'a>,
    contention: &'a mut dyn Contention,
    /// Our parent, if the wait ends with it: the script that gave us its descriptors, or the process that started this watcher.
    parent: Option<u32>,
    started: Instant,
    /// The draft of the records, if it was built during a wait.
    draft: Option<RecordDraft>,
    /// The descriptors of the script whose locks were acquired by this call.
    taken: Vec<RawFd>,
    /// The slot that was acquired, if the request is for one.
    slot: Option<Slot>,
    coalesced: Option<CoalescedCall>,
    /// The caller, while it waits for its turn to replace the holder.
    newcomer: Option<Newcomer>,
}

impl<'a> Attempt<'a> {
    fn new(request: &'a Request<'a>, contention: &'a mut dyn Contention, script: Option<u32>) -> Self {
        let now = Instant::now();
        let started = now.checked_sub(request.waited).unwrap_or(now);
        let parent = request.caller.or(script);
        let (slot, coalesced, newcomer) = (None, None, None);
        Self { request, contention, parent, started, draft: None, taken: Vec::new(), slot, coalesced, newcomer }
    }

    /// Acquires the lock of `target`. If one of `guards` holds the lock of the same file already, because two of the paths lead
    /// to it, returns a second guard for that lock.
    fn acquire_target(&mut self, target: &Target, store: Option<&Store>, guards: &[Guard]) -> Result<Guard, LockError> {
        if let Some(guard) = self.find_handed_down(target)? {
            return Ok(guard);
        }
        for _ in 0..MAX_OPENS {
            let target = &*target.resolved();
            let file = self.open(target, store)?;
            // The kernel would make the second descriptor wait for the first one, forever.
            if let Some(first) = guards.iter().find(|guard| os::same_file(&guard.file, &file).unwrap_or(false)) {
                // Each path has its own guard, because one of the two may lead to another file before the last grant.
                let file = first.file.try_clone().map_err(|source| cannot_open(&target.path, source))?;
                let (target, inherited) = (target.clone(), first.inherited);
                return Ok(Guard { file, target, inherited, fresh: false, copy: OnceCell::new() });
            }
            // A lock that an ancestor holds is shared with it, and never replaced.
            if self.request.replace.is_some()
                && let Some(guard) = self.find_inherited(target)?
            {
                return Ok(guard);
            }
            if !self.try_lock(&file, target)? {
                if let Some(guard) = self.find_inherited(target)? {
                    return Ok(guard);
                }
                self.wait(&file, target)?;
            }
            // The file may have been removed since it was opened, and another process may hold the lock of the new one.
            if is_open_as(target, &file)? {
                self.check_grant(&file, target)?;
                return Ok(Guard { file, target: target.clone(), inherited: None, fresh: true, copy: OnceCell::new() });
            }
            self.log(&LockEvent::Replaced, target);
            release_lock(&file, self.request);
        }
        Err(LockError::KeepsChanging { path: target.path.clone() })
    }

    /// Acquires the lock of `target` on descriptor `fd` of the script, or returns a guard that is not fresh if the
    /// descriptor holds the lock already.
    fn acquire_descriptor(&mut self, target: Target, fd: RawFd) -> Result<Guard, LockError> {
        let file = os::try_second_descriptor(fd).map_err(|source| LockError::cannot_copy(fd, source))?;
        let names = target.count_names_if_open_as(&file);
        if let Some(names) = names.map_err(|source| LockError::cannot_examine(&target.path, source))? {
            check_links(&target, names)?;
        } else {
            let kind = fs::symlink_metadata(&target.path).map(|data| data.file_type());
            return Err(match kind {
                Ok(kind) if target.kind == Kind::Named && !kind.is_file() => {
                    LockError::NotRegular { path: target.path, kind: word_for(kind) }
                }
                _ => {
                    self.log(&LockEvent::Replaced, &target);
                    LockError::Replaced { fd, path: target.path }
                }
            });
        }
        let handed_down = inherited_descriptors().contains(&fd);
        let content = record::read(&file);
        // If this description holds the lock already, it must not be locked again, because that can change the mode: a request
        // for a shared lock would weaken an exclusive lock of the script, and a request for an exclusive lock would release
        // its shared lock, even if the request then fails. For a file of the user there is no record, so the kernel is always
        // asked.
        if (handed_down || target.kind == Kind::Users || may_be_held(&content, &file))
            && let Some(held) = find_held_lock(fd, &file, &target, self.request.fcntl)?
        {
            if handed_down && !is_held_from_above(&file, held, self.request.holder) {
                return Err(LockError::Replaced { fd, path: target.path });
            }
            self.check_held(held, &target)?;
            return Ok(Guard { file, target, inherited: Some(fd), fresh: false, copy: OnceCell::new() });
        }
        // Other processes share a description that was handed down. If each of them could lock it, all would be granted the
        // lock. Only the process that acquired it before may acquire it again.
        if handed_down && !is_taker(&content, self.request.holder) {
            return Err(LockError::Replaced { fd, path: target.path });
        }
        // The script may have inherited the lock on another descriptor than this one. Such a lock is never replaced. A script that has
        // acquired the lock itself, on another descriptor, is refused.
        let is_own = matches!(&content, Content::Record(record) if record.pid == self.request.holder);
        if self.request.replace.is_some()
            && !is_own
            && let Some(guard) = self.find_inherited(&target)?
        {
            return Ok(guard);
        }
        if !self.try_lock(&file, &target)? {
            if !is_own && let Some(guard) = self.find_inherited(&target)? {
                return Ok(guard);
            }
            self.wait(&file, &target)?;
        }
        let error = match is_open_as(&target, &file) {
            Ok(true) => {
                self.check_grant(&file, &target)?;
                return Ok(Guard { file, target, inherited: Some(fd), fresh: true, copy: OnceCell::new() });
            }
            Ok(false) => {
                self.log(&LockEvent::Replaced, &target);
                LockError::Replaced { fd, path: target.path }
            }
            Err(error) => error,
        };
        release_lock(&file, self.request);
        Err(error)
    }

    fn explain_open_error(&self, error: LockError, target: &Target) -> LockError {
        if self.request.fcntl { fcntl::explain_open_error(error, target) } else { error }
    }

    /// Fails if the lock is held shared and the request is for an exclusive one, or for a slot that it does not include.
    fn check_held(&mut self, held: KernelLock, target: &Target) -> Result<(), LockError> {
        if held.mode() == Mode::Shared && self.request.mode == Mode::Exclusive {
            if let Some(slot) = held.slots.slot() {
                let mistake = SlotMistake::HeldInPart(slot.capacity);
                return Err(LockError::Slots { label: target.label.clone(), mistake });
            }
            return Err(LockError::Upgrade { label: target.label.clone(), held: held.mode() });
        }
        if let Some(capacity) = self.request.slots {
            self.slot = Some(slots::check_held_slot(held, capacity, &target.label)?);
        }
        Ok(())
    }

    fn log(&self, event: &LockEvent, target: &Target) {
        events::log_event(event, target, self.request.holder, self.request.command.as_deref());
    }

    fn try_lock(&mut self, file: &File, target: &Target) -> Result<bool, LockError> {
        if let Some(grace) = self.request.replace {
            return self.replace_holder(file, target, grace).map(|()| true);
        }
        if let Some(kind) = self.request.coalescing {
            self.coalesced = Some(CoalescedCall::begin(file, target, kind)?);
        }
        match lock_wait::try_lock(file, target, self.request)? {
            Attempted::Granted(slot) => self.slot = slot.or(self.slot),
            Attempted::Busy => return Ok(false),
        }
        Ok(true)
    }

    /// The last step of an acquisition. It may count a run of a file with `--coalesce`, so nothing that can fail comes after it.
    fn check_grant(&mut self, file: &File, target: &Target) -> Result<(), LockError> {
        self.coalesced.as_mut().map_or(Ok(()), |call| call.check_grant(file, target, self.request))
    }

    /// Logs the contention, and then blocks for as long as the request allows.
    fn wait(&mut self, file: &File, target: &Target) -> Result<(), LockError> {
        if self.request.logs_contention {
            let waits = self.request.wait.blocks();
            self.log(&LockEvent::Contended { waits, is_skipped: self.request.skips && !waits }, target);
        }
        if let Some(call) = &mut self.coalesced {
            call.join(file, target, self.request)?;
        }
        let (label, path, kind) = (target.label.clone(), target.path.clone(), target.kind);
        match self.request.wait {
            Wait::No => Err(LockError::Busy { label, path, kind }),
            Wait::For(after @ Duration::ZERO) => Err(LockError::TimedOut { label, path, kind, after }),
            Wait::Forever => self.block(file, target, None),
            Wait::For(limit) => self.block(file, target, Some(limit)),
        }
    }

    /// Waits for the lock, and converts the outcome of the wait.
    fn block(&mut self, file: &File, target: &Target, limit: Option<Duration>) -> Result<(), LockError> {
        // The draft is built before the grant. Every step after the grant makes the next waiter wait longer.
        if self.draft.is_none() {
            self.draft = Some(self.build_draft());
        }
        // After Ctrl-C, an interactive shell lives on with its descriptors open, so this process must release their locks.
        let _unlocks = os::UnlocksAtEnd::begin(&self.taken, self.request.fcntl);
        let alarm = os::Alarm::new();
        if self.parent.is_some() {
            alarm.when_parent_ends();
        }
        let has_ended = || self.parent.is_some_and(|pid| os::parent_id() != pid);
        let deadline = limit.and_then(|limit| self.started.checked_add(limit));
        let cannot = |source| match self.request.slots {
            Some(_) => slots::cannot_use_slots(&target.path, source),
            None if self.request.priority.is_some() => priority::cannot_use_priority(&target.path, source),
            None if self.request.fcntl => fcntl::cannot_lock(target, source),
            None => LockError::cannot_lock(&target.path, source),
        };
        let may_go_on = &mut || if has_ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let search = if self.newcomer.is_some() { DeadlockSearch::Never } else { DeadlockSearch::Repeated };
        let mut wait = LockWait::new(file, target, self.request).map_err(cannot)?;
        let mut block_once = || match &mut self.newcomer {
            Some(newcomer) => newcomer.wait_for_turn(),
            None => wait.block_once(),
        };
        let waited = (target, file, self.request);
        let outcome =
            wait::wait_for_grant(self.contention, waited, &mut block_once, &alarm, deadline, may_go_on, search);
        self.slot = wait.finish(&target.label)?;
        if self.request.after_grant == AfterGrant::Exits && matches!(outcome, Ok(WaitOutcome::Granted)) {
            alarm.leave();
        } else {
            drop(alarm);
        }
        let (label, path, kind) = (target.label.clone(), target.path.clone(), target.kind);
        match outcome.map_err(cannot)? {
            WaitOutcome::Granted => Ok(()),
            WaitOutcome::Deadlock(circle) => {
                self.log(&LockEvent::Deadlock { circle: &circle.to_string() }, target);
                Err(LockError::Deadlock { label, circle: Box::new(circle) })
            }
            WaitOutcome::GivenUp if has_ended() => Err(LockError::ScriptEnded { label }),
            WaitOutcome::GivenUp => {
                let event = LockEvent::TimedOut { waited: self.started.elapsed(), is_skipped: self.request.skips };
                self.log(&event, target);
                Err(LockError::TimedOut { label, path, kind, after: limit.unwrap_or_default() })
            }
        }
    }

    fn build_draft(&self) -> RecordDraft {
        let request = self.request;
        let taker = match self.parent {
            Some(pid) if pid == request.holder => Taker::parent(pid),
            _ => Taker::new(request.holder, request.command.as_deref()),
        };
        let draft = RecordDraft::new(taker, request.mode, request.who, request.pid_file);
        if request.max_time.is_some() { draft.with_max_time(request.max_time) } else { draft }
    }

    fn write_records(mut self, guards: Vec<Guard>) -> Acquired {
        let draft = self.draft.take();
        grant::write_records(guards, self.request, self.slot, self.started, || {
            draft.unwrap_or_else(|| self.build_draft())
        })
    }
}
