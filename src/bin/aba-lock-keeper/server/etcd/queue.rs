//! Leases in etcd, by the JSON gateway (`/v3/…`, etcd 3.4 and newer), with a recipe of our own over its primitives.
//!
//! Who wants NAME makes an etcd lease with a number of its own choice and puts the key `NAME/<number in hex>` under it, if that
//! is not there. The keys of a name are its queue, in the order of their create revisions, and the first one's holder
//! has the lock; the create revision is the fencing token. `etcdctl lock` and Go's `concurrency.Mutex` make the same keys
//! and go by the same order, so they stand in the same queue. The server's own Lock call is never used: that of 3.4 hands
//! the lock to a waiter whose lease has expired. A key below `NAME/` that is not called after the lease that it is under is
//! none of the queue: the cluster may have other uses.
//!
//! # Who may be killed or cut off where, and what the next one finds
//!
//! | lost | left behind | what happens |
//! |---|---|---|
//! | the answer to the grant | a lease of our number | granted again it "already exists": it is ours, nobody else could guess the number |
//! | the answer to the put | our key | put again, the comparison fails, and the `else` branch reads our key |
//! | we, after the grant | a lease without a key | it expires |
//! | we, in the queue | a key before others | it goes with the lease, and who watches it is told |
//! | we, stopped in the queue until the lease has expired | nothing | before we claim, our own key is read in the same moment as the first: it is gone, and we stand at the end again |
//! | the watched server, or an event | | a watch lasts 5 s at most, then we look again |
//! | the leader, stopped, and going on later | it renews leases that the next leader lets expire (3.4, 3.5) | a renewal counts only if a read that a majority has confirmed afterwards is of the same raft term |
//! | the same | it revokes leases that others have renewed meanwhile, as it believes that they have ended (seen with 3.4.23) | the mark, see [`mark`] |
//! | all servers | | nothing is granted or renewed; the deadline here passes before the lease ends there |
//!
//! (So users of etcd that may use a name need the prefix `NAME`, for the keys of its queue and its mark.)

mod gateway;
mod holder;
mod mark;

use crate::clock::Moment;
use crate::server::{Entry, Fault, Lease, Owner, Patience, Server, Want, Watcher};
use crate::settings::Settings;
use crate::sys;
use aba_lock_protocol::code::{FAILED_PRECONDITION, NOT_FOUND, OK};
use gateway::{Gateway, PAUSE, count, decoded, encoded, refused};
use mark::Mark;
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

/// How long to trust in a watch.
const WATCH: Duration = Duration::from_secs(5);

pub(crate) struct Etcd {
    gateway: Gateway,
    prefix: String,
}

/// Our place in a queue.
struct Place {
    lease: Lease,
    /// The first of the queue, and the one before us, if that is another.
    first: Option<Entry>,
    before: Option<String>,
    mark: Option<Mark>,
    /// As of which revision, and in which term of the leader.
    revision: u64,
    term: u64,
    /// There are keys among those of the queue that are none of it.
    mixed: bool,
}

