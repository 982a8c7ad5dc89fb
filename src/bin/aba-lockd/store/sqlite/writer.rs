//! The writer thread, the only one that changes the store.
//!
//! It collects all pending commands and all locks that have expired into one batch, and answers the callers when the
//! batch is on disk. If the batch fails, it changes nothing in memory except the queues, and the callers get an error.

use super::batch::{Batch, BatchAnswer};
use super::command::WriterCommand;
use super::history;
use super::queue::WaitQueues;
use super::store_files::StoreFiles;
use super::table::{self, StoreFileError};
use crate::error::CallError;
use crate::event_feed::EventFeed;
use crate::model::{self, Lock};
use crate::past_lock::{EndCause, EndKind, PastLock};
use crate::store::grant::PendingGrant;
use crate::telemetry::Telemetry;
use rusqlite::{Connection, TransactionBehavior};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum number of commands in a batch, so that the first caller does not wait long.
const MAX_BATCH: usize = 256;

/// Pause of the thread after a fault. Without the pause, commands that the thread repeats by itself would keep it busy
/// during the fault.
const FAULT_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct StoreWriter {
    connection: Connection,
    files: Arc<StoreFiles>,
    queues: Arc<WaitQueues>,
    /// Sends commands to this thread itself, to take locks back.
    commands: Sender<WriterCommand>,
    telemetry: Arc<Telemetry>,
    feed: Arc<EventFeed>,
    deadlines: LeaseDeadlines,
}

/// The expiry of each lock with a time to live, by the monotonic clock.
#[derive(Default)]
struct LeaseDeadlines {
    ordered: BTreeSet<(Instant, String)>,
    by_id: HashMap<String, Instant>,
}

impl LeaseDeadlines {
    fn set(&mut self, id: String, deadline: Option<Instant>) {
        if let Some(old) = self.by_id.remove(&id) {
            self.ordered.remove(&(old, id.clone()));
        }
        if let Some(deadline) = deadline {
            self.by_id.insert(id.clone(), deadline);
            self.ordered.insert((deadline, id));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.ordered.first().map(|(deadline, _)| *deadline)
    }

    fn list_due(&self, now: Instant) -> Vec<String> {
        self.ordered.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| id.clone()).collect()
    }
}

impl StoreWriter {
    pub(super) fn open(
        path: &Path,
        token_base: u64,
        queues: Arc<WaitQueues>,
        commands: Sender<WriterCommand>,
        telemetry: Arc<Telemetry>,
        feed: Arc<EventFeed>,
    ) -> Result<Self, StoreFileError> {
        let mut connection = table::open(path)?;
        let mut deadlines = LeaseDeadlines::default();
        let (now, instant) = (model::current_time(), Instant::now());
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        table::raise_token(&transaction, token_base)?;
        let mut expired = Vec::new();
        for mut lock in table::list_leases(&transaction)? {
            if lock.expires.is_none_or(|expires| expires > now) {
                lock.restart_ttl(now);
                table::replace(&transaction, &lock)?;
                deadlines.set(lock.id, lock.ttl.map(|ttl| instant + ttl));
            } else {
                table::delete(&transaction, &lock.id)?;
                let end = EndCause::without_caller(EndKind::Expired).at(lock.expires.unwrap_or(now));
                history::append(&transaction, &PastLock::new(&lock, end))?;
                expired.push(lock);
            }
        }
        transaction.commit()?;
        for lock in &expired {
            telemetry.record_expiry(lock);
        }
        let files = StoreFiles::record(path).map_err(|error| StoreFileError { why: error.to_string(), hint: None })?;
        Ok(Self { connection, files: Arc::new(files), queues, commands, telemetry, feed, deadlines })
    }

    /// Returns the files of the store, for the readers to check.
    pub(super) fn files(&self) -> Arc<StoreFiles> {
        Arc::clone(&self.files)
    }

