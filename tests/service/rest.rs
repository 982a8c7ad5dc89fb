//! The REST API, call by call.

use crate::harness::{LIST, LOCK, Service, UNLOCK, request_body};
use serde_json::{Value, json};

#[test]
fn an_answer_contains_the_lock_nested_for_clients_and_flat_for_scripts() {
    let service = Service::new();
    let answer = service.request("db", "ann", r#""eventId":"e-7""#).ok();
    let lock = &answer["lock"];
    for (name, value) in
        [("service", "web"), ("who", "ann"), ("environment", "prod"), ("resource", "db"), ("eventId", "e-7")]
    {
        assert_eq!(lock[name], value);
        assert_eq!(answer[name], value);
    }
    assert_eq!(answer["id"], lock["id"]);
    assert!(!lock["id"].as_str().unwrap().is_empty());
    let created = lock["createdAt"].as_str().unwrap();
    created.parse::<jiff::Timestamp>().unwrap();
    // Members that the request does not ask for are missing.
    for name in ["ttl", "expiresAt", "queue"] {
        assert!(lock.get(name).is_none(), "{lock}");
    }
    let id = lock["id"].as_str().unwrap();
    assert_eq!(&service.get(&format!("{LOCK}/{id}")).lock(), lock);
    assert_eq!(&service.list("")[0], lock);
}

#[test]
fn both_spellings_are_accepted_and_unknown_members_are_ignored() {
    let service = Service::new();
    assert_eq!(service.request("a", "ann", r#""event_id":"1","colour":"red""#).lock()["eventId"], "1");
    assert_eq!(service.request("b", "ann", r#""eventId":"2","x":{"y":[]}"#).lock()["eventId"], "2");
    assert_eq!(service.request("c", "ann", r#""eventId":null"#).lock()["eventId"], "");
    for (resource, empty) in [("d", "null"), ("e", r#""""#)] {
        let both = service.request(resource, "ann", &format!(r#""eventId":{empty},"event_id":"3""#));
        assert_eq!(both.lock()["eventId"], "3");
    }
    assert_eq!(service.list("event_id=3&eventId=").len(), 2);
    // Only `service` and `who` are required.
    let lock = service.call("POST", LOCK, r#"{"service":"web","who":"ann"}"#).lock();
    assert_eq!((&lock["environment"], &lock["resource"]), (&json!(""), &json!("")));
}

#[test]
fn the_refusal_of_a_held_lock_names_its_holder_and_has_no_id() {
    let service = Service::new();
    let lock = service.request("db", "ann", "").lock();
    let refusal = service.request("db", "bob", "").expect_refusal(409, 6);
    let id = lock["id"].as_str().unwrap();
    let message = format!("service web is already locked for db in prod by ann (lock_id: {id})");
    assert_eq!(refusal["message"], message.as_str());
    assert_eq!(refusal["error"], "lock already exists");
    assert_eq!(refusal["existingLock"], lock);
}

#[test]
fn locks_differ_if_any_part_of_the_key_differs() {
    let service = Service::new();
    service.acquire("db", "ann");
    for key in [
        r#""service":"api","environment":"prod","resource":"db""#,
        r#""service":"web","environment":"test","resource":"db""#,
        r#""service":"web","environment":"prod","resource":"cache""#,
        r#""service":"we","environment":"bprod","resource":"db""#,
    ] {
        service.call("POST", LOCK, &format!("{{\"who\":\"bob\",{key}}}")).ok();
    }
    assert_eq!(service.list("").len(), 5);
}

#[test]
fn an_invalid_request_is_refused_and_locks_nothing() {
    let service = Service::new();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"web\"",
        r#"{"who":"ann"}"#,
        r#"{"service":"web"}"#,
        r#"{"service":"","who":"ann"}"#,
        r#"{"service":"web","who":""}"#,
        r#"{"service":7,"who":"ann"}"#,
        r#"{"service":"web","who":["ann"]}"#,
        r#"{"service":"web","who":"ann","ttl":"soon"}"#,
        r#"{"service":"web","who":"ann","wait":-1}"#,
        r#"{"service":"web","who":"ann","ttl":true}"#,
        r#"{"service":"web","who":"ann","ttl":"0.0000000001"}"#,
        r#"{"service":"web","who":"ann","ttl":1e-9}"#,
        &format!(r#"{{"service":"web","who":"{}"}}"#, "a".repeat(1025)),
    ] {
        service.call("POST", LOCK, body).expect_refusal(400, 3);
    }
    assert_eq!(service.list(""), [] as [Value; 0]);
}

#[test]
fn a_body_over_64_kib_is_refused_as_too_large_by_every_call_that_takes_one() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    for size in [70_000, 3_000_000, 30_000_000] {
        let body = request_body("other", "bob", &format!(r#""x":"{}""#, "a".repeat(size)));
        for (method, path) in
            [("POST", LOCK.to_owned()), ("PUT", format!("{LOCK}/{id}")), ("PUT", format!("{LOCK}/{id}/renew"))]
        {
            service.call(method, &path, &body).expect_refusal(413, 8);
        }
    }
    let body = request_body("other", "bob", &format!(r#""x":"{}""#, "a".repeat(60_000)));
    service.call("POST", LOCK, &body).ok();
    assert_eq!(service.list("").len(), 2);
}

#[test]
fn another_spelling_of_a_known_name_is_refused_and_locks_nothing() {
    let service = Service::new();
    let id = service.request("db", "ann", r#""ttl":"1h""#).id();
    for wrong in
        ["TTL", "Ttl", "ttlSeconds", "ttl_seconds", "Wait", "wait_for", "eventID", "EventId", "event-id", "Resource"]
    {
        let member = format!(r#""{wrong}":"1h""#);
        let refusal = service.request("other", "ann", &member).expect_refusal(400, 3);
        assert!(refusal["message"].as_str().unwrap().starts_with(&format!("unknown name {wrong}: did you mean ")));
        for path in [format!("{LOCK}/{id}"), format!("{LOCK}/{id}/renew")] {
            service.call("PUT", &path, &format!("{{{member}}}")).expect_refusal(400, 3);
        }
    }
    for query in ["perpage=2", "PER_PAGE=2", "per-page=2", "Page=1", "Service=web", "eventID=x"] {
        service.get(&format!("{LIST}?{query}")).expect_refusal(400, 3);
    }
    // These members exist, but an update would ignore them.
    for body in [r#"{"ttl":"2h"}"#, r#"{"who":"bob","wait":5}"#] {
        service.call("PUT", &format!("{LOCK}/{id}"), body).expect_refusal(400, 3);
    }
    assert_eq!(service.list("tty=1&colour=red")[0]["ttl"], "3600s");
    assert_eq!(service.list("").len(), 1);
}

#[test]
fn a_request_of_http_1_1_without_exactly_one_host_header_is_refused() {
    let service = Service::new();
    for (hosts, version, status) in
        [("", "1.1", 400), ("Host: localhost\r\nHost: localhost\r\n", "1.1", 400), ("", "1.0", 200)]
    {
        let mut connection = service.connect();
        connection.send_bytes(&format!("GET {LIST} HTTP/{version}\r\n{hosts}\r\n"));
        let answer = connection.answer("GET");
        assert_eq!(answer.status, status, "{hosts:?} {answer:?}");
        if status == 400 {
            answer.expect_refusal(400, 3);
        }
    }
}

#[test]
fn a_refusal_omits_the_empty_parts_of_the_key() {
    let service = Service::new();
    for (key, words) in [
        ("", "service web is already locked by ann (lock_id: "),
        (r#","resource":"db""#, "service web is already locked for db by ann (lock_id: "),
        (r#","environment":"prod""#, "service web is already locked in prod by ann (lock_id: "),
    ] {
        let body = format!(r#"{{"service":"web","who":"ann"{key}}}"#);
        service.call("POST", LOCK, &body).ok();
        let refusal = service.call("POST", LOCK, &body).expect_refusal(409, 6);
        assert!(refusal["message"].as_str().unwrap().starts_with(words), "{refusal}");
    }
}

/// Returns all calls that take an id.
fn list_calls_with_id(id: &str) -> [(&'static str, String); 6] {
    [
        ("GET", format!("{LOCK}/{id}")),
        ("PUT", format!("{LOCK}/{id}")),
        ("PUT", format!("{LOCK}/{id}/renew")),
        ("DELETE", format!("{LOCK}/{id}")),
        ("GET", format!("{UNLOCK}/{id}")),
        ("POST", format!("{UNLOCK}/{id}")),
    ]
}

#[test]
fn every_call_reports_an_unknown_id() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    service.unlock(&id).ok();
    for id in [id.as_str(), "no-such-lock", "%20"] {
        for (method, path) in list_calls_with_id(id) {
            service.call(method, &path, r#"{"who":"bob"}"#).expect_refusal(404, 5);
        }
    }
}

#[test]
fn every_call_refuses_an_invalid_id_in_json() {
    let service = Service::new();
    for id in ["%ff", &"x".repeat(1025)] {
        for (method, path) in list_calls_with_id(id) {
            service.call(method, &path, r#"{"who":"bob"}"#).expect_refusal(400, 3);
        }
    }
}

#[test]
fn the_allow_header_lists_only_methods_that_are_accepted() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    for method in ["PATCH", "HEAD", "PUT", "DELETE"] {
        let answer = service.call(method, &format!("{UNLOCK}/{id}"), "");
        assert_eq!(answer.status, 405);
        assert!(answer.headers.contains("allow: get, post\r\n"), "{answer:?}");
        if method != "HEAD" {
            answer.expect_refusal(405, 12);
        }
    }
    assert_eq!(service.list("").len(), 1);
}

#[test]
fn frequent_health_checks_seldom_reach_the_store() {
    let service = Service::new();
    let checks = || {
        let store = rusqlite::Connection::open(service.store()).unwrap();
        store.query_row("SELECT checks FROM counter", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let (begun, mut connection) = (std::time::Instant::now(), service.connect());
    for _ in 0..500 {
        connection.call("GET", "/healthz", &[], "").ok();
    }
    assert!((1..=1 + begun.elapsed().as_secs()).contains(&checks()));
    connection.call("GET", "/healthz", &[("Host", "evil.example")], "").expect_refusal(403, 7);
}

#[test]
fn a_lock_can_be_released_in_three_ways() {
    let service = Service::new();
    for (method, path) in [("GET", UNLOCK), ("POST", UNLOCK), ("DELETE", LOCK)] {
        let id = service.acquire("db", "ann");
        let answer = service.call(method, &format!("{path}/{id}"), "").ok();
        assert_eq!(answer, json!({"message": "lock deleted", "success": true, "id": id, "count": "1"}));
        service.get(&format!("{LOCK}/{id}")).expect_refusal(404, 5);
    }
    service.acquire("db", "bob");
}

#[test]
fn a_head_request_does_not_unlock() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    for path in [format!("{UNLOCK}/{id}"), format!("{LOCK}/{id}/renew")] {
        assert_eq!(service.call("HEAD", &path, "").status, 405);
    }
    assert_eq!(service.call("HEAD", &format!("{LOCK}/{id}"), "").status, 200);
    assert_eq!(service.list("").len(), 1);
}

#[test]
fn an_update_keeps_the_fields_that_are_empty() {
    let service = Service::new();
    let lock = service.request("db", "ann", r#""eventId":"1""#).lock();
    let path = format!("{LOCK}/{}", lock["id"].as_str().unwrap());
    let changed = service.call("PUT", &path, r#"{"who":"bob","resource":"","event_id":"2"}"#).lock();
    assert_eq!(
        (&changed["who"], &changed["eventId"], &changed["resource"]),
        (&json!("bob"), &json!("2"), &json!("db"))
    );
    for name in ["id", "createdAt", "fencingToken", "service", "environment"] {
        assert_eq!(changed[name], lock[name], "{name}");
    }
    assert_eq!(service.get(&path).lock(), changed);
    service.call("PUT", &path, "nonsense").expect_refusal(400, 3);
}

#[test]
fn a_lock_cannot_be_moved_to_a_key_that_is_held() {
    let service = Service::new();
    let ann = service.acquire("db", "ann");
    let bob = service.request("cache", "bob", "").lock();
    let path = format!("{LOCK}/{}", bob["id"].as_str().unwrap());
    let refusal = service.call("PUT", &path, r#"{"resource":"db","who":"eve"}"#).expect_refusal(409, 6);
    assert_eq!(refusal["existingLock"]["id"], ann.as_str());
    assert_eq!(service.get(&path).lock(), bob);
    // A move to a free key frees the old key, and gives the lock a new token.
    let moved = service.call("PUT", &path, r#"{"resource":"disk"}"#).lock();
    assert_eq!((&moved["id"], &moved["resource"], &moved["who"]), (&bob["id"], &json!("disk"), &json!("bob")));
    assert!(moved["fencingToken"].as_u64() > bob["fencingToken"].as_u64());
    service.acquire("cache", "eve");
    service.request("disk", "eve", "").expect_refusal(409, 6);
}

#[test]
fn a_client_that_stops_sending_after_a_request_is_answered() {
    let service = Service::new();
    let call = |method: &str, path: &str, body: &str| {
        let mut connection = service.connect();
        connection.send(method, path, &[], body);
        connection.stop_sending();
        connection.answer(method)
    };
    let id = call("POST", LOCK, &request_body("db", "ann", r#""ttl":"10m""#)).id();
    for path in ["/", "/healthz", "/metrics", "/openapi.json", LIST, &format!("{LOCK}/{id}")] {
        assert_eq!(call("GET", path, "").status, 200, "{path}");
    }
    call("POST", LOCK, &request_body("db", "bob", "")).expect_refusal(409, 6);
    call("GET", "/nosuch", "").expect_refusal(404, 5);
    // A waiter must keep its connection open, so the service treats this one as gone.
    call("POST", LOCK, &request_body("db", "bob", r#""wait":"1h""#)).expect_refusal(400, 3);
    call("PUT", &format!("{LOCK}/{id}/renew"), "").ok();
    call("PUT", &format!("{LOCK}/{id}"), r#"{"who":"bob"}"#).ok();
    call("GET", &format!("{UNLOCK}/{id}"), "").ok();
    assert!(service.list("").is_empty());
}

#[test]
fn unknown_paths_and_methods_are_refused_in_json() {
    let service = Service::new();
    service.get("/api/v1alpha1/nothing").expect_refusal(404, 5);
    service.get("/nothing").expect_refusal(404, 5);
    service.call("PATCH", LOCK, "").expect_refusal(405, 12);
    service.get(LOCK).expect_refusal(405, 12);
}

#[test]
fn special_characters_are_stored_unchanged() {
    let service = Service::new();
    let text = r"'; DROP TABLE lock; -- <b>\u0001\n\u00e4\ud83d\udd12";
    let lock = service.call("POST", LOCK, &request_body(text, text, "")).lock();
    let kept: Value = serde_json::from_str(&format!("\"{text}\"")).unwrap();
    assert_eq!((&lock["resource"], &lock["who"]), (&kept, &kept));
    assert_eq!(service.list(""), [lock]);
}

#[test]
fn health_and_metrics_are_reported() {
    let service = Service::new();
    assert_eq!(service.get("/healthz").ok(), json!({"status": "ok"}));
    service.acquire("db", "ann");
    service.request("db", "bob", "").expect_refusal(409, 6);
    let metrics = service.get("/metrics");
    assert!(metrics.headers.contains("content-type: text/plain; version=0.0.4"), "{metrics:?}");
    for line in [
        "aba_lockd_up 1",
        "aba_lockd_locks 1",
        "aba_lockd_waiting 0",
        r#"aba_lockd_calls_total{api="rest",operation="create",result="ok"} 1"#,
        r#"aba_lockd_calls_total{api="rest",operation="create",result="held"} 1"#,
        r#"aba_lockd_seconds_count{operation="create"} 2"#,
    ] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} is not in {}", metrics.text);
    }
    for line in metrics.text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("aba_lockd_") && value.parse::<f64>().is_ok(), "{line}");
    }
}
