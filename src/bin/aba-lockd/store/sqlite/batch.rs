//! A batch: the commands that the writer thread executes in one transaction.
//!
//! Nothing leaves the batch before the transaction is on disk. Answers and changes of the state in memory are
//! collected, and the writer thread applies them after the commit. Only the queues are changed at once: if the batch
//! fails, the waiters of the keys that it touched get an error.

use super::command::WriterCommand;
use super::history;
use super::queue::{QueueEntry, WaitQueues};
use super::table;
use crate::error::CallError;
use crate::event_feed::{LockChange, LockEvent};
use crate::model::{self, Lock, LockFields, LockKey, LockRequest};
use crate::past_lock::{EndCause, EndKind, PastLock};
use crate::store::grant::GrantSender;
use aba_lock_protocol::sharing::Admission;
use jiff::Timestamp;
use rusqlite::Transaction;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The result of a command. The outer error is that of SQLite, after which the batch fails.
type CommandResult = rusqlite::Result<Result<Lock, CallError>>;

/// An answer that is sent after the commit.
pub(super) struct BatchAnswer {
    pub(super) reply: GrantSender,
    pub(super) result: Result<Lock, CallError>,
    /// True if the lock was granted by this batch: it is taken back if the caller does not receive the answer.
    pub(super) is_granted: bool,
}