impl Etcd {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { gateway: Gateway::new(settings)?, prefix: settings.prefix.clone() })
    }

    fn key(&self, name: &str, number: u64) -> String {
        format!("{}{name}/{number:x}", self.prefix)
    }

    /// What is in front of the keys of a name, and what behind all of them.
    fn span(&self, name: &str) -> (String, String) {
        (format!("{}{name}/", self.prefix), format!("{}{name}0", self.prefix))
    }

    /// Makes a lease, puts our key under it, and sees who stands before us.
    fn stand(&mut self, number: u64, want: &Want, watcher: &mut dyn Watcher) -> Result<Place, Fault> {
        let key = self.key(want.name, number);
        watcher.begun(&key);
        let ask = json!({ "ID": number.to_string(), "TTL": want.ttl.as_secs().to_string() });
        let prepared = self.prepare(number, want);
        let granted = self.gateway.insist("/v3/lease/grant", &ask, want.patience, watcher)?;
        let mut lease = Lease {
            name: want.name.to_owned(),
            id: key.clone(),
            token: 0,
            ttl: Duration::from_secs(count(&granted.body["TTL"])),
            good: granted.sent,
            kept: false,
        };
        match granted.code {
            OK if count(&granted.body["ID"]) == number && !lease.ttl.is_zero() => {}
            OK => return Err(self.gateway.strange()),
            FAILED_PRECONDITION => self.keep_alive(&mut lease)?,
            _ => return Err(refused(&granted)),
        }
        let (from, to) = self.span(want.name);
        let (from, to, own, mark) = (encoded(&from), encoded(&to), encoded(&key), encoded(&mark::key(&key)));
        let stand = put(&key, &want.owner.to_json().to_string(), number);
        let all: Vec<Value> = [stand.clone()].into_iter().chain(Self::prepared(prepared, &lease)).collect();
        let first = json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1" } });
        let is_new = |key: &str| json!({ "key": key, "target": "CREATE", "create_revision": "0" });
        let mut nobody = is_new(&from);
        nobody["range_end"] = json!(to);
        // All at once, if there is no queue and no mark.
        let ask = json!({
            "compare": [nobody, is_new(&mark)], "success": all,
            "failure": [
                { "request_txn": { "compare": [is_new(&own)], "success": [stand], "failure": [range(&key)] } },
                first, range(&mark::key(&key)),
            ],
        });
        let stood = self.gateway.insist("/v3/kv/txn", &ask, want.patience, watcher)?;
        match stood.code {
            OK => {}
            // A lease expired meanwhile.
            NOT_FOUND => return Err(Fault::Gone { name: want.name.to_owned() }),
            _ => return Err(refused(&stood)),
        }
        let (revision, term) = (stood.revision(), stood.term());
        if stood.body["succeeded"] == json!(true) {
            lease.token = revision;
            let name = lease.name.clone();
            let first = Some(Entry { name, id: key.clone(), token: revision, owner: None, said: None, left: None });
            let mark = (all.len() == 2).then(|| Mark { holder: key, term: 0, lease: of_mark(number), revision });
            return Ok(Place { lease, first, before: None, mark, revision, term, mixed: false });
        }
        let inner = &stood.body["responses"][0]["response_txn"];
        lease.token = if inner["succeeded"] == json!(true) {
            revision
        } else {
            count(&inner["responses"][0]["response_range"]["kvs"][0]["create_revision"])
        };
        // Who is right before us is for `look` to find out.
        let (first, mark) = (self.queued(want.name, stood.found(1)), mark::read(&key, stood.found(2))?);
        let mut place = Place { lease, first, before: None, mark, revision, term, mixed: false };
        if place.first.is_none() {
            place.mixed = true;
            self.look(&mut place, want.patience, watcher)?;
        }
        Ok(place)
    }

    /// Our own key, the first, the one before us, and the mark, all as of one moment that a majority confirms.
    fn look(&mut self, place: &mut Place, patience: Patience, watcher: &mut dyn Watcher) -> Result<(), Fault> {
        let (from, to) = self.span(&place.lease.name);
        let (from, to) = (encoded(&from), encoded(&to));
        let before = place.lease.token.saturating_sub(1).to_string();
        let mut ask = vec![range(&place.lease.id), range(&mark::key(&place.lease.id))];
        if place.mixed {
            // All of them, but not what they say: that may be long.
            ask.push(json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "keys_only": true, "max_create_revision": place.lease.token.to_string() } }));
        } else {
            ask.push(json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1" } }));
            ask.push(json!({ "request_range": { "key": from, "range_end": to, "sort_order": "DESCEND", "sort_target": "CREATE", "limit": "1", "max_create_revision": before } }));
        }
        let seen = self.gateway.insist("/v3/kv/txn", &json!({ "success": ask }), patience, watcher)?;
        if seen.code != OK {
            return Err(refused(&seen));
        }
        if self.entry(seen.found(0)).is_none_or(|own| own.token != place.lease.token) {
            return Err(Fault::Gone { name: place.lease.name.clone() });
        }
        place.mark = mark::read(&place.lease.id, seen.found(1))?;
        (place.revision, place.term) = (seen.revision(), seen.term());
        if !place.mixed {
            place.first = self.queued(&place.lease.name, seen.found(2));
            place.before = self.queued(&place.lease.name, seen.found(3)).map(|before| before.id);
            if place.first.is_some() && (place.before.is_some() || seen.found(3).is_null()) {
                return Ok(());
            }
            place.mixed = true;
            return self.look(place, patience, watcher);
        }
        let all = seen.body["responses"][2]["response_range"]["kvs"].as_array();
        let all = all.into_iter().flatten().filter_map(|kv| self.queued(&place.lease.name, kv));
        let mut all = all.collect::<Vec<_>>().into_iter();
        place.first = all.next();
        place.before = all.rfind(|entry| entry.token < place.lease.token).map(|before| before.id);
        let Some(first) = place.first.as_mut().filter(|first| first.token < place.lease.token) else { return Ok(()) };
        let said = self.gateway.call("/v3/kv/range", &json!({ "key": encoded(&first.id) }))?;
        first.owner = owner(&said.body["kvs"][0]);
        place.before.get_or_insert_with(|| first.id.clone());
        Ok(())
    }

    /// How long a lease will live without renewal.
    fn left(&mut self, number: u64) -> Result<Option<Duration>, Fault> {
        let left = self.gateway.call("/v3/lease/timetolive", &json!({ "ID": number.to_string() }))?;
        Ok(left.body["TTL"].as_str().and_then(|ttl| ttl.parse().ok()).map(Duration::from_secs))
    }

    fn entry(&self, kv: &Value) -> Option<Entry> {
        let id = decoded(&kv["key"])?;
        let name = id.strip_prefix(&self.prefix)?.rsplit_once('/')?.0.to_owned();
        Some(Entry { name, id, token: count(&kv["create_revision"]), owner: owner(kv), said: None, left: None })
    }

    /// The same for a key of this queue: of nobody else's use.
    fn queued(&self, name: &str, kv: &Value) -> Option<Entry> {
        self.entry(kv).filter(|entry| entry.name == name && number_of(&entry.id) == Some(count(&kv["lease"])))
    }

    fn attempt(&mut self, number: u64, want: &Want, watcher: &mut dyn Watcher) -> Result<Lease, Fault> {
        let mut place = self.stand(number, want, watcher)?;
        loop {
            let is_first = place.first.as_ref().is_some_and(|first| first.token == place.lease.token);
            let mut holder = place.first.take();
            let mut ahead = place.before.clone();
            match &place.mark {
                Some(mark) if is_first && mark.holder != place.lease.id => {
                    holder = Some(believer(want.name, mark));
                    ahead = Some(mark::key(&mark.holder));
                }
                mark if is_first => {
                    let is_marked = mark.is_some();
                    // Renewed just now, so that whoever gets it has the most of it.
                    if place.lease.good.plus(place.lease.ttl / 3).is_past() {
                        self.keep_alive(&mut place.lease)?;
                    }
                    if is_marked || !want.kept || self.claim(&mut place, want, watcher)? {
                        return Ok(Lease { kept: want.kept, ..place.lease });
                    }
                    // Somebody else has a mark now: to look again will show whose.
                    (holder, ahead) = (None, None);
                    thread::sleep(want.patience.at_most(PAUSE));
                }
                _ => {}
            }
            if want.patience.is_out() {
                let (name, holder) = (want.name.to_owned(), holder.map(Box::new));
                return Err(match want.patience {
                    Patience::None => Fault::Busy { name, holder },
                    _ => Fault::TimedOut { name, holder },
                });
            }
            if let Some(holder) = &holder {
                watcher.waits(holder);
            }
            if let Some(key) = ahead {
                let limit = want.patience.at_most(WATCH.min(place.lease.ttl / 4)).max(Duration::from_millis(1));
                self.gateway.watch(&key, place.revision, limit);
            }
            if place.lease.good.plus(place.lease.ttl / 3).is_past() {
                match self.keep_alive(&mut place.lease) {
                    // To look will tell.
                    Err(Fault::Unreachable { .. }) | Ok(()) => {}
                    Err(fault) => return Err(fault),
                }
            }
            self.look(&mut place, want.patience, watcher)?;
        }
    }
}

