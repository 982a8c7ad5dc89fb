//! Leases at the lock service, by its REST interface.
//!
//! NAME is the `service` of a lock without environment and resource. The service keeps the queue: whoever waits is a request
//! that is open, and its going away leaves the queue. Each acquisition has an `eventId` that nobody else has, so what was
//! granted can be found when the answer was lost.

use crate::clock::Moment;
use crate::server::http::{Answer, Http, TRY};
use crate::server::{Entry, Fault, Lease, Owner, Patience, Server, Want, Watcher};
use crate::settings::Settings;
use crate::sys;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

const API: &str = "/api/v1alpha1";

/// What stands in front of an event id, where a lease is meant whose id is not known.
const EVENT: &str = "event:";

/// How long one request may wait: a way that was cut says nothing.
const POLL: Duration = Duration::from_secs(300);

/// How long to pause when nobody answers.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to go on trying, for one who does not wait, when nobody answers.
const TRIES: Duration = Duration::from_secs(8);

pub(crate) struct Service {
    http: Http,
}

impl Service {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        let mut http = Http::new(settings)?;
        http.authorization = settings.secret.as_ref().map(|secret| format!("Bearer {secret}"));
        Ok(Self { http })
    }

    /// Asks each endpoint once, until one answers.
    fn call(&mut self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<Answer, Fault> {
        let mut what = String::new();
        for _ in 0..self.http.endpoints() {
            match self.http.send(method, &format!("{API}{path}"), body, limit) {
                Ok(answer) if answer.status < 500 && answer.status != 429 => {
                    return match answer.status {
                        401 | 403 => Err(refused(&answer)),
                        _ => Ok(answer),
                    };
                }
                Ok(answer) => what = message(&answer),
                Err(reason) => what = reason,
            }
            self.http.next_endpoint();
        }
        Err(Fault::Unreachable { what })
    }

    /// What was granted for an event, if an answer was lost.
    fn granted(&mut self, event: &str) -> Result<Option<Value>, Fault> {
        let answer = self.call("GET", &format!("/locks/list?event_id={event}"), None, TRY)?;
        match answer.status {
            200 => Ok(answer.body["locks"].as_array().and_then(|locks| locks.first().cloned())),
            _ => Err(refused(&answer)),
        }
    }

    /// One request for it, which may wait at the service. `Ok(Err)`: another has it.
    fn ask(&mut self, want: &Want, event: &str, pause: Duration) -> Result<Result<Lease, Option<Box<Entry>>>, Fault> {
        let body = json!({
            "service": want.name, "who": said(want.owner), "environment": "", "resource": "", "eventId": event,
            "ttl": want.ttl.as_secs_f64(), "wait": pause.as_secs_f64(),
        });
        match self.call("POST", "/lock", Some(&body), pause + TRY)? {
            answer if answer.status == 200 => Ok(Ok(lease(want.name, &answer.body, answer.sent))),
            answer if answer.status == 409 => {
                let holder = Some(entry(&answer.body["existingLock"])).filter(|holder| !holder.id.is_empty());
                Ok(Err(holder.map(Box::new)))
            }
            answer => Err(refused(&answer)),
        }
    }

    fn attempt(&mut self, want: &Want, event: &str, watcher: &mut dyn Watcher) -> Result<Lease, Fault> {
        let end = Moment::now().plus(TRIES);
        let mut holder = None;
        // The first does not wait, so that we know for whom we do.
        let mut pause = Duration::ZERO;
        loop {
            match self.ask(want, event, pause) {
                Ok(Ok(mut lease)) => {
                    // It began when the one before ended, and not when we began to wait.
                    if !pause.is_zero() {
                        self.renew(&mut lease)?;
                    }
                    return Ok(lease);
                }
                Ok(Err(entry)) => {
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
                Err(Fault::Unreachable { what }) => {
                    // The answer may be lost, and not the question.
                    if let Ok(Some(lock)) = self.granted(event) {
                        let mut lease = lease(want.name, &lock, Moment::now());
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
                what: format!("no random number can be had: {}", aba_lock::error::reason(&error)),
                hint: None,
            })?;
            let id = format!("{EVENT}{event}");
            watcher.begun(&id);
            match self.attempt(want, &event, watcher) {
                // It was granted to us, and ended before we knew.
                Err(Fault::Gone { .. }) if !want.patience.is_out() => {}
                Err(fault) => {
                    if !matches!(fault, Fault::Busy { .. } | Fault::TimedOut { .. }) {
                        let _ = self.release(&id);
                    }
                    return Err(fault);
                }
                Ok(lease) => return Ok(lease),
            }
        }
    }

    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        let answer = self.call("PUT", &format!("/lock/{}/renew", escaped(&lease.id)), None, TRY)?;
        match answer.status {
            200 => {
                let renewed = self::lease(&lease.name, &answer.body, answer.sent);
                (lease.ttl, lease.good) = (renewed.ttl, renewed.good);
                Ok(())
            }
            404 => Err(Fault::Gone { name: lease.name.clone() }),
            _ => Err(refused(&answer)),
        }
    }

    fn clear(&mut self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn free(&mut self, id: &str) -> Result<(), Fault> {
        let id = match id.strip_prefix(EVENT) {
            None => id.to_owned(),
            Some(event) => match self.granted(event)? {
                None => return Ok(()),
                Some(lock) => text(&lock, "id"),
            },
        };
        let answer = self.call("DELETE", &format!("/lock/{}", escaped(&id)), None, TRY)?;
        match answer.status {
            200 | 404 => Ok(()),
            _ => Err(refused(&answer)),
        }
    }

    fn find(&mut self, id: &str) -> Result<Lease, Fault> {
        let answer = self.call("GET", &format!("/lock/{}", escaped(id)), None, TRY)?;
        match answer.status {
            200 => {
                let name = entry(&answer.body).name;
                Ok(lease(&name, &answer.body, answer.sent))
            }
            404 => Err(Fault::Gone { name: id.to_owned() }),
            _ => Err(refused(&answer)),
        }
    }

    fn queue(&mut self, name: Option<&str>) -> Result<Vec<Entry>, Fault> {
        let path = name.map_or("/locks/list".to_owned(), |name| format!("/locks/list?service={}", escaped(name)));
        let answer = self.call("GET", &path, None, TRY)?;
        if answer.status != 200 {
            return Err(refused(&answer));
        }
        let mut found = Vec::new();
        for lock in answer.body["locks"].as_array().into_iter().flatten() {
            let holder = entry(lock);
            if name.is_some_and(|name| name != holder.name) {
                continue;
            }
            let name = holder.name.clone();
            found.push(holder);
            for waiter in lock["queue"].as_array().into_iter().flatten() {
                let said = Some(text(waiter, "who"));
                found.push(Entry { name: name.clone(), id: String::new(), token: 0, owner: None, said, left: None });
            }
        }
        Ok(found)
    }
}

/// What the service shows of an owner.
fn said(owner: &Owner) -> String {
    let who = owner.who.as_ref().map(|who| format!(" ({who})")).unwrap_or_default();
    let command = aba_lock::error::shortened(&owner.command, 200);
    format!("pid {} on host {} ({command}), by {}{who}", owner.pid, owner.host, owner.user)
}

fn entry(lock: &Value) -> Entry {
    let mut name = text(lock, "service");
    for part in ["environment", "resource"] {
        let part = text(lock, part);
        if !part.is_empty() {
            name.push('/');
            name.push_str(&part);
        }
    }
    let left = lock["expiresAt"].as_str().and_then(|end| end.parse::<jiff::Timestamp>().ok());
    let left = left.map(|end| Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap_or_default());
    let token = lock["fencingToken"].as_u64().unwrap_or(0);
    Entry { name, id: text(lock, "id"), token, owner: None, said: Some(text(lock, "who")), left }
}

fn lease(name: &str, lock: &Value, good: Moment) -> Lease {
    let entry = entry(lock);
    let ttl = lock["ttl"].as_str().and_then(aba_lock::store::parse_span).unwrap_or_default();
    Lease { name: name.to_owned(), id: entry.id, token: entry.token, ttl, good, kept: false }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// A word of a path or a query.
fn escaped(word: &str) -> String {
    let mut escaped = String::new();
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn message(answer: &Answer) -> String {
    answer.body["message"].as_str().map_or_else(|| format!("HTTP status {}", answer.status), str::to_owned)
}

fn refused(answer: &Answer) -> Fault {
    let hint = matches!(answer.status, 401 | 403)
        .then(|| "put a token into a file of yours, and set ABA_LOCK_SERVER_SECRET_FILE to its path".to_owned());
    Fault::Failed { what: format!("the lock service refused: {}", message(answer)), hint }
}