    /// Executes commands until the process ends: the thread itself holds a sender, so the channel stays open.
    pub(super) fn run(mut self, pending: &Receiver<WriterCommand>) {
        loop {
            let received = match self.deadlines.first() {
                Some(deadline) => pending.recv_timeout(deadline.saturating_duration_since(Instant::now())),
                None => pending.recv().map_err(RecvTimeoutError::from),
            };
            let mut commands = match received {
                Ok(command) => vec![command],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while commands.len() < MAX_BATCH
                && let Ok(command) = pending.try_recv()
            {
                commands.push(command);
            }
            self.run_batch(commands);
        }
    }

    fn run_batch(&mut self, commands: Vec<WriterCommand>) {
        let instant = Instant::now();
        let due = self.deadlines.list_due(instant);
        let mut commands = commands.into_iter();
        let begun = self.files.check().and_then(|()| {
            let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
            begun.map_err(|error| CallError::Fault(error.to_string()))
        });
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                commands.for_each(|command| refuse(command, &error, &self.commands));
                thread::sleep(FAULT_PAUSE);
                return;
            }
        };
        let mut batch = Batch::new(transaction, &self.queues, instant);
        let mut result = due.iter().try_for_each(|id| batch.expire(id));
        while result.is_ok()
            && let Some(command) = commands.next()
        {
            result = batch.execute(command);
        }
        let Batch { transaction, answers, checks, deadlines, expired, events, taken_back, touched, .. } = batch;
        // After an error, dropping the transaction rolls it back.
        if let Err(error) = result.and_then(|()| transaction.commit()) {
            let error = CallError::Fault(error.to_string());
            for answer in answers {
                let _ = answer.reply.send(Err(error.clone()));
            }
            for check in checks {
                let _ = check.send(Err(error.clone()));
            }
            for key in touched {
                while let Some(entry) = self.queues.pop_if(&key, |_| true) {
                    let _ = entry.reply.send(Err(error.clone()));
                }
            }
            commands.for_each(|command| refuse(command, &error, &self.commands));
            for id in taken_back {
                let _ = self.commands.send(new_take_back(id));
            }
            thread::sleep(FAULT_PAUSE);
            return;
        }
        for (id, deadline) in deadlines {
            self.deadlines.set(id, deadline);
        }
        for lock in expired {
            self.telemetry.record_expiry(&lock);
        }
        self.feed.publish_all(events);
        // The batch may have been written to a file that was removed or replaced after the first check.
        let files_checked = self.files.check();
        for check in checks {
            let _ = check.send(files_checked.clone());
        }
        for BatchAnswer { reply, result, is_granted } in answers {
            // If the answer is not sent or not received, the grant is dropped, which takes the lock back.
            let result = result.map(|lock| {
                if is_granted {
                    new_grant(lock, &self.commands, &self.telemetry)
                } else {
                    PendingGrant::new(lock, None)
                }
            });
            let _ = reply.send(files_checked.clone().and(result));
        }
    }
}

/// Returns a grant that is taken back if the caller does not receive it.
fn new_grant(lock: Lock, commands: &Sender<WriterCommand>, telemetry: &Arc<Telemetry>) -> PendingGrant {
    let (commands, telemetry) = (commands.clone(), Arc::clone(telemetry));
    let take_back = move |lock: Lock| {
        telemetry.record_take_back(&lock);
        let _ = commands.send(new_take_back(lock.id));
    };
    PendingGrant::new(lock, Some(Box::new(take_back)))
}

/// Returns the command that takes a lock back, because its caller has gone.
fn new_take_back(id: String) -> WriterCommand {
    WriterCommand::Remove { id, cause: EndCause::without_caller(EndKind::TakenBack), reply: None }
}

/// Answers a command that could not be executed. A lock that must be taken back is taken back later.
fn refuse(command: WriterCommand, error: &CallError, commands: &Sender<WriterCommand>) {
    match command {
        WriterCommand::Create { reply, .. }
        | WriterCommand::Update { reply, .. }
        | WriterCommand::Remove { reply: Some(reply), .. }
        | WriterCommand::Renew { reply, .. } => drop(reply.send(Err(error.clone()))),
        WriterCommand::Check { reply } => drop(reply.send(Err(error.clone()))),
        WriterCommand::Remove { reply: None, id, .. } => {
            let _ = commands.send(new_take_back(id));
        }
        WriterCommand::Serve { key } => {
            let _ = commands.send(WriterCommand::Serve { key });
        }
    }
}