/// Who has a mark, and no key in the queue any more.
fn believer(name: &str, mark: &Mark) -> Entry {
    let said = Some(format!("{}, whose lease was lost and who may not know it yet", mark.holder));
    Entry { name: name.to_owned(), id: mark.holder.clone(), token: 0, owner: None, said, left: None }
}

/// The number of a new lease.
fn random() -> Result<u64, Fault> {
    let number = sys::random().map_err(|error| Fault::Failed {
        what: format!("no random number can be had: {}", aba_lock::base::text::format_io_error(&error)),
        hint: None,
    })?;
    Ok((number & !1).max(2))
}

/// The number of the lease of the mark that is made for a lease of this number.
fn of_mark(number: u64) -> u64 {
    number | 1
}

impl Server for Etcd {
    fn acquire(&mut self, want: &Want, watcher: &mut dyn Watcher) -> Result<Lease, Fault> {
        loop {
            let number = random()?;
            match self.attempt(number, want, watcher) {
                // Stopped for longer than the lease lives, or nobody answered as long: to the end of the queue.
                Err(Fault::Gone { .. }) if want.patience != Patience::None => {}
                Err(fault) => {
                    let _ = self.release(&self.key(want.name, number));
                    return Err(fault);
                }
                Ok(lease) => return Ok(lease),
            }
        }
    }

    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        self.keep_alive(lease)
    }

    fn free(&mut self, id: &str) -> Result<(), Fault> {
        let number = number_of(id).ok_or_else(|| not_ours(id))?;
        let (own, mark) = (encoded(id), mark::delete(id));
        let ask = json!({
            // What is called as a lease is, and is none, is somebody's.
            "compare": [{ "key": own, "target": "LEASE", "lease": number.to_string() }],
            "success": [{ "request_delete_range": { "key": own } }, mark], "failure": [mark],
        });
        let gone = self.gateway.call("/v3/kv/txn", &ask)?;
        if gone.code == OK { Ok(()) } else { Err(refused(&gone)) }
    }

    fn clear(&mut self, id: &str) -> Result<(), Fault> {
        let number = number_of(id).ok_or_else(|| not_ours(id))?;
        for number in [number, of_mark(number)] {
            let revoked = self.gateway.call("/v3/lease/revoke", &json!({ "ID": number.to_string() }))?;
            if revoked.code != OK && revoked.code != NOT_FOUND {
                return Err(refused(&revoked));
            }
        }
        Ok(())
    }

    fn find(&mut self, id: &str) -> Result<Lease, Fault> {
        number_of(id).ok_or_else(|| not_ours(id))?;
        let id = format!("{}{}", self.prefix, id.strip_prefix(&self.prefix).unwrap_or(id));
        let read = self.gateway.call("/v3/kv/range", &json!({ "key": encoded(&id) }))?;
        if read.code != OK {
            return Err(refused(&read));
        }
        let Some(entry) = self.entry(&read.body["kvs"][0]) else { return Err(Fault::Gone { name: id }) };
        Ok(Lease {
            name: entry.name,
            id: entry.id,
            token: entry.token,
            ttl: Duration::ZERO,
            good: Moment::now(),
            kept: false,
        })
    }

    fn queue(&mut self, name: Option<&str>) -> Result<Vec<Entry>, Fault> {
        let (from, to) = match name {
            Some(name) => self.span(name),
            None if self.prefix.is_empty() => ("\0".to_owned(), "\0".to_owned()),
            // `/` and what comes behind it.
            None => (self.prefix.clone(), format!("{}0", self.prefix.trim_end_matches('/'))),
        };
        let ask = json!({ "key": encoded(&from), "range_end": encoded(&to), "sort_order": "ASCEND", "sort_target": "CREATE" });
        let read = self.gateway.call("/v3/kv/range", &ask)?;
        if read.code != OK {
            return Err(refused(&read));
        }
        let kvs = read.body["kvs"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<Entry> = Vec::new();
        let mut marks = Vec::new();
        for kv in &kvs {
            marks.extend(mark::found(kv));
            let Some(mut entry) = self.entry(kv) else { continue };
            // Others keep other things in the same etcd.
            let number = count(&kv["lease"]);
            if self.queued(name.unwrap_or(&entry.name), kv).is_none() {
                continue;
            }
            if name.is_some() {
                entry.left = self.left(number)?;
            }
            found.push(entry);
        }
        // Nobody stands there, and it may not be free all the same.
        for (key, mark) in marks {
            let name = key.strip_prefix(&self.prefix).unwrap_or(&key);
            if !found.iter().any(|entry| entry.name == name) {
                found.push(believer(name, &mark));
            }
        }
        if let Some(name) = name.filter(|_| found.is_empty()) {
            let nobody = self.key(name, 0);
            let read = self.gateway.call("/v3/kv/range", &json!({ "key": encoded(&mark::key(&nobody)) }))?;
            if let Some(mark) = mark::read(&nobody, &read.body["kvs"][0])? {
                found.push(Entry { left: self.left(mark.lease)?, ..believer(name, &mark) });
            }
        }
        Ok(found)
    }
}

fn not_ours(id: &str) -> Fault {
    Fault::Misused { what: format!("{id:?} is no lease"), hint: "say what `lease acquire` printed".to_owned() }
}

/// The number of the lease of a key.
fn number_of(id: &str) -> Option<u64> {
    u64::from_str_radix(id.rsplit_once('/')?.1, 16).ok().filter(|number| *number > 0 && i64::try_from(*number).is_ok())
}

/// Who says there that it is its.
fn owner(kv: &Value) -> Option<Owner> {
    decoded(&kv["value"]).and_then(|text| Owner::from_json(&serde_json::from_str(&text).ok()?))
}

/// An operation that puts a key under a lease.
fn put(key: &str, value: &str, lease: u64) -> Value {
    json!({ "request_put": { "key": encoded(key), "value": encoded(value), "lease": lease.to_string() } })
}

/// An operation that reads a key.
fn range(key: &str) -> Value {
    json!({ "request_range": { "key": encoded(key) } })
}
