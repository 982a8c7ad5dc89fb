//! Acquire: open, lock, check that it is still the file, write the record.
//!
//! What is promised: when [`acquire`] returns guards, this process (or the script whose descriptor it was
//! given) holds each lock on the very file that its name leads to. What is not: that nobody removes the file
//! afterwards. Who removes it under a living holder splits the world, and no lock on a file can prevent that.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | after open | a file without a lock | takes it |
//! | after the lock, before the record | the record of an earlier holder, and the lock while a descriptor is open | is told who holds it by the kernel; the record is not believed, as the kernel names another locker |
//! | while the record is written | an incomplete record | the same |
//! | the helper of a script, by a signal, while it waits for the next of several locks | those that it has taken are released; SIGKILL: they stay until the shell library closes their descriptors, at the latest when it is called again |
//! | a script whose helper waits | the helper gets a signal, and ends | is not shut out by a waiter without a script |
//! | the helper after the lock, before it could say so | the script's descriptor holds the lock | the shell library closes the descriptor on every status but 0 |
//!
//! Several locks are taken in the order of their names, or of the real paths of their files, whatever order they are asked for
//! in, so that two callers that want the same ones never wait for each other; all or none.
//!
//! # Several locks, one of whose files is replaced
//!
//! 1. A acquires the first lock, checks its file, and waits for the second one.
//! 2. The first file is removed. B makes a new one, locks that, and runs.
//! 3. A is granted the second lock. To run now would be a second holder of the first name.
//!
//! So A checks every earlier file again after the last grant. If one was replaced, A releases all of them and starts over,
//! at most `MAX_OPENS` times; on descriptors of a script it releases those that it has just locked and fails with
//! [`LockError::Replaced`], and the script opens the files again. If A is killed between the grant and the check, its locks end
//! with its descriptors, or with those of the script, which got no success.
//!
//! # When an inherited lock is handed down
//!
//! A process that inherited the descriptor of a held lock may share it if the holder is one of its ancestors, and lives. If
//! the holder has ended, two of its orphans may have the descriptor, and both would be granted the lock:
//!
//! 1. Holder H acquires the lock, starts A and B, and ends. A and B keep the descriptor, and so the lock, alive.
//! 2. A asks for the lock. It must be refused, because B may ask as well, at the same time.
//!
//! The holder is the one in the record, if the kernel names the locker of that record. Without a record of its own (`--file`,
//! a shared lock, a full file system, a file that is closed to us), or where the kernel does not name a locker that has ended
//! (in every pid namespace but the first), it is the owner of the open file description (`F_SETOWN`): the kernel keeps that for
//! all copies of the descriptor, and clears it when the process ends, so its number is never that of a stranger. A release
//! clears it, too. If H is killed after it acquired the lock and before it set the owner, there is no holder, and the next
//! process is refused as long as the descriptor is open elsewhere. A process in another pid namespace cannot know whether the
//! holder lives: it believes the record.

use super::request::{Acquired, Guard, Request};
use super::wait::{self, Contention, Waited};
use crate::base::environment::inherited_descriptors;
use crate::base::target::{Kind, Target, Wait};
use crate::lock::error::LockError;
use crate::lock::events::{self, LockEvent};
use crate::lock::open::{MAX_OPENS, cannot_open, open_lock_file};
use crate::lock::ownership::{held_for_ancestor, held_from_above, held_mode, is_taker, may_be_held};
use crate::lock::record::{self, Content, RecordDraft, Taker};
use crate::os::proc::lock_table;
use crate::os::{self, Mode, word_for};
use crate::store::Store;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Takes the locks, all or none, on descriptors of our own.
pub fn acquire(
    targets: Vec<Target>,
    store: Option<&Store>,
    request: &Request,
    contention: &mut dyn Contention,
) -> Result<Acquired, LockError> {
    let mut targets = targets;
    targets.sort_by(|one, other| one.rank().cmp(other.rank()));
    targets.dedup_by(|one, other| one.path == other.path);
    let mut attempt = Attempt::new(request, contention, Script::None);
    let mut replaced = None;
    for _ in 0..MAX_OPENS {
        let mut guards = Vec::with_capacity(targets.len());
        for target in &targets {
            guards.push(attempt.by_name(target, store, &guards)?);
        }
        match first_replaced(&guards) {
            None => return Ok(attempt.finish(guards)),
            Some(guard) => {
                attempt.note(&LockEvent::Replaced, &guard.target);
                replaced = Some(guard.target.path.clone());
            }
        }
        // All are released here: to wait for the one that stands there now with the others held could be a deadlock.
    }
    Err(LockError::KeepsChanging { path: replaced.unwrap_or_default() })
}

