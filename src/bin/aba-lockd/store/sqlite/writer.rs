//! The one who makes changes. A turn takes all that is asked by now, and all leases that end by now, into one transaction,
//! and answers when that is on disk. What a turn changes in memory it changes after that, or never.

use super::batch::{Answer, Turn};
use super::store_files::Place;
use super::table::{self, Unusable};
use crate::model::{Change, Lock, Problem, Wanted};
use crate::store::grant::Given;
use crate::store::sqlite::queue::{Queue, Reply};
use crate::telemetry::Journal;
use rusqlite::{Connection, TransactionBehavior};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// At most so many in one transaction, so that the first of them does not wait for long.
const MOST_IN_A_TURN: usize = 256;

/// After a fault, what is to be done without being asked is tried again so late.
const PAUSE: Duration = Duration::from_millis(200);

/// What can be asked.
pub(super) enum Order {
    Create {
        wanted: Wanted,
        number: u64,
        reply: Reply,
    },
    Update {
        id: String,
        change: Change,
        reply: Reply,
    },
    /// Without a reply: who had it is gone.
    Remove {
        id: String,
        reply: Option<Reply>,
    },
    Renew {
        id: String,
        ttl: Option<Duration>,
        reply: Reply,
    },
    Check {
        reply: oneshot::Sender<Result<(), Problem>>,
    },
}

pub(super) struct Engine {
    connection: Connection,
    file: Arc<Place>,
    queue: Arc<Queue>,
    /// To ourselves: locks that are taken back.
    orders: Sender<Order>,
    journal: Arc<Journal>,
    /// When leases end, by a clock that nobody sets.
    ends: Ends,
}

#[derive(Default)]
struct Ends {
    order: BTreeSet<(Instant, String)>,
    by_id: HashMap<String, Instant>,
}

impl Ends {
    fn set(&mut self, id: String, end: Option<Instant>) {
        if let Some(old) = self.by_id.remove(&id) {
            self.order.remove(&(old, id.clone()));
        }
        if let Some(end) = end {
            self.by_id.insert(id.clone(), end);
            self.order.insert((end, id));
        }
    }
}

impl Engine {
    pub(super) fn open(
        path: &Path,
        base: u64,
        queue: Arc<Queue>,
        orders: Sender<Order>,
        journal: Arc<Journal>,
    ) -> Result<Self, Unusable> {
        let mut connection = table::open(path)?;
        let mut ends = Ends::default();
        let (now, instant) = (table::now(), Instant::now());
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        table::raise_token(&change, base)?;
        let mut expired = Vec::new();
        for mut lock in table::leases(&change)? {
            if lock.expires.is_none_or(|expires| expires > now) {
                lock.expires = lock.ttl.and_then(|ttl| now.checked_add(ttl).ok());
                table::replace(&change, &lock)?;
                ends.set(lock.id, lock.ttl.map(|ttl| instant + ttl));
            } else {
                table::delete(&change, &lock.id)?;
                expired.push(lock);
            }
        }
        change.commit()?;
        for lock in &expired {
            journal.expired(lock);
        }
        let file = Place::of(path).map_err(|error| Unusable { why: error.to_string(), hint: None })?;
        Ok(Self { connection, file: Arc::new(file), queue, orders, journal, ends })
    }

    /// Where it is, for who reads.
    pub(super) fn file(&self) -> Arc<Place> {
        Arc::clone(&self.file)
    }

    /// Until nobody can ask any more.
    pub(super) fn run(mut self, asked: &Receiver<Order>) {
        loop {
            let next = self.ends.order.first().map(|(end, _)| end.saturating_duration_since(Instant::now()));
            let mut orders = Vec::new();
            match next.map_or_else(|| asked.recv().map_err(RecvTimeoutError::from), |next| asked.recv_timeout(next)) {
                Ok(order) => orders.push(order),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while orders.len() < MOST_IN_A_TURN
                && let Ok(order) = asked.try_recv()
            {
                orders.push(order);
            }
            self.turn(orders);
        }
    }

    fn turn(&mut self, orders: Vec<Order>) {
        let instant = Instant::now();
        let due: Vec<String> =
            self.ends.order.iter().take_while(|(end, _)| *end <= instant).map(|(_, id)| id.clone()).collect();
        // Those who could not be told of anything are told of the fault.
        let mut orders = orders.into_iter();
        let begun = self.file.check().and_then(|()| {
            let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
            begun.map_err(|error| Problem::Fault(error.to_string()))
        });
        let change = match begun {
            Ok(change) => change,
            Err(problem) => {
                orders.for_each(|order| refuse(order, &problem, &self.orders));
                thread::sleep(PAUSE);
                return;
            }
        };
        let mut turn = Turn::new(change, &self.queue, instant);
        let mut result = due.iter().try_for_each(|id| turn.expire(id));
        while result.is_ok()
            && let Some(order) = orders.next()
        {
            result = turn.take(order);
        }
        let Turn { change, answers, checks, ends, expired, taken_back, touched, .. } = turn;
        // A transaction that is dropped is rolled back.
        if let Err(error) = result.and_then(|()| change.commit()) {
            let problem = Problem::Fault(error.to_string());
            for answer in answers {
                let _ = answer.reply.send(Err(problem.clone()));
            }
            for check in checks {
                let _ = check.send(Err(problem.clone()));
            }
            for key in touched {
                while let Some(waiter) = self.queue.next(&key) {
                    let _ = waiter.reply.send(Err(problem.clone()));
                }
            }
            orders.for_each(|order| refuse(order, &problem, &self.orders));
            for id in taken_back {
                let _ = self.orders.send(Order::Remove { id, reply: None });
            }
            // It is asked again at once otherwise, and so for as long as the fault lasts.
            thread::sleep(PAUSE);
            return;
        }
        for (id, end) in ends {
            self.ends.set(id, end);
        }
        for lock in expired {
            self.journal.expired(&lock);
        }
        // It may have gone to where nobody finds it again.
        let kept = self.file.check();
        for check in checks {
            let _ = check.send(kept.clone());
        }
        for Answer { reply, result, fresh } in answers {
            // If nobody is there to take it, or nobody may have it, it is dropped, and so taken back.
            let give = |lock| if fresh { given(lock, &self.orders, &self.journal) } else { Given::new(lock, None) };
            let result = result.map(give);
            let _ = reply.send(kept.clone().and(result));
        }
    }
}

/// A lock that is taken back if nobody takes it.
fn given(lock: Lock, orders: &Sender<Order>, journal: &Arc<Journal>) -> Given {
    let (orders, journal) = (orders.clone(), Arc::clone(journal));
    Given::new(
        lock,
        Some(Box::new(move |lock: Lock| {
            journal.taken_back(&lock);
            let _ = orders.send(Order::Remove { id: lock.id, reply: None });
        })),
    )
}

/// Answers what could not be done. A lock that nobody has is taken back later.
fn refuse(order: Order, problem: &Problem, orders: &Sender<Order>) {
    match order {
        Order::Create { reply, .. }
        | Order::Update { reply, .. }
        | Order::Remove { reply: Some(reply), .. }
        | Order::Renew { reply, .. } => drop(reply.send(Err(problem.clone()))),
        Order::Check { reply } => drop(reply.send(Err(problem.clone()))),
        Order::Remove { reply: None, id } => {
            let _ = orders.send(Order::Remove { reply: None, id });
        }
    }
}
