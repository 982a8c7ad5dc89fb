//! The lock service as a [`LeaseServer`].

use crate::fault::Fault;
use crate::lease::{Lease, LeaseOwner, LeaseRequest, QueueEntry, WaitLimit};
use crate::os::clock::Moment;
use crate::os::{random, signal};
use crate::server::http::{HttpAnswer, HttpClient, TRY_LIMIT};
use crate::server::lease_server::{LeaseServer, WaitObserver};
use crate::server::retry::Retry;
use crate::server::service::answer::{
    check_id, escape, not_service, parse_entry, parse_lease, parse_sharing, read_code, read_text, refusal,
    try_endpoints,
};
use crate::settings::Settings;
use aba_lock_protocol::code::{ALREADY_EXISTS, FAILED_PRECONDITION, NOT_FOUND};
use aba_lock_protocol::sharing::Sharing;
use aba_lock_protocol::{member, path};
use serde_json::{Value, json};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The prefix of a provisional id, which consists of the event id because the id of the lease is not known yet.
const EVENT: &str = "event:";

/// The longest wait of one request. The request after it joins the queue at the end.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The longest pause between two searches for our lock during a wait. If a third of the time to live is shorter, the
/// pause is that long, so that a lease whose answer was lost is found before it ends.
const LOOK: Duration = Duration::from_secs(20);

/// The longest time to live of a lease whose id is not stored yet.
const FIRST_TTL: Duration = Duration::from_secs(30);

/// A client for a lock service.
pub(crate) struct ServiceClient {
    http: HttpClient,
    /// True if the answer to a request is unknown, so the service may have acted on it.
    is_in_doubt: bool,
}

/// The result of a request for a lease.
enum LeaseAnswer {
    Granted(Lease),
    /// The lease was granted to an earlier request, whose answer was lost.
    AlreadyOurs(Lease),
    Held(Option<Box<QueueEntry>>),
    /// The request still waits here, but the service does not know it any more, and the name is free.
    Forgotten,
}

