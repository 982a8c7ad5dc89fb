//! Leases at the lock service, by its REST interface.
//!
//! NAME is the `service` of a lock without environment and resource. The service keeps the queue: whoever waits is a request
//! that is open, and its going away leaves the queue. Each acquisition has an `eventId` that nobody else has, so what was
//! granted can be found when the answer was lost.
//!
//! # What may be lost where
//!
//! | lost | what happens |
//! |---|---|
//! | the answer to a request for it, and it is asked for at the next endpoint or again | the service says that it is held, for our own event: it is ours |
//! | the answer, and we do not ask again, as we are refused or have waited long enough | what may have been granted for our event is given back |
//! | the answer to one that waits, on a connection that stays open | while it waits, what was granted for our event is looked for on another connection, three times in the time of a lease |
//! | the same, and nobody could look in that time | the lease has ended; if nobody has the name when we look again, we ask again |
//!
//! An answer is the service's if it has an id or locks in it, or the code of a refusal. What else there is at its address (a
//! proxy's page, say) has neither granted nor ended anything.

mod answers;

use crate::clock::Moment;
use crate::server::http::{Answer, Http, TRY};
use crate::server::{Entry, Fault, Lease, Owner, Patience, Server, Want, Watcher};
use crate::settings::Settings;
use crate::sys;
use aba_lock_protocol::code::{ALREADY_EXISTS, NOT_FOUND};
use aba_lock_protocol::{member, path};
use answers::{call, checked, code, entry, escaped, lease, refused, strange, text, ttl};
use serde_json::{Value, json};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What stands in front of an event id, where a lease is meant whose id is not known.
const EVENT: &str = "event:";

/// How long one request may wait: who asks again stands at the end of the queue.
const POLL: Duration = Duration::from_secs(300);

/// How often to look meanwhile, at least: as often as nothing is granted and lost again in between.
const LOOK: Duration = Duration::from_secs(20);

/// How long to pause when nobody answers.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to go on trying, for one who does not wait, when nobody answers.
const TRIES: Duration = Duration::from_secs(8);

pub(crate) struct Service {
    http: Http,
    /// A request has had no answer that is known: what it asked for may have been done.
    unanswered: bool,
}

/// What comes of asking for a lease.
enum Asked {
    Granted(Lease),
    /// For our own event: the answer was lost.
    Ours(Lease),
    Held(Option<Box<Entry>>),
    /// Nobody waits for it at the service, and nobody has it.
    Forgotten,
}