/// Takes the locks, all or none, on descriptors that a script has open. They stay when this process ends.
pub fn acquire_descriptors(
    targets: Vec<(Target, RawFd)>,
    request: &Request,
    contention: &mut dyn Contention,
) -> Result<Acquired, LockError> {
    let mut targets = targets;
    targets.sort_by(|(one, _), (other, _)| one.rank().cmp(other.rank()));
    let mut attempt = Attempt::new(request, contention, Script::Parent(request.holder));
    let mut guards: Vec<Guard> = Vec::with_capacity(targets.len());
    // The script keeps its descriptors, so closing ours would release nothing.
    let release = |guards: &[Guard]| {
        for guard in guards.iter().filter(|guard| guard.fresh) {
            let _ = os::unlock(&guard.file);
        }
    };
    for (target, fd) in targets {
        match attempt.by_descriptor(target, fd) {
            Ok(guard) => {
                if guard.fresh {
                    attempt.taken.push(guard.file.as_raw_fd());
                }
                guards.push(guard);
            }
            Err(error) => {
                release(&guards);
                return Err(error);
            }
        }
    }
    if let Some(guard) = first_replaced(&guards) {
        attempt.note(&LockEvent::Replaced, &guard.target);
        let error = LockError::Replaced { fd: guard.inherited.unwrap_or(-1), path: guard.target.path.clone() };
        release(&guards);
        return Err(error);
    }
    Ok(attempt.finish(guards))
}

/// Returns the first guard whose file was replaced while the locks after it were acquired. The last one was checked
/// when it was granted.
fn first_replaced(guards: &[Guard]) -> Option<&Guard> {
    let (_, earlier) = guards.split_last()?;
    earlier.iter().find(|guard| !guard.target.is_open_as(&guard.file))
}

/// For whom we wait: if it is a script that gave us its descriptor, then not longer than that lives.
#[derive(Clone, Copy)]
enum Script {
    None,
    Parent(u32),
}

/// One call to acquire: what is shared between its locks.
struct Attempt<'a> {
    request: &'a Request<'a>,
    contention: &'a mut dyn Contention,
    script: Script,
    started: Instant,
    /// Of the records, if it is there already.
    draft: Option<RecordDraft>,
    /// What was taken already on descriptors of the script.
    taken: Vec<RawFd>,
}

impl<'a> Attempt<'a> {
    fn new(request: &'a Request, contention: &'a mut dyn Contention, script: Script) -> Self {
        let now = Instant::now();
        let started = now.checked_sub(request.waited).unwrap_or(now);
        Self { request, contention, script, started, draft: None, taken: Vec::new() }
    }

    /// Acquires the lock of `target`, or returns another guard of one of `guards` if it is a second path to the same file.
    fn by_name(&mut self, target: &Target, store: Option<&Store>, guards: &[Guard]) -> Result<Guard, LockError> {
        if let Some(guard) = self.handed_down(target)? {
            return Ok(guard);
        }
        for _ in 0..MAX_OPENS {
            let target = &*target.resolved();
            let file = open_lock_file(target, store)?;
            // The kernel would make the second descriptor wait for the first one, forever.
            if let Some(first) = guards.iter().find(|guard| os::same_file(&guard.file, &file).unwrap_or(false)) {
                // With a guard of its own, because one of the two paths may lead to another file before the last grant.
                let file = first.file.try_clone().map_err(|source| cannot_open(&target.path, source))?;
                return Ok(Guard { file, target: target.clone(), inherited: first.inherited, fresh: false });
            }
            if !self.try_lock(&file, target)? {
                if let Some(guard) = self.inherited(target)? {
                    return Ok(guard);
                }
                self.wait(&file, target)?;
            }
            // Acquired is not yet valid: it may have been removed since we opened it, and another may hold the
            // file that stands there now.
            if target.is_open_as(&file) {
                return Ok(Guard { file, target: target.clone(), inherited: None, fresh: true });
            }
            self.note(&LockEvent::Replaced, target);
        }
        Err(LockError::KeepsChanging { path: target.path.clone() })
    }

    /// A lock that an ancestor holds and handed down to us is no conflict: it is the same lock.
    fn handed_down(&self, target: &Target) -> Result<Option<Guard>, LockError> {
        self.held_through_one_of(inherited_descriptors(), target, held_from_above)
    }