pub(super) struct Batch<'a> {
    pub(super) transaction: Transaction<'a>,
    queues: &'a WaitQueues,
    now: Timestamp,
    instant: Instant,
    pub(super) answers: Vec<BatchAnswer>,
    pub(super) checks: Vec<oneshot::Sender<Result<(), CallError>>>,
    /// The new expiry of each lock whose expiry has changed. `None`: the lock does not expire, or was removed.
    pub(super) deadlines: Vec<(String, Option<Instant>)>,
    pub(super) expired: Vec<Lock>,
    /// The changes, in their order.
    pub(super) events: Vec<LockEvent>,
    /// Locks to take back. If the batch fails, they must be taken back later.
    pub(super) taken_back: Vec<String>,
    /// Keys whose queue may have changed, or whose lock was granted or released.
    pub(super) touched: Vec<LockKey>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(transaction: Transaction<'a>, queues: &'a WaitQueues, instant: Instant) -> Self {
        Self {
            transaction,
            queues,
            now: model::current_time(),
            instant,
            answers: Vec::new(),
            checks: Vec::new(),
            deadlines: Vec::new(),
            expired: Vec::new(),
            events: Vec::new(),
            taken_back: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Executes a command. After an error, the batch fails, and no further command may be executed.
    pub(super) fn execute(&mut self, command: WriterCommand) -> rusqlite::Result<()> {
        match command {
            WriterCommand::Create { request, number, reply } => self.create(request, number, reply),
            WriterCommand::Serve { key } => self.serve(&key),
            WriterCommand::Check { reply } => {
                self.checks.push(reply);
                table::write_probe(&self.transaction, self.now)
            }
            WriterCommand::Remove { id, cause, reply: Some(reply) } => {
                let result = self.with_lock(&id, |batch, lock| batch.remove(lock, cause));
                self.answer(reply, result, false)
            }
            WriterCommand::Remove { id, cause, reply: None } => {
                self.taken_back.push(id.clone());
                self.with_lock(&id, |batch, lock| batch.remove(lock, cause)).map(drop)
            }
            WriterCommand::Update { id, changes, by, reply } => {
                let result = self.with_lock(&id, |batch, lock| batch.update(&lock, &changes, by));
                self.answer(reply, result, false)
            }
            WriterCommand::Renew { id, ttl, reply } => {
                let result = self.with_lock(&id, |batch, lock| batch.renew(lock, ttl));
                self.answer(reply, result, false)
            }
        }
    }

    /// Adds an answer, also for the command at which the batch fails.
    fn answer(&mut self, reply: GrantSender, result: CommandResult, is_granted: bool) -> rusqlite::Result<()> {
        let (result, outcome) = match result {
            Ok(result) => (result, Ok(())),
            Err(error) => (Err(CallError::Fault(error.to_string())), Err(error)),
        };
        self.answers.push(BatchAnswer { reply, result, is_granted });
        outcome
    }

    fn with_lock(&mut self, id: &str, change: impl FnOnce(&mut Self, Lock) -> CommandResult) -> CommandResult {
        match table::find_by_id(&self.transaction, id)? {
            Some(lock) => change(self, lock),
            None => Ok(Err(CallError::Unknown(id.to_owned()))),
        }
    }

    fn create(&mut self, request: LockRequest, number: u64, reply: GrantSender) -> rusqlite::Result<()> {
        // The caller has gone, so its request is not executed.
        if reply.is_closed() {
            return Ok(());
        }
        let mut holders = match table::list_by_key(&self.transaction, &request.key) {
            Ok(holders) => holders,
            Err(error) => return self.answer(reply, Err(error), false),
        };
        if let Some(at) = holders.iter().position(|held| request.is_repeat_of(held)) {
            return self.answer(reply, Ok(Err(CallError::Held(Box::new(holders.swap_remove(at))))), false);
        }
        match admit(&request, &holders) {
            Ok(Admission::Granted(slot)) if holders.is_empty() || !self.queues.has_waiter(&request.key) => {
                self.grant(&request, slot, reply)
            }
            Ok(_) if request.wait.is_some() => {
                self.touched.push(request.key.clone());
                self.queues.join(QueueEntry { number, request, reply });
                Ok(())
            }
            // The oldest holder is in the way, or it is before the waiters that this request may not overtake.
            Ok(_) => self.answer(reply, Ok(Err(CallError::Held(Box::new(holders.swap_remove(0))))), false),
            Err(refusal) => self.answer(reply, Ok(Err(refusal)), false),
        }
    }

    fn grant(&mut self, request: &LockRequest, slot: Option<u32>, reply: GrantSender) -> rusqlite::Result<()> {
        let result = self.insert_lock(request, slot);
        let granted = result.as_ref().ok().cloned();
        self.answer(reply, result.map(Ok), true)?;
        // A caller that repeated its request must not wait for its own lock.
        if let Some(lock) = granted {
            for repeat in self.queues.remove_repeats_of(&lock) {
                self.answer(repeat.reply, Ok(Err(CallError::Held(Box::new(lock.clone())))), false)?;
            }
        }
        Ok(())
    }

    fn insert_lock(&mut self, request: &LockRequest, slot: Option<u32>) -> rusqlite::Result<Lock> {
        let mut lock = request.to_lock(uuid::Uuid::new_v4().to_string(), self.now);
        lock.slot = slot;
        lock.token = table::take_token(&self.transaction, self.now)?;
        table::insert(&self.transaction, &lock)?;
        self.set_deadline(&lock);
        self.touched.push(lock.key.clone());
        self.events.push(LockEvent::new(LockChange::Created, &lock));
        Ok(lock)
    }

    fn set_deadline(&mut self, lock: &Lock) {
        self.deadlines.push((lock.id.clone(), lock.ttl.map(|ttl| self.instant + ttl)));
    }

    /// Grants a key to its first waiters in the same transaction, so that no later request can be served before them.
    /// Ends at the first one that must wait.
    fn serve(&mut self, key: &LockKey) -> rusqlite::Result<()> {
        self.touched.push(key.clone());
        while self.queues.has_waiter(key) {
            let holders = table::list_by_key(&self.transaction, key)?;
            let mut decision = Ok(Admission::Busy);
            let first = self.queues.pop_if(key, |request| {
                decision = admit(request, &holders);
                !matches!(decision, Ok(Admission::Busy))
            });
            match (first, decision) {
                (Some(entry), Ok(Admission::Granted(slot))) => self.grant(&entry.request, slot, entry.reply)?,
                (Some(entry), Err(refusal)) => self.answer(entry.reply, Ok(Err(refusal)), false)?,
                (Some(_), Ok(_)) | (None, _) => break,
            }
        }
        Ok(())
    }

    /// Adds the end of a lock, or of its key, to the history and to the events.
    fn record_end(&mut self, lock: &Lock, cause: EndCause) -> rusqlite::Result<()> {
        let end = cause.at(self.now);
        history::append(&self.transaction, &PastLock::new(lock, end.clone()))?;
        self.events.push(LockEvent::new(LockChange::Ended(end), lock));
        Ok(())
    }

    fn remove(&mut self, lock: Lock, cause: EndCause) -> CommandResult {
        table::delete(&self.transaction, &lock.id)?;
        self.record_end(&lock, cause)?;
        self.deadlines.push((lock.id.clone(), None));
        self.serve(&lock.key)?;
        Ok(Ok(lock))
    }

    /// Removes a lock whose time to live has passed.
    pub(super) fn expire(&mut self, id: &str) -> rusqlite::Result<()> {
        self.deadlines.push((id.to_owned(), None));
        if let Some(lock) = table::find_by_id(&self.transaction, id)? {
            let _ = self.remove(lock.clone(), EndCause::without_caller(EndKind::Expired))?;
            self.expired.push(lock);
        }
        Ok(())
    }

    fn update(&mut self, lock: &Lock, changes: &LockFields, by: String) -> CommandResult {
        let mut new = changes.apply_to(lock);
        let moves = new.key != lock.key;
        if moves {
            // A lock moves only to a key that is free, whatever its mode.
            if let Some(held) = table::list_by_key(&self.transaction, &new.key)?.into_iter().next() {
                return Ok(Err(CallError::Held(Box::new(held))));
            }
            // An earlier lock of the new key may have a greater token than this lock.
            new.token = table::take_token(&self.transaction, self.now)?;
            self.touched.push(new.key.clone());
        }
        table::replace(&self.transaction, &new)?;
        if moves {
            self.record_end(lock, EndCause { kind: EndKind::Moved, by })?;
        }
        let change = if moves { LockChange::Created } else { LockChange::Updated };
        self.events.push(LockEvent::new(change, &new));
        if moves {
            self.serve(&lock.key)?;
        }
        Ok(Ok(new))
    }

    fn renew(&mut self, mut lock: Lock, ttl: Option<Duration>) -> CommandResult {
        lock.ttl = ttl.or(lock.ttl);
        lock.restart_ttl(self.now);
        table::replace(&self.transaction, &lock)?;
        self.set_deadline(&lock);
        self.events.push(LockEvent::new(LockChange::Renewed, &lock));
        Ok(Ok(lock))
    }
}

/// Decides on a request while these locks of its key are held. The error refuses it.
fn admit(request: &LockRequest, holders: &[Lock]) -> Result<Admission, CallError> {
    match request.sharing.admit(holders.iter().map(|held| (held.sharing, held.slot))) {
        Admission::OtherNumber(held) => Err(CallError::other_slots(holders, held, request.sharing)),
        admission => Ok(admission),
    }
}
