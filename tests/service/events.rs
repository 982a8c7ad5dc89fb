//! The stream of events, in both stores: what a client sees, where it continues, and when the stream ends.

use crate::etcd_server::EtcdServer;
use crate::harness::{LOCK, Service, Start, UNLOCK, wait_until, write_file};
use crate::http::{Connection, TIMEOUT};
use serde_json::{Value, json};
use std::time::Instant;

const EVENTS: &str = "/api/v1alpha1/locks/events";

/// A client that reads the stream.
struct EventClient {
    connection: Connection,
    /// Text of the stream that is not parsed yet.
    text: String,
    last_id: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    data: Value,
}

impl EventClient {
    fn connect(service: &Service) -> Self {
        Self::connect_with(service, "", &[])
    }

    fn connect_with(service: &Service, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = service.connect();
        connection.send("GET", &format!("{EVENTS}{query}"), headers, "");
        let status = connection.read_line();
        assert!(status.contains(" 200 "), "{status}");
        let mut type_line = String::new();
        loop {
            match connection.read_line().to_ascii_lowercase() {
                line if line == "\r\n" => break,
                line if line.starts_with("content-type:") => type_line = line,
                _ => (),
            }
        }
        assert_eq!(type_line.trim(), "content-type: text/event-stream");
        Self { connection, text: String::new(), last_id: String::new() }
    }

    /// Returns the next event. `None`: the stream has ended.
    fn try_next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (mut name, mut data) = (String::new(), String::new());
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", value)) => value.clone_into(&mut name),
                        Some(("data", value)) => value.clone_into(&mut data),
                        Some(("id", value)) => value.clone_into(&mut self.last_id),
                        Some(("retry" | "", _)) => (),
                        other => panic!("{other:?}"),
                    }
                }
                self.text = rest.to_owned();
                if !data.is_empty() {
                    return Some(Event { name, data: serde_json::from_str(&data).unwrap() });
                }
            }
            let chunk = self.connection.read_chunk();
            if chunk.is_empty() {
                return None;
            }
            self.text += &chunk;
        }
    }

    fn next(&mut self) -> Event {
        self.try_next().expect("the stream ends")
    }

    /// Reads events up to one about a lock, and checks its name and some of its members.
    fn expect(&mut self, name: &str, members: &Value) -> Value {
        let event = self.next();
        assert_eq!(event.name, name, "{event:?}");
        for (member, value) in members.as_object().unwrap() {
            assert_eq!(&event.data[member], value, "{member}: {event:?}");
        }
        event.data
    }

    fn expect_reset(&mut self) {
        assert_eq!(self.next(), Event { name: "reset".to_owned(), data: json!({}) });
    }
}

