//! Several services over one etcd: what one promises, the others keep.

use crate::harness::{Connection, LIST, LOCK, PATIENCE, Service, Start, UNLOCK, until, wanted};
use crate::queue::{Newcomers, nobody_waits_for_what_is_theirs};
use crate::race;
use crate::rest::words_find_locks_and_waiters;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// An etcd of one member.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) address: String,
    peer: String,
    directory: TempDir,
}

impl Etcd {
    pub(crate) fn start() -> Self {
        // It does not take any free port by itself, so another may be faster.
        for _ in 0..10 {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let (address, peer) = (free(), free());
            let directory = tempfile::tempdir().unwrap();
            let child = launch(&address, &peer, directory.path());
            let mut etcd = Self { child, address, peer, directory };
            if etcd.is_up() {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    /// Stops it, does something to its directory, and starts it again.
    fn while_it_is_down(&mut self, act: impl Fn(&Path)) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        act(self.directory.path());
        // Another may have one of the ports for a moment.
        until("it starts", || {
            self.child = launch(&self.address, &self.peer, self.directory.path());
            self.is_up()
        });
    }

    fn is_up(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && self.child.try_wait().unwrap().is_none() {
            if std::net::TcpStream::connect(&self.address).is_ok()
                && let Ok(answer) = Connection::to(&self.address).try_call("GET", "/health", "")
                && answer.text.contains("\"true\"")
            {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        false
    }

    pub(crate) fn service(&self) -> Service {
        self.service_with(&[])
    }

    fn service_with(&self, args: &[&str]) -> Service {
        Start::new().args(&["--store", &format!("etcd://{}", self.address)]).args(args).go()
    }

    /// One that asks there, in that order.
    pub(crate) fn service_by(addresses: &[&str]) -> Service {
        Start::new().args(&["--store", &format!("etcd://{}", addresses.join(","))]).go()
    }

    /// A call of its gateway's, without a service between.
    pub(crate) fn call(&self, what: &str, request: &Value) -> Value {
        Connection::to(&self.address).call("POST", &format!("/v3/{what}"), &[], &request.to_string()).ok()
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.call("kv/put", &json!({"key": base64(key), "value": base64(value)}));
    }

    /// The lease that a lock is bound to.
    pub(crate) fn lease(&self, id: &str) -> String {
        let found = self.call("kv/range", &json!({"key": base64(&format!("aba-lockd/i/{id}"))}));
        found["kvs"][0]["lease"].as_str().unwrap().to_owned()
    }

    /// How often each service has made nothing of what it asked.
    pub(crate) fn seals(&self) -> Vec<u64> {
        let (from, to) = (base64("aba-lockd/s/"), base64("aba-lockd/s0"));
        let found = self.call("kv/range", &json!({"key": from, "range_end": to}));
        let seals = found["kvs"].as_array().into_iter().flatten();
        seals.map(|seal| seal["version"].as_str().unwrap().parse().unwrap()).collect()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| -> String {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let letter = |at: usize| {
            if at > three.len() { '=' } else { char::from(LETTERS[bits >> (18 - 6 * at) & 63]) }
        };
        (0..4).map(letter).collect()
    };
    text.as_bytes().chunks(3).map(four).collect()
}

fn launch(address: &str, peer: &str, directory: &Path) -> Child {
    let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peer}"));
    Command::new("etcd")
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}"), "--logger", "zap"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd: install the package etcd-server")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn waits(service: &Service, who: &str, more: &str) -> Connection {
    let mut connection = service.connect();
    connection.send("POST", LOCK, &[], &wanted("db", who, more));
    connection
}

#[test]
fn what_one_service_grants_the_others_know() {
    let etcd = Etcd::start();
    let (one, two) = (etcd.service(), etcd.service());
    let lock = one.ask("d/b, 100%", "ann", r#""eventId":"7""#).lock();
    let id = lock["id"].as_str().unwrap();
    let path = format!("{LOCK}/{id}");
    assert_eq!(two.ask("d/b, 100%", "bob", "").is_refused(409, 6)["existingLock"], lock);
    assert_eq!(two.get(&path).lock(), lock);
    assert_eq!(two.found(""), one.found(""));
    assert_eq!(two.found("eventId=7")[0], lock);
    // A change, a change onto a lock that is held, and a move.
    let changed = two.call("PUT", &path, r#"{"who":"bob"}"#).lock();
    assert_eq!(
        (&changed["who"], &changed["fencingToken"], &changed["id"]),
        (&"bob".into(), &lock["fencingToken"], &lock["id"])
    );
    let other = one.take("cache", "carl");
    two.call("PUT", &path, r#"{"resource":"cache"}"#).is_refused(409, 6);
    let moved = two.call("PUT", &path, r#"{"resource":"disk"}"#).lock();
    assert_eq!((&moved["id"], &moved["resource"]), (&lock["id"], &"disk".into()));
    assert!(moved["fencingToken"].as_u64() > lock["fencingToken"].as_u64());
    assert_eq!(one.get(&path).lock(), moved);
    one.take("d/b, 100%", "dora");
    // A time to live, and its renewal.
    let renewed = two.call("PUT", &format!("{path}/renew"), r#"{"ttl":"1h"}"#).lock();
    assert_eq!(renewed["ttl"], "3600s");
    let again = one.call("PUT", &format!("{path}/renew"), "").lock();
    assert!(again["expiresAt"].as_str() > renewed["expiresAt"].as_str());
    assert_eq!(again["fencingToken"], moved["fencingToken"]);
    // Released by the other.
    assert_eq!(one.unlock(id).ok()["count"], "1");
    two.get(&path).is_refused(404, 5);
    two.unlock(id).is_refused(404, 5);
    two.call("PUT", &format!("{path}/renew"), "").is_refused(404, 5);
    one.unlock(&other).ok();
    let page = two.get(&format!("{LIST}?per_page=1&page=2")).ok();
    assert_eq!((page["total"].as_u64(), page["locks"].as_array().unwrap().len()), (Some(1), 0));
    two.get("/healthz").ok();
}

#[test]
fn a_list_is_searched_for_words_in_etcd_too() {
    words_find_locks_and_waiters(&Etcd::start().service());
}

#[test]
fn of_64_who_ask_at_once_of_two_services_one_has_it() {
    let etcd = Etcd::start();
    race::one_has_it(&[&etcd.service(), &etcd.service()], (race::rounds() / 2).max(5));
}

#[test]
fn the_queue_is_one_over_all_services_and_who_goes_away_leaves_it() {
    let etcd = Etcd::start();
    let services = [etcd.service(), etcd.service()];
    let mut id = services[0].take("db", "first");
    let mut line = Vec::new();
    for number in 1..=5_usize {
        line.push(waits(&services[number % 2], &format!("w{number}"), r#""wait":"60s""#));
        services[0].until_waiting("db", number);
    }
    // The third goes away.
    drop(line.remove(2));
    services[1].until_waiting("db", 4);
    let newcomers = Newcomers::come(&[&services[0], &services[1]]);
    let mut token = 0;
    for (who, mut one) in ["w1", "w2", "w4", "w5"].into_iter().zip(line) {
        services[1].unlock(&id).ok();
        let lock = one.answer("POST").lock();
        assert_eq!(lock["who"], who);
        assert!(lock["fencingToken"].as_u64().unwrap() > token);
        token = lock["fencingToken"].as_u64().unwrap();
        id = lock["id"].as_str().unwrap().to_owned();
    }
    assert!(newcomers.leave() > 0, "there were some");
    services[0].unlock(&id).ok();
    assert!(services[1].found("").is_empty());
}

#[test]
fn who_has_waited_long_enough_or_is_told_that_the_service_stops_is_in_the_queue_no_more() {
    let etcd = Etcd::start();
    let (mut one, two) = (etcd.service(), etcd.service());
    let id = two.take("db", "ann");
    assert_eq!(one.ask("db", "bob", r#""wait":0.05"#).is_refused(409, 6)["existingLock"]["id"], id.as_str());
    two.until_waiting("db", 0);
    let mut bob = waits(&one, "bob", r#""wait":"60s""#);
    let mut carl = waits(&two, "carl", r#""wait":"60s""#);
    two.until_waiting("db", 2);
    one.signal("TERM");
    bob.answer("POST").is_refused(503, 14);
    assert_eq!(one.ended().code(), Some(0));
    two.unlock(&id).ok();
    assert_eq!(carl.answer("POST").lock()["who"], "carl");
}

#[test]
fn who_asks_two_services_for_one_event_does_not_wait_for_what_is_theirs() {
    let etcd = Etcd::start();
    nobody_waits_for_what_is_theirs(&etcd.service(), &etcd.service());
}

#[test]
fn a_service_that_has_ended_has_left_no_place_behind() {
    let etcd = Etcd::start();
    let (mut one, two) = (etcd.service(), etcd.service());
    let id = two.take("db", "ann");
    let mut line = Vec::new();
    for number in 1..=20 {
        line.push(waits(&one, "bob", r#""wait":"60s""#));
        two.until_waiting("db", number);
    }
    assert_eq!(etcd.seals().len(), 2);
    one.signal("TERM");
    assert_eq!(one.ended().code(), Some(0));
    for mut bob in line {
        bob.answer("POST").is_refused(503, 14);
    }
    assert!(two.found("")[0].get("queue").is_none());
    assert_eq!(etcd.seals().len(), 1);
    two.unlock(&id).ok();
    two.take("db", "carl");
}

#[test]
fn a_service_that_is_killed_leaves_its_locks_held_and_its_places_to_those_behind() {
    let etcd = Etcd::start();
    let (mut one, two) = (etcd.service(), etcd.service());
    let id = one.take("db", "ann");
    let _bob = waits(&one, "bob", r#""wait":"60s""#);
    two.until_waiting("db", 1);
    let mut carl = waits(&two, "carl", r#""wait":"60s""#);
    two.until_waiting("db", 2);
    one.kill();
    assert_eq!(two.found("")[0]["id"], id.as_str());
    two.unlock(&id).ok();
    assert_eq!(carl.answer("POST").lock()["who"], "carl");
}

#[test]
fn a_lock_with_a_time_to_live_ends_by_itself_and_goes_to_who_waits_at_another_service() {
    let etcd = Etcd::start();
    let (mut one, two) = (etcd.service(), etcd.service());
    let first = one.ask("db", "ann", r#""ttl":"1s""#).lock();
    one.kill();
    let second = two.ask("db", "bob", r#""wait":"60s""#).lock();
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64());
    let now = jiff::Timestamp::now();
    assert!(now >= first["expiresAt"].as_str().unwrap().parse().unwrap());
    two.get(&format!("{LOCK}/{}", first["id"].as_str().unwrap())).is_refused(404, 5);
}

#[test]
fn while_etcd_does_not_answer_nothing_is_granted_and_nothing_is_free() {
    let etcd = Etcd::start();
    let service = etcd.service();
    let id = service.take("held", "ann");
    etcd.signal("STOP");
    service.ask("held", "bob", "").is_refused(503, 14);
    service.ask("free", "bob", r#""eventId":"doubt""#).is_refused(503, 14);
    service.get(&format!("{LOCK}/{id}")).is_refused(503, 14);
    service.get(LIST).is_refused(503, 14);
    service.get(&format!("{UNLOCK}/{id}")).is_refused(503, 14);
    service.get("/healthz").is_refused(503, 14);
    etcd.signal("CONT");
    // What was asked meanwhile may be done when it goes on. What nobody was told to have is taken back; what was to be
    // released is held or released, and can be released.
    until("it answers", || service.get("/healthz").status == 200);
    until("nobody has what was in doubt", || {
        let taken = service.ask("free", "carl", "");
        taken.status == 200
    });
    let released = service.unlock(&id);
    assert!(released.status == 200 || released.status == 404, "{released:?}");
    service.take("held", "bob");
}

#[test]
fn tokens_grow_from_one_store_to_another_and_over_a_base() {
    let etcd = Etcd::start();
    let token = |service: &Service| {
        let lock = service.ask("db", "ann", "").lock();
        service.unlock(lock["id"].as_str().unwrap()).ok();
        lock["fencingToken"].as_u64().unwrap()
    };
    let file = Service::new();
    let first = token(&file);
    let (one, two) = (etcd.service(), etcd.service());
    let second = token(&one);
    assert!(second > first);
    let third = token(&two);
    assert!(third > second);
    // And back, and once more.
    let fourth = token(&file);
    assert!(fourth > third);
    let back = etcd.service();
    assert!(token(&back) > fourth);
    // Also of a service that was there already.
    assert!(token(&one) > fourth);
    let ahead = fourth + 1_000_000_000_000;
    let three = etcd.service_with(&["--token-base", &ahead.to_string()]);
    let fifth = token(&three);
    assert!(fifth > ahead);
    // Those that were there already go by it, too.
    let sixth = token(&one);
    assert!(sixth > fifth);
    assert!(token(&two) > sixth);
}

#[test]
fn tokens_are_not_behind_the_clock_when_etcd_was_set_back() {
    let etcd = Etcd::start();
    etcd.put("aba-lockd/base", "1");
    let before = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
    assert!(etcd.service().ask("db", "ann", "").lock()["fencingToken"].as_u64().unwrap() > before);
}

#[test]
fn tokens_grow_also_for_a_service_under_which_etcd_is_set_back_to_a_copy() {
    let mut etcd = Etcd::start();
    let service = etcd.service();
    let token = || {
        let mut last = service.ask("db", "ann", "");
        until("it is granted", || {
            if last.status != 200 {
                last = service.ask("db", "ann", "");
            }
            last.status == 200
        });
        until("it is released", || [200, 404].contains(&service.unlock(&last.id()).status));
        last.lock()["fencingToken"].as_u64().unwrap()
    };
    let copy = |from: &Path, to: &Path| {
        crate::harness::output_of(Command::new("cp").arg("-a").arg(from).arg(to));
    };
    token();
    etcd.while_it_is_down(|directory| copy(&directory.join("data"), &directory.join("copy")));
    let before = (0..10).map(|_| token()).max().unwrap();
    etcd.while_it_is_down(|directory| {
        std::fs::remove_dir_all(directory.join("data")).unwrap();
        copy(&directory.join("copy"), &directory.join("data"));
    });
    let mut last = before;
    for _ in 0..3 {
        let next = token();
        assert!(next > last, "{next} after {last}");
        last = next;
    }
}

#[test]
fn a_base_that_leaves_no_room_for_tokens_is_refused() {
    for base in [u64::MAX, 1 << 63, (1 << 62) + 1] {
        let (status, said) = Start::new().args(&["--token-base", &base.to_string()]).fails();
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("--token-base"), "{said}");
    }
    let service = Start::new().args(&["--token-base", &(1_u64 << 62).to_string()]).go();
    assert!(service.ask("db", "ann", "").lock()["fencingToken"].as_u64() > Some(1 << 62));
    // One that was written before there was a limit.
    let etcd = Etcd::start();
    etcd.put("aba-lockd/base", &u64::MAX.to_string());
    let (status, said) = Start::new().args(&["--store", &format!("etcd://{}", etcd.address)]).fails();
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("aba-lockd/base"), "{said}");
}