impl Service {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        let mut http = Http::new(settings)?;
        http.authorization = settings.secret.as_ref().map(|secret| format!("Bearer {secret}"));
        Ok(Self { http, unanswered: false })
    }

    /// Asks each endpoint once, until one answers.
    fn call(&mut self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<Answer, Fault> {
        let (answer, unanswered) = call(&mut self.http, method, path, body, limit);
        self.unanswered |= unanswered;
        answer
    }

    /// What was granted for an event, if an answer was lost.
    fn granted(&mut self, event: &str) -> Result<Option<Value>, Fault> {
        let locks = self.list(&format!("?{}={}", member::EVENT_ID_PARAMETER, escaped(event)))?;
        Ok(locks.into_iter().find(|lock| text(lock, member::EVENT_ID) == event))
    }

    /// The locks of this query.
    fn list(&mut self, query: &str) -> Result<Vec<Value>, Fault> {
        let answer = self.call("GET", &format!("{}{query}", path::LOCK_LIST), None, TRY)?;
        match (answer.status, &answer.body[member::LOCKS]) {
            (200, Value::Array(locks)) => Ok(locks.clone()),
            (200, _) => Err(strange(self.http.endpoint())),
            _ => Err(refused(&answer)),
        }
    }

    /// The lease that an answer tells of.
    fn lease(&self, name: &str, lock: &Value, good: Moment) -> Result<Lease, Fault> {
        lease(name, lock, good).ok_or_else(|| strange(self.http.endpoint()))
    }

    /// One request for it, which may wait at the service.
    fn ask(&mut self, want: &Want, event: &str, pause: Duration) -> Result<Asked, Fault> {
        let body = json!({
            (member::SERVICE): want.name, (member::WHO): said(want.owner), (member::ENVIRONMENT): "",
            (member::RESOURCE): "", (member::EVENT_ID): event, (member::TTL): want.ttl.as_secs_f64(),
            (member::WAIT): pause.as_secs_f64(),
        });
        let interval = (want.ttl / 3).min(LOOK);
        if pause <= interval {
            let answer = self.call("POST", path::LOCK, Some(&body), pause + TRY)?;
            return self.asked(want.name, event, &answer);
        }
        // By a thread, so that what is granted is found though that connection says nothing any more. It is left alone then, as
        // nothing but time can end it; so it does not ask anybody else, and has no locks of the C library's while it waits.
        let (tell, told) = mpsc::channel();
        let mut http = self.http.alone();
        let waits = sys::without_signals(|| {
            thread::Builder::new().spawn(move || {
                let _ = tell.send(call(&mut http, "POST", path::LOCK, Some(&body), pause + TRY));
            })
        });
        // Without a thread it waits for as long as the connection needs no look from outside.
        let Ok(waits) = waits else { return self.ask(want, event, interval) };
        let mut was_free = false;
        loop {
            match told.recv_timeout(interval) {
                Ok((answer, unanswered)) => {
                    let _ = waits.join();
                    self.unanswered |= unanswered;
                    if matches!(answer, Err(Fault::Unreachable { .. })) {
                        self.http.next_endpoint();
                    }
                    return self.asked(want.name, event, &answer?);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.unanswered = true;
                    return Err(Fault::Unreachable { what: "a request ended without an answer".to_owned() });
                }
            }
            // Nobody who answers is no news: then that one may wait still.
            let Ok(locks) = self.list(&format!("?{}={}", member::SERVICE, escaped(want.name))) else { continue };
            let mut locks = locks.iter().filter(|lock| entry(lock).name == want.name);
            match locks.next() {
                Some(lock) if text(lock, member::EVENT_ID) == event => {
                    self.unanswered = true;
                    // It may be about to be said. Who goes away before that has it taken back.
                    if let Ok((Ok(answer), _)) = told.recv_timeout(TRY) {
                        return self.asked(want.name, event, &answer);
                    }
                    return Ok(Asked::Ours(self.lease(want.name, lock, Moment::now())?));
                }
                Some(_) => was_free = false,
                // Twice: the first time it may be on its way to the next.
                None if was_free => {
                    self.unanswered = true;
                    return Ok(Asked::Forgotten);
                }
                None => was_free = true,
            }
        }
    }

    fn asked(&self, name: &str, event: &str, answer: &Answer) -> Result<Asked, Fault> {
        let held = &answer.body[member::EXISTING_LOCK];
        match answer.status {
            200 => Ok(Asked::Granted(self.lease(name, &answer.body, answer.sent)?)),
            409 if text(held, member::EVENT_ID) == event => Ok(Asked::Ours(self.lease(name, held, answer.sent)?)),
            409 if code(answer) == Some(ALREADY_EXISTS) => {
                let holder = Some(entry(held)).filter(|holder| !holder.name.is_empty());
                Ok(Asked::Held(holder.map(Box::new)))
            }
            _ => Err(refused(answer)),
        }
    }

    fn attempt(&mut self, want: &Want, event: &str, watcher: &mut dyn Watcher) -> Result<Lease, Fault> {
        let end = Moment::now().plus(TRIES);
        let mut holder = None;
        // The first does not wait, so that we know for whom we do.
        let mut pause = Duration::ZERO;
        loop {
            match self.ask(want, event, pause) {
                // It began when the one before ended, and not when we began to wait.
                Ok(Asked::Granted(lease)) if pause.is_zero() => return Ok(lease),
                Ok(Asked::Granted(mut lease) | Asked::Ours(mut lease)) => {
                    self.renew(&mut lease)?;
                    return Ok(lease);
                }
                Ok(Asked::Held(entry)) => {
                    holder = entry.or(holder);
                    if want.patience.is_out() {
                        let name = want.name.to_owned();
                        return Err(match want.patience {
                            Patience::None => Fault::Busy { name, holder },
                            _ => Fault::TimedOut { name, holder },
                        });
                    }
                    if let Some(holder) = &holder {
                        watcher.waits(holder);
                    }
                    pause = want.patience.at_most(POLL);
                }
                Ok(Asked::Forgotten) => pause = want.patience.at_most(POLL),
                Err(Fault::Unreachable { what }) => {
                    // The answer may be lost, and not the question.
                    if let Ok(Some(lock)) = self.granted(event) {
                        let mut lease = self.lease(want.name, &lock, Moment::now())?;
                        self.renew(&mut lease)?;
                        return Ok(lease);
                    }
                    let over = if want.patience == Patience::None { end.is_past() } else { want.patience.is_out() };
                    if over {
                        return Err(Fault::Unreachable { what });
                    }
                    watcher.unanswered(&what);
                    thread::sleep(want.patience.at_most(PAUSE));
                    pause = want.patience.at_most(pause);
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}

impl Server for Service {
    fn acquire(&mut self, want: &Want, watcher: &mut dyn Watcher) -> Result<Lease, Fault> {
        loop {
            let event = sys::random().map(|number| format!("aba-{number:016x}")).map_err(|error| Fault::Failed {
                what: format!("no random number can be had: {}", aba_lock::base::text::format_io_error(&error)),
                hint: None,
            })?;
            let id = format!("{EVENT}{event}");
            watcher.begun(&id);
            match self.attempt(want, &event, watcher) {
                // It was granted to us, and ended before we knew.
                Err(Fault::Gone { .. }) if !want.patience.is_out() => {}
                Err(fault) => {
                    if self.unanswered || !matches!(fault, Fault::Busy { .. } | Fault::TimedOut { .. }) {
                        let _ = self.release(&id);
                    }
                    return Err(fault);
                }
                Ok(lease) => return Ok(Lease { kept: want.kept, ..lease }),
            }
        }
    }

    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        let answer = self.call("PUT", &path::renewal(&escaped(checked(&lease.id)?)), None, TRY)?;
        match (answer.status, code(&answer)) {
            (200, _) => {
                // One that was made without a time to live has none.
                if lease.ttl.is_zero()
                    && answer.body[member::TTL].is_null()
                    && text(&answer.body, member::ID) == lease.id
                {
                    return Ok(());
                }
                let renewed = self.lease(&lease.name, &answer.body, answer.sent)?;
                if renewed.id != lease.id {
                    return Err(strange(self.http.endpoint()));
                }
                (lease.ttl, lease.good) = (renewed.ttl, renewed.good);
                Ok(())
            }
            (404, Some(NOT_FOUND)) => Err(Fault::Gone { name: lease.name.clone() }),
            _ => Err(refused(&answer)),
        }
    }

    fn clear(&mut self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn free(&mut self, id: &str) -> Result<(), Fault> {
        let id = match id.strip_prefix(EVENT) {
            None => checked(id)?.to_owned(),
            Some(event) => match self.granted(event)? {
                None => return Ok(()),
                Some(lock) => text(&lock, member::ID),
            },
        };
        let answer = self.call("DELETE", &path::lock(&escaped(&id)), None, TRY)?;
        match (answer.status, code(&answer)) {
            (200, _) if text(&answer.body, member::ID) == id => Ok(()),
            (200, _) => Err(strange(self.http.endpoint())),
            (404, Some(NOT_FOUND)) => Ok(()),
            _ => Err(refused(&answer)),
        }
    }

    fn find(&mut self, id: &str) -> Result<Lease, Fault> {
        let answer = self.call("GET", &path::lock(&escaped(checked(id)?)), None, TRY)?;
        match (answer.status, code(&answer)) {
            (200, _) if text(&answer.body, member::ID) == id => {
                let Entry { name, id, token, .. } = entry(&answer.body);
                let ttl = ttl(&answer.body).unwrap_or_default();
                Ok(Lease { name, id, token, ttl, good: answer.sent, kept: false })
            }
            (200, _) => Err(strange(self.http.endpoint())),
            (404, Some(NOT_FOUND)) => Err(Fault::Gone { name: id.to_owned() }),
            _ => Err(refused(&answer)),
        }
    }

    fn queue(&mut self, name: Option<&str>) -> Result<Vec<Entry>, Fault> {
        let query = name.map_or(String::new(), |name| format!("?{}={}", member::SERVICE, escaped(name)));
        let locks = self.list(&query)?;
        let mut found = Vec::new();
        for lock in &locks {
            let holder = entry(lock);
            if name.is_some_and(|name| name != holder.name) {
                continue;
            }
            let name = holder.name.clone();
            found.push(holder);
            for waiter in lock[member::QUEUE].as_array().into_iter().flatten() {
                let said = Some(text(waiter, member::WHO));
                found.push(Entry { name: name.clone(), id: String::new(), token: 0, owner: None, said, left: None });
            }
        }
        Ok(found)
    }
}

/// What the service shows of an owner.
fn said(owner: &Owner) -> String {
    let who = owner.who.as_ref().map(|who| format!(" ({who})")).unwrap_or_default();
    let command = aba_lock::base::text::shorten(&owner.command, 200);
    format!("pid {} on host {} ({command}), by {}{who}", owner.pid, owner.host, owner.user)
}