/// Checks the events of all changes at `changed`, as a client of `seen` reads them.
fn check_changes(changed: &Service, seen: &Service) {
    let mut client = EventClient::connect(seen);
    client.expect_reset();
    let lock = changed.request("db", "ann", r#""ttl":"1h","eventId":"7""#).lock();
    let id = lock["id"].as_str().unwrap();
    assert_eq!(client.expect("created", &json!({"resource": "db"})), lock);
    let renewed = changed.call("PUT", &format!("{LOCK}/{id}/renew"), "").lock();
    assert_eq!(client.expect("renewed", &json!({})), renewed);
    let updated = changed.call("PUT", &format!("{LOCK}/{id}"), r#"{"who":"ann 2"}"#).lock();
    assert_eq!(client.expect("updated", &json!({"who": "ann 2"})), updated);
    // A move ends the lock of the old key, and creates that of the new one.
    let moved = changed.call("PUT", &format!("{LOCK}/{id}"), r#"{"resource":"disk, 100%"}"#).lock();
    client.expect("released", &json!({"id": id, "resource": "db", "end": "moved"}));
    assert_eq!(client.expect("created", &json!({"id": id})), moved);
    // A waiter joins, and gets the lock.
    let mut waiter = changed.start_waiting_for("disk, 100%", "bob", r#""wait":"60s""#);
    let queue = client.expect("queue", &json!({"service": "web", "environment": "prod", "resource": "disk, 100%"}));
    assert_eq!((&queue["queue"][0]["who"], queue.get("id")), (&"bob".into(), None));
    changed.unlock(id).ok();
    let bob = waiter.answer("POST").lock();
    let mut names = Vec::new();
    for _ in 0..3 {
        let Event { name, data } = client.next();
        match &*name {
            "queue" => assert_eq!(data["queue"], json!([])),
            "released" => assert_eq!((&data["id"], &data["end"]), (&id.into(), &"released".into())),
            _ => assert_eq!(data, bob),
        }
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(names, ["created", "queue", "released"]);
    // Another one leaves.
    let carl = changed.start_waiting_for("disk, 100%", "carl", r#""wait":"60s""#);
    assert_eq!(client.expect("queue", &json!({}))["queue"][0]["who"], "carl");
    drop(carl);
    client.expect("queue", &json!({"resource": "disk, 100%", "queue": []}));
    changed.unlock(bob["id"].as_str().unwrap()).ok();
    client.expect("released", &json!({"id": bob["id"]}));
    let short = changed.request("short", "dora", r#""slots":2,"ttl":"2s""#).lock();
    client.expect("created", &json!({"id": short["id"], "slot": 1, "slots": 2}));
    let expired = client.expect("expired", &json!({"id": short["id"], "end": "expired", "slot": 1}));
    assert!(expired["endedAt"].is_string() && expired.get("secret").is_none());
}

#[test]
fn each_change_is_an_event() {
    let service = Service::new();
    check_changes(&service, &service);
}

#[test]
fn changes_at_another_service_of_the_cluster_are_events() {
    let etcd = EtcdServer::start();
    let (one, two) = (etcd.start_service(), etcd.start_service());
    check_changes(&one, &two);
    check_changes(&two, &two);
}

/// Checks that a client continues where it has stopped, at `later`.
fn check_continuation(service: &Service, later: &Service) {
    let mut client = EventClient::connect(service);
    client.expect_reset();
    let first = service.acquire("one", "ann");
    client.expect("created", &json!({"id": first}));
    let last_id = client.last_id.clone();
    drop(client);
    let missed = service.acquire("two", "ann");
    service.unlock(&first).ok();
    // The other service gets the changes a moment later.
    wait_until("the other service knows the events", || {
        let mut client = EventClient::connect_with(later, "", &[("Last-Event-ID", &last_id)]);
        // One more event, in case that there are none.
        let last = service.acquire("three", "ann");
        service.unlock(&last).ok();
        let event = client.next();
        if event.name == "reset" {
            return false;
        }
        assert_eq!((&*event.name, &event.data["id"]), ("created", &Value::from(&*missed)));
        client.expect("released", &json!({"id": first}));
        true
    });
    for unknown in ["x", "", "0000000000000000-1", &format!("{last_id}0000000")] {
        EventClient::connect_with(later, "", &[("Last-Event-ID", unknown)]).expect_reset();
    }
    service.unlock(&missed).ok();
}

#[test]
fn a_client_that_connects_again_gets_the_events_that_it_has_missed() {
    let service = Service::new();
    check_continuation(&service, &service);
}

#[test]
fn a_client_can_continue_at_another_service_of_the_cluster() {
    let etcd = EtcdServer::start();
    let (one, two) = (etcd.start_service(), etcd.start_service());
    check_continuation(&one, &two);
}

#[test]
fn a_client_that_was_away_for_too_long_must_load_the_locks_again() {
    let service = Service::new();
    let mut client = EventClient::connect(&service);
    client.expect_reset();
    let id = service.acquire("db", "ann");
    client.expect("created", &json!({"id": id}));
    let last_id = client.last_id.clone();
    drop(client);
    let mut connection = service.connect();
    for _ in 0..2100 {
        connection.call("PUT", &format!("{LOCK}/{id}/renew"), &[], r#"{"ttl":"1h"}"#).ok();
    }
    EventClient::connect_with(&service, "", &[("Last-Event-ID", &last_id)]).expect_reset();
}

#[test]
fn after_a_restart_of_the_service_a_client_loads_the_locks_again() {
    let mut service = Service::new();
    let mut client = EventClient::connect(&service);
    client.expect_reset();
    let id = service.acquire("db", "ann");
    client.expect("created", &json!({"id": id}));
    let last_id = client.last_id.clone();
    service.kill();
    assert!(client.try_next().is_none());
    let service = service.restart(&[]);
    EventClient::connect_with(&service, "", &[("Last-Event-ID", &last_id)]).expect_reset();
}

#[test]
fn after_etcd_was_restarted_the_stream_goes_on() {
    let mut etcd = EtcdServer::start();
    let service = etcd.start_service();
    let mut client = EventClient::connect(&service);
    client.expect_reset();
    let id = service.acquire("db", "ann");
    client.expect("created", &json!({"id": id}));
    etcd.change_while_down(|_| ());
    wait_until("etcd answers", || service.get(&format!("{UNLOCK}/{id}")).status != 503);
    client.expect("released", &json!({"id": id, "end": "released"}));
}

#[test]
fn a_query_selects_the_events_of_a_key() {
    let service = Service::new();
    let mut client = EventClient::connect_with(&service, "?service=web&resource=db", &[]);
    client.expect_reset();
    service.acquire("cache", "ann");
    service.call("POST", LOCK, r#"{"service":"shop","who":"ann","resource":"db"}"#).ok();
    let id = service.acquire("db", "ann");
    client.expect("created", &json!({"id": id}));
    for wrong in ["?Service=web", "?resource_=db", &format!("?service={}", "a".repeat(1025))] {
        service.get(&format!("{EVENTS}{wrong}")).expect_refusal(400, 3);
    }
}

const TOKENS: &str =
    "all lock:read,lock:write all\nshop lock:read:shop shop\nwriter lock:write writer\nroot lock:admin root\n";

fn call(service: &Service, token: &str, method: &str, path: &str, body: &str) -> crate::http::Answer {
    service.connect().call(method, path, &[("X-Api-Key", token)], body)
}

#[test]
fn a_client_sees_only_the_services_that_it_may_read() {
    let start = Start::new().token_file(TOKENS);
    let file = start.path("tokens");
    let service = start.start();
    service.get(EVENTS).expect_refusal(401, 16);
    call(&service, "writer", "GET", EVENTS, "").expect_refusal(403, 7);
    let mut all = EventClient::connect_with(&service, "", &[("X-Api-Key", "all")]);
    let mut shop = EventClient::connect_with(&service, "", &[("X-Api-Key", "shop")]);
    all.expect_reset();
    shop.expect_reset();
    let create = |name: &str| {
        let answer = call(&service, "all", "POST", LOCK, &format!(r#"{{"service":"{name}","who":"me"}}"#));
        (answer.id(), answer.ok()["secret"].as_str().unwrap().to_owned())
    };
    let (web, secret) = create("web");
    let (in_shop, _) = create("shop");
    let seen = all.expect("created", &json!({"id": web, "service": "web"}));
    assert!(!seen.to_string().contains("secret") && !seen.to_string().contains(&secret), "{seen}");
    all.expect("created", &json!({"id": in_shop}));
    shop.expect("created", &json!({"id": in_shop}));
    call(&service, "root", "GET", &format!("{UNLOCK}/{in_shop}"), "").ok();
    shop.expect("released", &json!({"id": in_shop, "end": "forced", "endedBy": "root"}));
    all.expect("released", &json!({"id": in_shop}));
    // A lock that moves to a service that the client may not read has ended for it.
    let (moving, _) = create("shop");
    call(&service, "all", "PUT", &format!("{LOCK}/{moving}"), r#"{"service":"hidden"}"#).ok();
    shop.expect("created", &json!({"id": moving}));
    shop.expect("released", &json!({"id": moving, "end": "moved", "service": "shop"}));
    // Without its token, the stream ends. A new permission is valid at once.
    write_file(&file, &TOKENS.replace("all lock:read,lock:write all\n", "").replace("lock:read:shop", "lock:read:web"));
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"reloaded\""]);
    let made = call(&service, "root", "POST", LOCK, r#"{"service":"web","who":"me","resource":"2"}"#).id();
    shop.expect("created", &json!({"id": made, "service": "web"}));
    while let Some(event) = all.try_next() {
        assert!(event.data["id"] != made.as_str(), "{event:?}");
    }
}

#[test]
fn open_streams_do_not_delay_the_end_of_the_service() {
    let mut service = Service::new();
    let mut client = EventClient::connect(&service);
    client.expect_reset();
    // This client reads nothing, and its connection is full.
    let _stuck = EventClient::connect(&service);
    let long = "x".repeat(1000);
    let id = service.request(&long, &long, &format!("\"eventId\":\"{long}\"")).id();
    let mut connection = service.connect();
    // As many bytes as do not fit into the buffers of both sockets.
    for _ in 0..4000 {
        connection.call("PUT", &format!("{LOCK}/{id}/renew"), &[], r#"{"ttl":"1h"}"#).ok();
    }
    while client.next().name != "renewed" {}
    // After the grace period for calls, the exit status would be 1.
    service.terminate();
    while client.try_next().is_some() {}
}

#[test]
fn the_number_of_clients_is_limited_and_clients_that_have_gone_do_not_count() {
    let service = Service::new();
    let clients: Vec<_> = (0..256).map(|_| EventClient::connect(&service)).collect();
    service.get(EVENTS).expect_refusal(429, 8);
    assert!(service.get("/metrics").text.contains("aba_lockd_event_clients 256\n"));
    // Other calls are answered.
    let id = service.acquire("db", "ann");
    service.unlock(&id).ok();
    drop(clients);
    wait_until("no client is left", || service.get("/metrics").text.contains("aba_lockd_event_clients 0\n"));
    EventClient::connect(&service).expect_reset();
}

#[test]
fn a_request_for_the_head_of_the_stream_opens_no_stream() {
    let service = Service::new();
    let answer = service.call("HEAD", EVENTS, "");
    assert!(answer.status == 200 && answer.headers.contains("text/event-stream"), "{answer:?}");
    wait_until("it is closed", || service.get("/metrics").text.contains("aba_lockd_event_clients 0\n"));
}

#[test]
fn a_stream_without_events_has_comments() {
    let service = Service::new();
    let mut client = EventClient::connect(&service);
    client.expect_reset();
    let begun = Instant::now();
    while !client.text.contains(": keep-alive") {
        assert!(begun.elapsed() < TIMEOUT, "there is no comment");
        client.text += &client.connection.read_chunk();
    }
}
