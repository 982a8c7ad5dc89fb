//! Leases in etcd, by the JSON gateway (`/v3/…`, etcd 3.4 and newer), with a recipe of our own over its primitives.
//!
//! Who wants NAME makes an etcd lease with a number of its own choice and puts the key `NAME/<number in hex>` under it, if that
//! is not there. The keys of a name are its queue, in the order of their create revisions, and the first one's holder
//! has the lock; the create revision is the fencing token. `etcdctl lock` and Go's `concurrency.Mutex` make the same keys
//! and go by the same order, so they stand in the same queue. The server's own Lock call is never used: that of 3.4 hands
//! the lock to a waiter whose lease has expired.
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
//! | the same | it revokes leases that others have renewed meanwhile, as it believes that they have ended (seen with 3.4.23) | the mark, see below |
//! | all servers | | nothing is granted or renewed; the deadline here passes before the lease ends there |

//! # The mark
//!
//! So a lease may end before its time, while its holder has a right to believe in it. A holder with a keeper therefore leaves a
//! mark when it acquires: the key `NAME`, with no lease. Giving the lease back takes it away. Who is first in the queue and
//! finds the mark of another, whose key is gone, does not claim yet: it puts the mark under a lease that lasts as long as the
//! other's did, if nobody has, and waits until the mark is gone. By then the other has found out, or its keeper has ended the
//! script, as that goes by its own clock, `good + ttl`, and `good` is before its key was removed. What it costs: after
//! a crash of machine or keeper, the name is free after twice the time. Other programs know nothing of the mark, and
//! claim at once. (So users of etcd that may use a name need its key, and the prefix of the keys: `NAME` as a prefix.)

use crate::clock::Moment;
use crate::server::http::{Answer, Http, TRY};
use crate::server::{Entry, Fault, Lease, Owner, Patience, Server, Want, Watcher};
use crate::settings::Settings;
use crate::sys;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

/// How long to trust in a watch.
const WATCH: Duration = Duration::from_secs(5);

/// How long to pause when nobody answers.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to go on trying, for one who does not wait, when nobody answers.
const TRIES: Duration = Duration::from_secs(8);

// The codes of gRPC (google.rpc.Code) that we act on.
const OK: u64 = 0;
const INVALID: u64 = 3;
const NOT_FOUND: u64 = 5;
const EXISTS: u64 = 9;
const UNAUTHENTICATED: u64 = 16;
/// Cancelled, unknown, deadline exceeded, resource exhausted, internal, unavailable: another endpoint may do better.
const ELSEWHERE: [u64; 6] = [1, 2, 4, 8, 13, 14];

pub(crate) struct Etcd {
    http: Http,
    prefix: String,
    secret: Option<String>,
}

/// What the server said.
struct Reply {
    body: Value,
    code: u64,
    message: String,
    sent: Moment,
}

/// Our place in a queue.
struct Place {
    lease: Lease,
    /// The first of the queue, and the one before us, if that is another.
    first: Option<Entry>,
    before: Option<String>,
    mark: Option<Mark>,
    /// As of which revision.
    revision: u64,
}

/// The mark of a holder.
struct Mark {
    /// The key of the holder.
    id: String,
    ttl: Duration,
    /// Whether it will end by itself.
    ends: bool,
    revision: u64,
}

impl Mark {
    fn of(kv: &Value) -> Option<Self> {
        let text = decoded(&kv["value"])?;
        let (id, ttl) = text.rsplit_once(' ')?;
        let ttl = Duration::from_secs(ttl.parse().ok()?);
        Some(Self { id: id.to_owned(), ttl, ends: count(&kv["lease"]) != 0, revision: count(&kv["mod_revision"]) })
    }

    fn text(lease: &Lease) -> String {
        format!("{} {}", lease.id, lease.ttl.as_secs())
    }
}

