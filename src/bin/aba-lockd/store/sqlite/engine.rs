//! The one who makes changes. A turn takes all that is asked by now, and all leases that end by now, into one transaction,
//! and answers when that is on disk. What a turn changes in memory it changes after that, or never.

use super::place::Place;
use super::table::{self, Unusable};
use crate::journal::Journal;
use crate::model::{Change, Key, Lock, Problem, Wanted};
use crate::store::given::Given;
use crate::store::queue::{Queue, Reply, Waiter};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
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

/// An answer, to be given when the turn is on disk.
struct Answer {
    reply: Reply,
    result: Result<Lock, Problem>,
    /// Whether the lock is new, and is to be taken back if nobody takes the answer.
    fresh: bool,
}

/// What a turn has done so far.
struct Turn<'a> {
    change: Transaction<'a>,
    queue: &'a Queue,
    now: Timestamp,
    instant: Instant,
    answers: Vec<Answer>,
    checks: Vec<oneshot::Sender<Result<(), Problem>>>,
    ends: Vec<(String, Option<Instant>)>,
    expired: Vec<Lock>,
    /// Locks that nobody has: if the turn comes to nothing, that is to be done again.
    taken_back: Vec<String>,
    /// Keys that became free or held: if the turn comes to nothing, who waits for them waits for something else.
    touched: Vec<Key>,
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
        let (now, instant) = (table::now(), Instant::now());
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
        let mut turn = Turn {
            change,
            queue: &self.queue,
            now,
            instant,
            answers: Vec::new(),
            checks: Vec::new(),
            ends: Vec::new(),
            expired: Vec::new(),
            taken_back: Vec::new(),
            touched: Vec::new(),
        };
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

impl Turn<'_> {
    fn take(&mut self, order: Order) -> rusqlite::Result<()> {
        match order {
            Order::Create { wanted, number, reply } => self.create(wanted, number, reply),
            Order::Check { reply } => {
                self.checks.push(reply);
                table::touch(&self.change, self.now)
            }
            Order::Remove { id, reply: Some(reply) } => {
                let done = self.with(&id, Self::remove);
                self.answer(reply, done, false)
            }
            Order::Remove { id, reply: None } => {
                self.taken_back.push(id.clone());
                self.with(&id, Self::remove).map(drop)
            }
            Order::Update { id, change, reply } => {
                let done = self.with(&id, |turn, lock| turn.update(&lock, &change));
                self.answer(reply, done, false)
            }
            Order::Renew { id, ttl, reply } => {
                let done = self.with(&id, |turn, lock| turn.renew(lock, ttl));
                self.answer(reply, done, false)
            }
        }
    }

    /// Keeps the answer, also that of whose order the turn fails of: they are told, too.
    fn answer(
        &mut self,
        reply: Reply,
        done: rusqlite::Result<Result<Lock, Problem>>,
        fresh: bool,
    ) -> rusqlite::Result<()> {
        let (result, done) = match done {
            Ok(result) => (result, Ok(())),
            Err(error) => (Err(Problem::Fault(error.to_string())), Err(error)),
        };
        self.answers.push(Answer { reply, result, fresh });
        done
    }

    fn with(
        &mut self,
        id: &str,
        act: impl FnOnce(&mut Self, Lock) -> rusqlite::Result<Result<Lock, Problem>>,
    ) -> rusqlite::Result<Result<Lock, Problem>> {
        match table::by_id(&self.change, id)? {
            Some(lock) => act(self, lock),
            None => Ok(Err(Problem::Unknown(id.to_owned()))),
        }
    }

    fn create(&mut self, wanted: Wanted, number: u64, reply: Reply) -> rusqlite::Result<()> {
        // Gone before its turn came.
        if reply.is_closed() {
            return Ok(());
        }
        match table::by_key(&self.change, &wanted.key) {
            Ok(None) => self.grant(&wanted, reply),
            Ok(Some(held)) if wanted.wait.is_none() => {
                self.answer(reply, Ok(Err(Problem::Held(Box::new(held)))), false)
            }
            Ok(Some(_)) => {
                self.touched.push(wanted.key.clone());
                self.queue.join(Waiter { number, wanted, reply });
                Ok(())
            }
            Err(error) => self.answer(reply, Err(error), false),
        }
    }

    fn grant(&mut self, wanted: &Wanted, reply: Reply) -> rusqlite::Result<()> {
        let done = self.make(wanted).map(Ok);
        self.answer(reply, done, true)
    }

    fn make(&mut self, wanted: &Wanted) -> rusqlite::Result<Lock> {
        let lock = Lock {
            id: uuid::Uuid::new_v4().to_string(),
            key: wanted.key.clone(),
            who: wanted.who.clone(),
            event_id: wanted.event_id.clone(),
            created: self.now,
            ttl: wanted.ttl,
            expires: self.after(wanted.ttl),
            token: table::next_token(&self.change, self.now)?,
            queue: Vec::new(),
        };
        table::insert(&self.change, &lock)?;
        self.ends.push((lock.id.clone(), lock.ttl.map(|ttl| self.instant + ttl)));
        self.touched.push(lock.key.clone());
        Ok(lock)
    }

    /// The key is free: whoever is next has it, in the same transaction, so that no newcomer comes between.
    fn pass_on(&mut self, key: &Key) -> rusqlite::Result<()> {
        self.touched.push(key.clone());
        match self.queue.next(key) {
            Some(waiter) => self.grant(&waiter.wanted, waiter.reply),
            None => Ok(()),
        }
    }

    fn remove(&mut self, lock: Lock) -> rusqlite::Result<Result<Lock, Problem>> {
        table::delete(&self.change, &lock.id)?;
        self.ends.push((lock.id.clone(), None));
        self.pass_on(&lock.key)?;
        Ok(Ok(lock))
    }

    fn expire(&mut self, id: &str) -> rusqlite::Result<()> {
        self.ends.push((id.to_owned(), None));
        if let Some(lock) = table::by_id(&self.change, id)? {
            let _ = self.remove(lock.clone())?;
            self.expired.push(lock);
        }
        Ok(())
    }

    fn update(&mut self, lock: &Lock, change: &Change) -> rusqlite::Result<Result<Lock, Problem>> {
        let mut changed = change.of(lock);
        let moves = changed.key != lock.key;
        if moves {
            if let Some(held) = table::by_key(&self.change, &changed.key)? {
                return Ok(Err(Problem::Held(Box::new(held))));
            }
            // Who had the other key before may have a greater token than this lock had.
            changed.token = table::next_token(&self.change, self.now)?;
            self.touched.push(changed.key.clone());
        }
        table::replace(&self.change, &changed)?;
        if moves {
            self.pass_on(&lock.key)?;
        }
        Ok(Ok(changed))
    }

    fn renew(&mut self, mut lock: Lock, ttl: Option<Duration>) -> rusqlite::Result<Result<Lock, Problem>> {
        lock.ttl = ttl.or(lock.ttl);
        lock.expires = self.after(lock.ttl);
        table::replace(&self.change, &lock)?;
        self.ends.push((lock.id.clone(), lock.ttl.map(|ttl| self.instant + ttl)));
        Ok(Ok(lock))
    }

    fn after(&self, ttl: Option<Duration>) -> Option<Timestamp> {
        ttl.and_then(|ttl| self.now.checked_add(ttl).ok())
    }
}