impl ServiceClient {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        let mut http = HttpClient::new(settings)?;
        http.authorization = settings.secret.as_ref().map(|secret| format!("Bearer {secret}"));
        Ok(Self { http, is_in_doubt: false })
    }

    /// Sends a request to each endpoint once, until one answers.
    fn call(&mut self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<HttpAnswer, Fault> {
        let (answer, is_in_doubt) = try_endpoints(&mut self.http, method, path, body, limit);
        self.is_in_doubt |= is_in_doubt;
        answer
    }

    /// Renews a lease, with another time to live if one is given.
    fn renew_for(&mut self, lease: &mut Lease, ttl: Option<Duration>) -> Result<(), Fault> {
        let body = ttl.map(|ttl| json!({ (member::TTL): ttl.as_secs_f64() }));
        let answer = self.call("PUT", &path::renewal(&escape(check_id(&lease.id)?)), body.as_ref(), TRY_LIMIT)?;
        match (answer.status, read_code(&answer)) {
            (200, _) => {
                let renewed = parse_lease(&lease.name, &answer.body, answer.sent_at);
                let renewed = renewed.ok_or_else(|| not_service(self.http.endpoint()))?;
                if renewed.id != lease.id {
                    return Err(not_service(self.http.endpoint()));
                }
                (lease.ttl, lease.renewed_at) = (renewed.ttl, renewed.renewed_at);
                Ok(())
            }
            (404, Some(NOT_FOUND)) => Err(Fault::Gone { name: lease.name.clone() }),
            _ => Err(refusal(&answer)),
        }
    }

    /// Finds the lock that was granted for an event, if the answer was lost.
    fn find_event(&mut self, event: &str) -> Result<Option<Value>, Fault> {
        let locks = self.list_locks(&format!("?{}={}", member::EVENT_ID_PARAMETER, escape(event)))?;
        Ok(locks.into_iter().find(|lock| read_text(lock, member::EVENT_ID) == event))
    }

    /// Returns the locks that a query selects.
    fn list_locks(&mut self, query: &str) -> Result<Vec<Value>, Fault> {
        let answer = self.call("GET", &format!("{}{query}", path::LOCK_LIST), None, TRY_LIMIT)?;
        match (answer.status, &answer.body[member::LOCKS]) {
            (200, Value::Array(locks)) => Ok(locks.clone()),
            (200, _) => Err(not_service(self.http.endpoint())),
            _ => Err(refusal(&answer)),
        }
    }

    /// Reads our lease from a lock in an answer. A service of an earlier version ignores the members of other modes, and
    /// grants an exclusive lock: the caller gives that back.
    fn read_lease(&self, request: &LeaseRequest, lock: &Value, renewed_at: Moment) -> Result<Lease, Fault> {
        let lease = parse_lease(request.name, lock, renewed_at).ok_or_else(|| not_service(self.http.endpoint()))?;
        if lease.sharing != request.sharing || lease.sharing.slots().is_some() != lease.slot.is_some() {
            return Err(Fault::Failed {
                what: format!("the lock service at {} does not know shared locks and slots", self.http.endpoint()),
                hint: Some("update aba-lockd there".to_owned()),
            });
        }
        Ok(lease)
    }

    /// Sends one request for a lease, which may wait at the service.
    fn request_lease(
        &mut self,
        request: &LeaseRequest,
        event: &str,
        wait: Duration,
        observer: &mut dyn WaitObserver,
    ) -> Result<LeaseAnswer, Fault> {
        let mut body = json!({
            (member::SERVICE): request.name, (member::WHO): describe_owner(request.owner), (member::ENVIRONMENT): "",
            (member::RESOURCE): "", (member::EVENT_ID): event, (member::TTL): request.ttl.as_secs_f64(),
            (member::WAIT): wait.as_secs_f64(),
        });
        match request.sharing {
            // A service of an earlier version knows no other mode.
            Sharing::Exclusive => {}
            Sharing::Shared => body[member::MODE] = member::SHARED.into(),
            Sharing::Slots(number) => body[member::SLOTS] = number.into(),
        }
        let interval = (request.ttl / 3).min(LOOK);
        if wait <= interval {
            let answer = self.call("POST", path::LOCK, Some(&body), wait + TRY_LIMIT)?;
            return self.read_lease_answer(request, event, &answer);
        }
        // A thread waits for the answer, so that we can search for the lock on another connection if this one becomes
        // silent. In that case the thread lives until its time limit, possibly while this process forks a keeper. So it
        // uses one endpoint only, and holds no locks of the C library while it waits.
        let (sender, receiver) = mpsc::channel();
        let mut http = self.http.with_one_endpoint();
        let thread = signal::with_signals_blocked(|| {
            thread::Builder::new().spawn(move || {
                let _ = sender.send(try_endpoints(&mut http, "POST", path::LOCK, Some(&body), wait + TRY_LIMIT));
            })
        });
        // Without a thread, one request waits only until the next search would be due.
        let Ok(thread) = thread else { return self.request_lease(request, event, interval, observer) };
        let mut was_free = false;
        loop {
            match receiver.recv_timeout(interval) {
                Ok((answer, is_in_doubt)) => {
                    let _ = thread.join();
                    self.is_in_doubt |= is_in_doubt;
                    if matches!(answer, Err(Fault::Unreachable { .. })) {
                        self.http.use_next_endpoint();
                    }
                    return self.read_lease_answer(request, event, &answer?);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.is_in_doubt = true;
                    return Err(Fault::Unreachable { what: "the request ended without an answer".to_owned() });
                }
            }
            let locks = match self.list_locks(&format!("?{}={}", member::SERVICE, escape(request.name))) {
                Ok(locks) => locks,
                // The token may not read the service, but it may find its own lock.
                Err(Fault::Failed { .. }) => match self.find_event(event) {
                    Ok(Some(lock)) => vec![lock],
                    _ => continue,
                },
                // If no endpoint answers now, the request may still wait.
                Err(_) => continue,
            };
            let locks: Vec<&Value> = locks.iter().filter(|lock| parse_entry(lock).name == request.name).collect();
            let own = locks.iter().find(|lock| read_text(lock, member::EVENT_ID) == event);
            match own.or(locks.first()) {
                Some(lock) if own.is_some() => {
                    self.is_in_doubt = true;
                    // The answer may be on its way. If its connection were closed before it arrives, the service would
                    // take the lock back.
                    if let Ok((Ok(answer), _)) = receiver.recv_timeout(TRY_LIMIT) {
                        return self.read_lease_answer(request, event, &answer);
                    }
                    return Ok(LeaseAnswer::AlreadyOurs(self.read_lease(request, lock, Moment::now())?));
                }
                Some(lock) => {
                    was_free = false;
                    let mut holder = parse_entry(lock);
                    holder.count_holders(&locks.iter().map(|lock| parse_entry(lock)).collect::<Vec<_>>());
                    observer.report_wait(&holder);
                }
                // The name must be free twice in a row: at the first time, the service may be handing the lock over.
                None if was_free => {
                    self.is_in_doubt = true;
                    return Ok(LeaseAnswer::Forgotten);
                }
                None => was_free = true,
            }
        }
    }

    fn read_lease_answer(
        &self,
        request: &LeaseRequest,
        event: &str,
        answer: &HttpAnswer,
    ) -> Result<LeaseAnswer, Fault> {
        let existing = &answer.body[member::EXISTING_LOCK];
        match answer.status {
            200 => Ok(LeaseAnswer::Granted(self.read_lease(request, &answer.body, answer.sent_at)?)),
            409 if read_text(existing, member::EVENT_ID) == event => {
                Ok(LeaseAnswer::AlreadyOurs(self.read_lease(request, existing, answer.sent_at)?))
            }
            409 if read_code(answer) == Some(FAILED_PRECONDITION) => {
                let holder = parse_entry(existing);
                Err(Fault::OtherSlots {
                    name: request.name.to_owned(),
                    wanted: request.sharing,
                    holder: Box::new(holder),
                })
            }
            409 if read_code(answer) == Some(ALREADY_EXISTS) => {
                let holder = Some(parse_entry(existing)).filter(|holder| !holder.name.is_empty());
                Ok(LeaseAnswer::Held(holder.map(Box::new)))
            }
            _ => Err(refusal(answer)),
        }
    }

    /// Repeats the request for a lease until it is granted or the time is over.
    fn wait_for_lease(
        &mut self,
        request: &LeaseRequest,
        event: &str,
        observer: &mut dyn WaitObserver,
    ) -> Result<Lease, Fault> {
        let limit = request.limit;
        let retry = Retry::begin(limit);
        let mut holder = None;
        // The first request does not wait: its answer names the holder.
        let mut wait = Duration::ZERO;
        loop {
            match self.request_lease(request, event, wait, observer) {
                Ok(LeaseAnswer::Granted(lease)) if wait.is_zero() => return Ok(lease),
                // The lease began at an unknown moment during the wait, so we renew it.
                Ok(LeaseAnswer::Granted(mut lease) | LeaseAnswer::AlreadyOurs(mut lease)) => {
                    self.renew(&mut lease)?;
                    return Ok(lease);
                }
                Ok(LeaseAnswer::Held(entry)) => {
                    holder = entry.or(holder);
                    if let Some(holder) = &mut holder {
                        self.count_holders(holder);
                    }
                    if limit.is_over() {
                        return Err(Fault::from_holder(request.name, holder, limit != WaitLimit::NoWait));
                    }
                    if let Some(holder) = &holder {
                        observer.report_wait(holder);
                    }
                    wait = limit.cap(LONGEST_WAIT);
                }
                Ok(LeaseAnswer::Forgotten) => wait = limit.cap(LONGEST_WAIT),
                Err(Fault::Unreachable { what }) => {
                    // The service may have granted the lease, and only the answer was lost.
                    if let Ok(Some(lock)) = self.find_event(event) {
                        let mut lease = self.read_lease(request, &lock, Moment::now())?;
                        self.renew(&mut lease)?;
                        return Ok(lease);
                    }
                    retry.pause(what, observer)?;
                    wait = limit.cap(wait);
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}

impl LeaseServer for ServiceClient {
    fn acquire(&mut self, request: &LeaseRequest, observer: &mut dyn WaitObserver) -> Result<Lease, Fault> {
        loop {
            let number = random::random_number().map_err(|error| Fault::from_random(&error))?;
            let event = format!("aba-{number:016x}");
            let id = format!("{EVENT}{event}");
            observer.note_id(&id);
            match self.wait_for_lease(request, &event, observer) {
                // The lease was granted, and ended before we learned of it.
                Err(Fault::Gone { .. }) if !request.limit.is_over() => {}
                Err(fault) => {
                    let is_refused =
                        matches!(fault, Fault::Busy { .. } | Fault::TimedOut { .. } | Fault::OtherSlots { .. });
                    if self.is_in_doubt || !is_refused {
                        let _ = self.release(&id);
                    }
                    return Err(fault);
                }
                Ok(lease) => return Ok(Lease { kept: request.kept, ..lease }),
            }
        }
    }

    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        self.renew_for(lease, None)
    }

    fn first_ttl(&self, ttl: Duration) -> Duration {
        ttl.min(FIRST_TTL)
    }

    fn extend(&mut self, lease: &mut Lease, ttl: Duration) -> Result<(), Fault> {
        self.renew_for(lease, Some(ttl))?;
        // The service may round the time.
        if lease.ttl + Duration::from_secs(1) < ttl {
            return Err(Fault::Failed {
                what: format!(
                    "the lock service at {} does not change the time to live of a lease",
                    self.http.endpoint()
                ),
                hint: Some("update aba-lockd there".to_owned()),
            });
        }
        Ok(())
    }

    fn unlock(&mut self, id: &str) -> Result<(), Fault> {
        let id = match id.strip_prefix(EVENT) {
            None => check_id(id)?.to_owned(),
            Some(event) => match self.find_event(event)? {
                None => return Ok(()),
                Some(lock) => read_text(&lock, member::ID),
            },
        };
        let answer = self.call("DELETE", &path::lock(&escape(&id)), None, TRY_LIMIT)?;
        match (answer.status, read_code(&answer)) {
            (200, _) if read_text(&answer.body, member::ID) == id => Ok(()),
            (200, _) => Err(not_service(self.http.endpoint())),
            (404, Some(NOT_FOUND)) => Ok(()),
            _ => Err(refusal(&answer)),
        }
    }

    fn clean_up(&mut self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    /// Sends one request, which needs no permission to read the lock.
    fn renew_by_id(&mut self, id: &str) -> Result<(), Fault> {
        let answer = self.call("PUT", &path::renewal(&escape(check_id(id)?)), None, TRY_LIMIT)?;
        match (answer.status, read_code(&answer)) {
            (200, _) if read_text(&answer.body, member::ID) == id => Ok(()),
            (200, _) => Err(not_service(self.http.endpoint())),
            (404, Some(NOT_FOUND)) => Err(Fault::Gone { name: id.to_owned() }),
            _ => Err(refusal(&answer)),
        }
    }

    fn read_queue(&mut self, name: Option<&str>) -> Result<Vec<QueueEntry>, Fault> {
        let query = name.map_or(String::new(), |name| format!("?{}={}", member::SERVICE, escape(name)));
        let locks = self.list_locks(&query)?;
        let mut found = Vec::new();
        for lock in &locks {
            let holder = parse_entry(lock);
            if name.is_some_and(|name| name != holder.name) {
                continue;
            }
            let name = holder.name.clone();
            // All holders of a name have the same queue. The list has the oldest holder first.
            let is_next = found.iter().position(|other: &QueueEntry| other.name == name && !other.is_holder);
            if let Some(at) = is_next {
                found.insert(at, holder);
                continue;
            }
            found.push(holder);
            for waiter in lock[member::QUEUE].as_array().into_iter().flatten() {
                let owner_text = Some(read_text(waiter, member::WHO));
                let (name, id) = (name.clone(), String::new());
                let sharing = parse_sharing(waiter);
                found.push(QueueEntry {
                    name,
                    id,
                    token: 0,
                    revision: 0,
                    owner: None,
                    owner_text,
                    left: None,
                    sharing,
                    slot: None,
                    is_holder: false,
                    others: 0,
                    held_slots: 0,
                });
            }
        }
        Ok(found)
    }
}

/// Describes the owner in the text that the service shows to others.
fn describe_owner(owner: &LeaseOwner) -> String {
    let who = owner.who.as_ref().map(|who| format!(" ({who})")).unwrap_or_default();
    let command = aba_lock::base::text::shorten(&owner.command, 200);
    format!("pid {} on host {} ({command}), by {}{who}", owner.pid, owner.host, owner.user)
}