impl Etcd {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { http: Http::new(settings)?, prefix: settings.prefix.clone(), secret: settings.secret.clone() })
    }

    /// Asks each endpoint once, until one answers.
    fn call(&mut self, path: &str, body: &Value) -> Result<Reply, Fault> {
        let (mut left, mut again, mut what) = (self.http.endpoints(), true, String::new());
        while left > 0 {
            if self.secret.is_some() && self.http.authorization.is_none() {
                self.authenticate()?;
            }
            match self.http.send("POST", path, Some(body), TRY).map(reply) {
                Ok(reply) if reply.code == UNAUTHENTICATED || is_old(&reply) => {
                    if !again || self.secret.is_none() {
                        return Err(refused(&reply));
                    }
                    again = false;
                    self.http.authorization = None;
                    continue;
                }
                Ok(reply) if !ELSEWHERE.contains(&reply.code) => return Ok(reply),
                Ok(reply) => what = reply.message,
                Err(reason) => what = reason,
            }
            self.http.next_endpoint();
            left -= 1;
        }
        Err(Fault::Unreachable { what })
    }

    fn authenticate(&mut self) -> Result<(), Fault> {
        let Some((name, password)) = self.secret.as_deref().and_then(|secret| secret.split_once(':')) else {
            return Err(Fault::Misused {
                what: "the secret of an etcd server is USER:PASSWORD".to_owned(),
                hint: "see ABA_LOCK_SERVER_SECRET_FILE".to_owned(),
            });
        };
        let body = json!({ "name": name, "password": password });
        let mut what = String::new();
        for _ in 0..self.http.endpoints() {
            match self.http.send("POST", "/v3/auth/authenticate", Some(&body), TRY).map(reply) {
                Ok(reply) if reply.code == OK => {
                    self.http.authorization = reply.body["token"].as_str().map(str::to_owned);
                    return Ok(());
                }
                // It asks for no authentication.
                Ok(reply) if reply.code == EXISTS => {
                    self.secret = None;
                    return Ok(());
                }
                Ok(reply) if !ELSEWHERE.contains(&reply.code) => return Err(refused(&reply)),
                Ok(reply) => what = reply.message,
                Err(reason) => what = reason,
            }
            self.http.next_endpoint();
        }
        Err(Fault::Unreachable { what })
    }

    /// The same until an answer comes, or patience is out. `still`: what else has to hold.
    fn insist(
        &mut self,
        path: &str,
        body: &Value,
        patience: Patience,
        watcher: &mut dyn Watcher,
    ) -> Result<Reply, Fault> {
        let end = Moment::now().plus(TRIES);
        loop {
            match self.call(path, body) {
                Err(Fault::Unreachable { what }) => {
                    let over = if patience == Patience::None { end.is_past() } else { patience.is_out() };
                    if over {
                        return Err(Fault::Unreachable { what });
                    }
                    watcher.unanswered(&what);
                    thread::sleep(patience.at_most(PAUSE));
                }
                done => return done,
            }
        }
    }

    fn key(&self, name: &str, number: u64) -> String {
        format!("{}{name}/{number:x}", self.prefix)
    }

    /// The key of the mark.
    fn mark(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
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
        let granted = self.insist("/v3/lease/grant", &ask, want.patience, watcher)?;
        let mut lease = Lease {
            name: want.name.to_owned(),
            id: key.clone(),
            token: 0,
            ttl: Duration::from_secs(count(&granted.body["TTL"])),
            good: granted.sent,
        };
        match granted.code {
            OK => {}
            EXISTS => self.keep_alive(&mut lease)?,
            _ => return Err(refused(&granted)),
        }
        let (from, to) = self.span(want.name);
        let (from, to) = (encoded(&from), encoded(&to));
        let (own, mark) = (encoded(&key), encoded(&self.mark(want.name)));
        let put = json!({ "request_put": { "key": own, "value": encoded(&want.owner.to_json().to_string()), "lease": number.to_string() } });
        let set = json!({ "request_put": { "key": mark, "value": encoded(&Mark::text(&lease)) } });
        let first = json!({ "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1" } });
        let read = json!({ "request_range": { "key": mark } });
        // All at once, if there is no queue and no mark.
        let is_new = |key: &str| json!({ "key": key, "target": "CREATE", "create_revision": "0" });
        let mut nobody = is_new(&from);
        nobody["range_end"] = json!(to);
        let all = if want.kept { vec![put.clone(), set] } else { vec![put.clone()] };
        let ask = json!({
            "compare": [nobody, is_new(&mark)], "success": all,
            "failure": [{ "request_txn": {
                "compare": [is_new(&own)], "success": [put],
                "failure": [{ "request_range": { "key": own } }],
            } }, first, read],
        });
        let stood = self.insist("/v3/kv/txn", &ask, want.patience, watcher)?;
        match stood.code {
            OK => {}
            // The lease expired meanwhile.
            NOT_FOUND => return Err(Fault::Gone { name: want.name.to_owned() }),
            _ => return Err(refused(&stood)),
        }
        let revision = count(&stood.body["header"]["revision"]);
        if stood.body["succeeded"] == json!(true) {
            lease.token = revision;
            let first =
                Some(Entry { name: lease.name.clone(), id: key, token: revision, owner: None, said: None, left: None });
            let mark = want.kept.then(|| Mark { id: lease.id.clone(), ttl: lease.ttl, ends: false, revision });
            return Ok(Place { lease, first, before: None, mark, revision });
        }
        let responses = &stood.body["responses"];
        let inner = &responses[0]["response_txn"];
        lease.token = if inner["succeeded"] == json!(true) {
            revision
        } else {
            count(&inner["responses"][0]["response_range"]["kvs"][0]["create_revision"])
        };
        let first = self.entry(&responses[1]["response_range"]["kvs"][0]);
        let mark = Mark::of(&responses[2]["response_range"]["kvs"][0]);
        // Who is right before us is for `look` to find out.
        Ok(Place { lease, first, before: None, mark, revision })
    }

    /// Our own key, the first, the one before us, and the mark, all as of one moment that a majority confirms.
    fn look(&mut self, place: &mut Place, patience: Patience, watcher: &mut dyn Watcher) -> Result<(), Fault> {
        let (from, to) = self.span(&place.lease.name);
        let (from, to) = (encoded(&from), encoded(&to));
        let before = place.lease.token.saturating_sub(1).to_string();
        let ask = json!({ "success": [
            { "request_range": { "key": encoded(&place.lease.id) } },
            { "request_range": { "key": from, "range_end": to, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1" } },
            { "request_range": { "key": from, "range_end": to, "sort_order": "DESCEND", "sort_target": "CREATE", "limit": "1", "max_create_revision": before } },
            { "request_range": { "key": encoded(&self.mark(&place.lease.name)) } },
        ] });
        let seen = self.insist("/v3/kv/txn", &ask, patience, watcher)?;
        if seen.code != OK {
            return Err(refused(&seen));
        }
        let entry = |at: usize| self.entry(&seen.body["responses"][at]["response_range"]["kvs"][0]);
        if entry(0).is_none_or(|own| own.token != place.lease.token) {
            return Err(Fault::Gone { name: place.lease.name.clone() });
        }
        place.first = entry(1);
        place.before = entry(2).map(|before| before.id);
        place.mark = Mark::of(&seen.body["responses"][3]["response_range"]["kvs"][0]);
        place.revision = count(&seen.body["header"]["revision"]);
        Ok(())
    }

    /// Waits until the key is deleted, or it is time to look again.
    fn watch(&mut self, key: &str, after: u64, limit: Duration) {
        let ask = json!({ "create_request": { "key": encoded(key), "filters": ["NOPUT"], "start_revision": (after + 1).to_string() } });
        let begin = Moment::now();
        let watched = self.http.stream("/v3/watch", &ask, limit, |line| {
            let result = &line["result"];
            line["error"].is_object() || result["canceled"] == json!(true) || result["events"].is_array()
        });
        if watched.is_err() && begin.plus(limit).left() > PAUSE {
            self.http.next_endpoint();
            thread::sleep(PAUSE);
        }
    }

    /// Renews the lease, without proof that who renewed it may do so. Its term.
    fn keep_alive(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        for _ in 0..=self.http.endpoints() {
            let number = number_of(&lease.id).ok_or_else(|| not_ours(&lease.id))?;
            let renewed = self.call("/v3/lease/keepalive", &json!({ "ID": number.to_string() }))?;
            if renewed.code != OK && renewed.code != NOT_FOUND {
                return Err(refused(&renewed));
            }
            let ttl = count(&renewed.body["result"]["TTL"]);
            let read = self.call("/v3/kv/range", &json!({ "key": encoded(&lease.id) }))?;
            if read.code != OK {
                return Err(refused(&read));
            }
            let own = self.entry(&read.body["kvs"][0]);
            let is_there = own.is_some_and(|own| own.token == lease.token) || lease.token == 0;
            let same = renewed.body["result"]["header"]["raft_term"] == read.body["header"]["raft_term"];
            if !is_there || (ttl == 0 && same) {
                return Err(Fault::Gone { name: lease.name.clone() });
            }
            if same {
                lease.ttl = Duration::from_secs(ttl);
                lease.good = renewed.sent;
                return Ok(());
            }
        }
        Err(Fault::Unreachable { what: "the cluster elects a leader".to_owned() })
    }

    fn entry(&self, kv: &Value) -> Option<Entry> {
        let id = decoded(&kv["key"])?;
        let name = id.strip_prefix(&self.prefix)?.rsplit_once('/')?.0.to_owned();
        let owner = decoded(&kv["value"]).and_then(|text| Owner::from_json(&serde_json::from_str(&text).ok()?));
        Some(Entry { name, id, token: count(&kv["create_revision"]), owner, said: None, left: None })
    }

    /// Leaves our mark, if our key is there and nobody else's mark. `false`: to look will tell.
    fn leave_mark(&mut self, place: &Place, patience: Patience, watcher: &mut dyn Watcher) -> Result<bool, Fault> {
        let (own, mark) = (encoded(&place.lease.id), encoded(&self.mark(&place.lease.name)));
        let ask = json!({
            "compare": [
                { "key": own, "target": "CREATE", "create_revision": place.lease.token.to_string() },
                { "key": mark, "target": "CREATE", "create_revision": "0" },
            ],
            "success": [{ "request_put": { "key": mark, "value": encoded(&Mark::text(&place.lease)) } }],
        });
        let left = self.insist("/v3/kv/txn", &ask, patience, watcher)?;
        if left.code == OK { Ok(left.body["succeeded"] == json!(true)) } else { Err(refused(&left)) }
    }

    /// Has the mark of one whose key is gone end when that must know it.
    fn have_it_end(&mut self, name: &str, mark: &Mark) -> Result<(), Fault> {
        let number = random()?;
        let ttl = mark.ttl.as_secs().max(1).to_string();
        let granted = self.call("/v3/lease/grant", &json!({ "ID": number.to_string(), "TTL": ttl }))?;
        if granted.code != OK {
            return Err(refused(&granted));
        }
        let (key, text) = (encoded(&self.mark(name)), encoded(&format!("{} {ttl}", mark.id)));
        let put = self.call(
            "/v3/kv/txn",
            &json!({
                "compare": [{ "key": key, "target": "MOD", "mod_revision": mark.revision.to_string() }],
                "success": [{ "request_put": { "key": key, "value": text, "lease": number.to_string() } }],
            }),
        )?;
        if put.code != OK || put.body["succeeded"] != json!(true) {
            // Another was first.
            self.call("/v3/lease/revoke", &json!({ "ID": number.to_string() }))?;
        }
        Ok(())
    }

    fn attempt(&mut self, number: u64, want: &Want, watcher: &mut dyn Watcher) -> Result<Lease, Fault> {
        let mut place = self.stand(number, want, watcher)?;
        loop {
            let is_first = place.first.as_ref().is_some_and(|first| first.token == place.lease.token);
            let is_ours = |mark: &Mark| mark.id == place.lease.id;
            let mut holder = place.first.take();
            let mut ahead = place.before.clone();
            if is_first {
                match place.mark.take() {
                    Some(mark) if !is_ours(&mark) => {
                        if !mark.ends {
                            let _ = self.have_it_end(want.name, &mark);
                        }
                        let said = format!("{}, whose lease was lost and who may not know it yet", mark.id);
                        let (name, said) = (want.name.to_owned(), Some(said));
                        holder = Some(Entry { name, id: mark.id, token: 0, owner: None, said, left: None });
                        ahead = Some(self.mark(want.name));
                    }
                    mark => {
                        // Renewed just now, so that whoever gets it has the most of it.
                        if place.lease.good.plus(place.lease.ttl / 3).is_past() {
                            self.keep_alive(&mut place.lease)?;
                        }
                        if mark.is_some() || !want.kept || self.leave_mark(&place, want.patience, watcher)? {
                            return Ok(place.lease);
                        }
                        self.look(&mut place, want.patience, watcher)?;
                        continue;
                    }
                }
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
                self.watch(&key, place.revision, limit);
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

/// The number of a new lease.
fn random() -> Result<u64, Fault> {
    sys::random().map_err(|error| Fault::Failed {
        what: format!("no random number can be had: {}", aba_lock::error::reason(&error)),
        hint: None,
    })
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
        number_of(id).ok_or_else(|| not_ours(id))?;
        let mark = encoded(id.rsplit_once('/').map_or(id, |(name, _)| name));
        let delete = |key: &str| json!({ "request_delete_range": { "key": key } });
        let own = delete(&encoded(id));
        // The mark is ours if it begins with our key and a blank: `!` comes after that.
        let gone = self.call(
            "/v3/kv/txn",
            &json!({
                "compare": [
                    { "key": mark, "target": "VALUE", "result": "GREATER", "value": encoded(&format!("{id} ")) },
                    { "key": mark, "target": "VALUE", "result": "LESS", "value": encoded(&format!("{id}!")) },
                ],
                "success": [own, delete(&mark)], "failure": [own],
            }),
        )?;
        if gone.code == OK { Ok(()) } else { Err(refused(&gone)) }
    }

    fn clear(&mut self, id: &str) -> Result<(), Fault> {
        let number = number_of(id).ok_or_else(|| not_ours(id))?;
        let revoked = self.call("/v3/lease/revoke", &json!({ "ID": number.to_string() }))?;
        match revoked.code {
            OK | NOT_FOUND => Ok(()),
            _ => Err(refused(&revoked)),
        }
    }

    fn find(&mut self, id: &str) -> Result<Lease, Fault> {
        number_of(id).ok_or_else(|| not_ours(id))?;
        let id = format!("{}{}", self.prefix, id.strip_prefix(&self.prefix).unwrap_or(id));
        let read = self.call("/v3/kv/range", &json!({ "key": encoded(&id) }))?;
        if read.code != OK {
            return Err(refused(&read));
        }
        let Some(entry) = self.entry(&read.body["kvs"][0]) else { return Err(Fault::Gone { name: id }) };
        Ok(Lease { name: entry.name, id: entry.id, token: entry.token, ttl: Duration::ZERO, good: Moment::now() })
    }

    fn queue(&mut self, name: Option<&str>) -> Result<Vec<Entry>, Fault> {
        let (from, to) = match name {
            Some(name) => self.span(name),
            None if self.prefix.is_empty() => ("\0".to_owned(), "\0".to_owned()),
            // `/` and what comes behind it.
            None => (self.prefix.clone(), format!("{}0", self.prefix.trim_end_matches('/'))),
        };
        let ask = json!({ "key": encoded(&from), "range_end": encoded(&to), "sort_order": "ASCEND", "sort_target": "CREATE" });
        let read = self.call("/v3/kv/range", &ask)?;
        if read.code != OK {
            return Err(refused(&read));
        }
        let kvs = read.body["kvs"].as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for kv in &kvs {
            let Some(mut entry) = self.entry(kv) else { continue };
            let number = count(&kv["lease"]);
            // Others keep other things in the same etcd.
            if name.is_none() && (number == 0 || number_of(&entry.id) != Some(number)) {
                continue;
            }
            if name.is_some() && number != 0 {
                let left = self.call("/v3/lease/timetolive", &json!({ "ID": number.to_string() }))?;
                entry.left = left.body["TTL"].as_str().and_then(|ttl| ttl.parse().ok()).map(Duration::from_secs);
            }
            found.push(entry);
        }
        Ok(found)
    }
}

fn reply(answer: Answer) -> Reply {
    let Answer { status, body, sent } = answer;
    // Streams wrap it.
    let error = if body["error"].is_object() { &body["error"] } else { &body };
    let code = error["code"].as_u64().or(error["grpc_code"].as_u64());
    let code = match (status, code) {
        (200, None) => OK,
        (_, Some(code)) => code,
        (401, None) => UNAUTHENTICATED,
        (500.., None) => ELSEWHERE[5],
        (_, None) => INVALID,
    };
    let message = error["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Reply { body, code, message, sent }
}

/// A token from before the users were changed.
fn is_old(reply: &Reply) -> bool {
    reply.code == INVALID && reply.message.contains("auth: revision in header is old")
}

fn refused(reply: &Reply) -> Fault {
    let message = reply.message.trim_start_matches("etcdserver: ");
    let hint = match reply.code {
        // Permission denied, unauthenticated.
        7 | UNAUTHENTICATED | INVALID => {
            Some("put USER:PASSWORD into a file of yours, and set ABA_LOCK_SERVER_SECRET_FILE to its path".to_owned())
        }
        _ => None,
    };
    Fault::Failed { what: format!("etcd refused: {message}"), hint }
}

fn not_ours(id: &str) -> Fault {
    Fault::Misused { what: format!("{id} is no lease"), hint: "say what `lease acquire` printed".to_owned() }
}

/// The number of the lease of a key.
fn number_of(id: &str) -> Option<u64> {
    u64::from_str_radix(id.rsplit_once('/')?.1, 16).ok().filter(|number| *number > 0 && i64::try_from(*number).is_ok())
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

/// A number as the gateway writes it; 0 where it leaves it out.
fn count(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64()).unwrap_or(0)
}
