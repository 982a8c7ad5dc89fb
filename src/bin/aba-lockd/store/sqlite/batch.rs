//! What a turn of the engine does, order by order, within its transaction. Nothing here is said to anybody, nor done in memory:
//! it is kept for when the transaction is on disk.

use super::table;
use super::writer::Order;
use crate::model::{Change, Key, Lock, Problem, Wanted};
use crate::store::sqlite::queue::{Queue, Reply, Waiter};
use jiff::Timestamp;
use rusqlite::Transaction;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// An answer, to be given when the turn is on disk.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) result: Result<Lock, Problem>,
    /// Whether the lock is new, and is to be taken back if nobody takes the answer.
    pub(super) fresh: bool,
}

/// What a turn has done so far.
pub(super) struct Turn<'a> {
    pub(super) change: Transaction<'a>,
    pub(super) queue: &'a Queue,
    pub(super) now: Timestamp,
    pub(super) instant: Instant,
    pub(super) answers: Vec<Answer>,
    pub(super) checks: Vec<oneshot::Sender<Result<(), Problem>>>,
    pub(super) ends: Vec<(String, Option<Instant>)>,
    pub(super) expired: Vec<Lock>,
    /// Locks that nobody has: if the turn comes to nothing, that is to be done again.
    pub(super) taken_back: Vec<String>,
    /// Keys that became free or held: if the turn comes to nothing, who waits for them waits for something else.
    pub(super) touched: Vec<Key>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(change: Transaction<'a>, queue: &'a Queue, instant: Instant) -> Self {
        Self {
            change,
            queue,
            now: table::now(),
            instant,
            answers: Vec::new(),
            checks: Vec::new(),
            ends: Vec::new(),
            expired: Vec::new(),
            taken_back: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Does what is asked. After an error nothing more is asked: the turn comes to nothing.
    pub(super) fn take(&mut self, order: Order) -> rusqlite::Result<()> {
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
            Ok(Some(held)) if wanted.wait.is_none() || wanted.is(&held) => {
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
        let done = self.make(wanted);
        let granted = done.as_ref().ok().cloned();
        self.answer(reply, done.map(Ok), true)?;
        // Those who wait for what is theirs would wait for themselves.
        if let Some(lock) = granted {
            for waiter in self.queue.of_the_same(&lock) {
                self.answer(waiter.reply, Ok(Err(Problem::Held(Box::new(lock.clone())))), false)?;
            }
        }
        Ok(())
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

    /// Its time to live has passed.
    pub(super) fn expire(&mut self, id: &str) -> rusqlite::Result<()> {
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