    /// The same for a lock that is not listed in the environment: a script that ran `aba-lock lock --fd` cannot be made to
    /// list it. This examines every descriptor, so it is only for a lock that is not free. A lock that another program
    /// acquired, such as flock(1), is not handed down.
    fn inherited(&self, target: &Target) -> Result<Option<Guard>, LockError> {
        self.held_through_one_of(os::inherited_descriptors(), target, held_for_ancestor)
    }

    fn held_through_one_of(
        &self,
        fds: Vec<RawFd>,
        target: &Target,
        is_handed_down: fn(&File, u32) -> bool,
    ) -> Result<Option<Guard>, LockError> {
        for fd in fds {
            let Some(file) = os::second_descriptor(fd) else { continue };
            if target.is_open_as(&file)
                && let Some(held) = held_mode(&file)
                && is_handed_down(&file, std::process::id())
            {
                self.allows(held, target)?;
                return Ok(Some(Guard { file, target: target.clone(), inherited: Some(fd), fresh: false }));
            }
        }
        Ok(None)
    }

    fn by_descriptor(&mut self, target: Target, fd: RawFd) -> Result<Guard, LockError> {
        let file = os::second_descriptor(fd).ok_or(LockError::BadDescriptor { fd })?;
        if !target.is_open_as(&file) {
            let kind = fs::symlink_metadata(&target.path).map(|data| data.file_type());
            return Err(match kind {
                Ok(kind) if target.kind == Kind::Named && !kind.is_file() => {
                    LockError::NotRegular { path: target.path, kind: word_for(kind) }
                }
                _ => {
                    self.note(&LockEvent::Replaced, &target);
                    LockError::Replaced { fd, path: target.path }
                }
            });
        }
        let handed_down = inherited_descriptors().contains(&fd);
        let content = record::read(&file);
        // It would be harmless to lock again what this description holds, were it not for the mode: a request for a shared
        // lock would weaken the script's exclusive lock, and a request for an exclusive lock would release the shared one,
        // even if it then fails. A file of the user has no record that shows the mode.
        if (handed_down || target.kind == Kind::Users || may_be_held(&content, &file))
            && let Some(held) = held_mode(&file)
        {
            if handed_down && !held_from_above(&file, self.request.holder) {
                return Err(LockError::Replaced { fd, path: target.path });
            }
            self.allows(held, &target)?;
            return Ok(Guard { file, target, inherited: Some(fd), fresh: false });
        }
        // A description that was handed down is shared with others who may ask for the same, and to lock it would
        // let all of them in: only who took it himself may take it again.
        if handed_down && !is_taker(&content, self.request.holder) {
            return Err(LockError::Replaced { fd, path: target.path });
        }
        if !self.try_lock(&file, &target)? {
            self.wait(&file, &target)?;
        }
        if target.is_open_as(&file) {
            Ok(Guard { file, target, inherited: Some(fd), fresh: true })
        } else {
            let _ = os::unlock(&file);
            self.note(&LockEvent::Replaced, &target);
            Err(LockError::Replaced { fd, path: target.path })
        }
    }

    fn allows(&self, held: Mode, target: &Target) -> Result<(), LockError> {
        if held == Mode::Shared && self.request.mode == Mode::Exclusive {
            return Err(LockError::Upgrade { label: target.label.clone(), held });
        }
        Ok(())
    }

    fn note(&self, event: &LockEvent, target: &Target) {
        events::log_event(event, target, self.request.holder, self.request.command.as_deref());
    }

    fn try_lock(&self, file: &File, target: &Target) -> Result<bool, LockError> {
        os::try_lock(file, self.request.mode).map_err(|source| LockError::cannot_lock(&target.path, source))
    }

    /// Reports the contention, and then blocks for as long as the request allows.
    fn wait(&mut self, file: &File, target: &Target) -> Result<(), LockError> {
        if self.request.logs_contention {
            self.note(&LockEvent::Contended { waits: self.request.wait.blocks() }, target);
        }
        let limit = match self.request.wait {
            Wait::No | Wait::For(Duration::ZERO) => None,
            Wait::Forever => Some(None),
            Wait::For(limit) => Some(Some(limit)),
        };
        let (label, path, kind) = (target.label.clone(), target.path.clone(), target.kind);
        let Some(limit) = limit else {
            return Err(match self.request.wait {
                Wait::For(after) => LockError::TimedOut { label, path, kind, after },
                _ => LockError::Busy { label, path, kind },
            });
        };
        self.block(file, target, limit)
    }

    fn block(&mut self, file: &File, target: &Target, limit: Option<Duration>) -> Result<(), LockError> {
        // While there is time: who comes next waits for what is done after the grant.
        if self.draft.is_none() {
            self.draft = Some(self.draft());
        }
        // A shell at its prompt goes on after Ctrl-C, and has the descriptors open.
        let _unlocks = os::UnlocksAtEnd::begin(&self.taken);
        let alarm = os::Alarm::new();
        if let Script::Parent(_) = self.script {
            alarm.when_parent_ends();
        }
        let has_ended = || matches!(self.script, Script::Parent(pid) if os::parent_id() != pid);
        let deadline = limit.and_then(|limit| self.started.checked_add(limit));
        let go_on = &mut || if has_ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let waited = wait::wait(self.contention, (target, file, self.request.mode), &alarm, deadline, go_on);
        if self.request.ends && matches!(waited, Ok(Waited::Granted)) {
            alarm.leave();
        } else {
            drop(alarm);
        }
        let (label, path, kind) = (target.label.clone(), target.path.clone(), target.kind);
        match waited.map_err(|source| LockError::cannot_lock(&target.path, source))? {
            Waited::Granted => Ok(()),
            Waited::Circle(circle) => {
                self.note(&LockEvent::Deadlock { circle: &circle.to_string() }, target);
                Err(LockError::Deadlock { label, circle: Box::new(circle) })
            }
            Waited::GivenUp if has_ended() => Err(LockError::ScriptEnded { label }),
            Waited::GivenUp => {
                self.note(&LockEvent::TimedOut { waited: self.started.elapsed() }, target);
                Err(LockError::TimedOut { label, path, kind, after: limit.unwrap_or_default() })
            }
        }
    }
}

impl Attempt<'_> {
    fn draft(&self) -> RecordDraft {
        let request = self.request;
        let taker = match self.script {
            Script::None => Taker::new(request.holder, request.command.as_deref()),
            Script::Parent(pid) => Taker::parent(pid),
        };
        RecordDraft::new(taker, request.mode, request.who, request.pid_file)
    }

    /// Writes the records. What an ancestor holds keeps its own.
    fn finish(mut self, guards: Vec<Guard>) -> Acquired {
        let request = self.request;
        // Who shares a lock has the token of the others, which is that of a whole record; else it is a bound.
        let last_token = |guard: &Guard| match request.mode {
            Mode::Exclusive => record::last_token(&guard.file),
            Mode::Shared => match record::read(&guard.file) {
                Content::Foreign => None,
                content => Some(content.token()),
            },
        };
        let lasts: Vec<Option<u64>> = guards.iter().map(last_token).collect();
        let last = lasts.iter().flatten().copied().max().unwrap_or(0);
        let mut acquired = Acquired { token: last, unrecorded: None, guards };
        if !acquired.guards.iter().any(|guard| guard.fresh) {
            return acquired;
        }
        if request.mode == Mode::Exclusive || last == 0 {
            acquired.token = record::next_token(last);
        }
        let draft = self.draft.take().unwrap_or_else(|| self.draft());
        let (record, text) = draft.finish(acquired.token);
        // What the user named with `--file` is the user's: an empty file is to stay empty. So is what another wrote.
        let is_ours = |guard: &Guard, last: &Option<u64>| guard.target.kind != Kind::Users && last.is_some();
        for (guard, last) in acquired.guards.iter().zip(&lasts).filter(|(guard, _)| guard.fresh) {
            if !is_ours(guard, last) {
                os::set_owner(&guard.file, request.holder);
                continue;
            }
            // A file of another user's may be closed to us: that is how it is, and no fault.
            let silent = |error: &io::Error| {
                [libc::EACCES, libc::EPERM, libc::EROFS, libc::EISDIR, libc::EBADF, libc::EINVAL, libc::ETXTBSY]
                    .contains(&error.raw_os_error().unwrap_or(0))
            };
            match record::write_text(&guard.file, &guard.target.path, &text) {
                // The record of a shared lock is replaced by that of the next sharer. In another pid namespace than the first
                // one, the kernel does not name a locker that has ended, and so does not say whether this record still counts.
                Ok(()) if request.mode == Mode::Exclusive && record.ns == lock_table::FIRST_NAMESPACE => continue,
                Err(error) if !silent(&error) => acquired.unrecorded = Some((guard.target.path.clone(), error)),
                _ => {}
            }
            os::set_owner(&guard.file, request.holder);
        }
        events::log_acquired(&acquired, request, &record.command, self.started);
        acquired
    }
}
