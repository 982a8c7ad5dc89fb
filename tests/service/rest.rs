//! The REST side, call by call.

use crate::harness::{LIST, LOCK, Service, UNLOCK, wanted};
use serde_json::{Value, json};

#[test]
fn a_lock_is_answered_nested_for_clients_and_flat_for_scripts() {
    let service = Service::new();
    let answer = service.ask("db", "ann", r#""eventId":"e-7""#).ok();
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
    // What nobody asked for is not there.
    for name in ["ttl", "expiresAt", "queue"] {
        assert!(lock.get(name).is_none(), "{lock}");
    }
    let id = lock["id"].as_str().unwrap();
    assert_eq!(&service.get(&format!("{LOCK}/{id}")).lock(), lock);
    assert_eq!(&service.found("")[0], lock);
}

#[test]
fn either_spelling_is_understood_and_unknown_members_are_ignored() {
    let service = Service::new();
    assert_eq!(service.ask("a", "ann", r#""event_id":"1","colour":"red""#).lock()["eventId"], "1");
    assert_eq!(service.ask("b", "ann", r#""eventId":"2","x":{"y":[]}"#).lock()["eventId"], "2");
    assert_eq!(service.ask("c", "ann", r#""eventId":null"#).lock()["eventId"], "");
    for (resource, empty) in [("d", "null"), ("e", r#""""#)] {
        let both = service.ask(resource, "ann", &format!(r#""eventId":{empty},"event_id":"3""#));
        assert_eq!(both.lock()["eventId"], "3");
    }
    assert_eq!(service.found("event_id=3&eventId=").len(), 2);
    // Only the service and who are needed.
    let lock = service.call("POST", LOCK, r#"{"service":"web","who":"ann"}"#).lock();
    assert_eq!((&lock["environment"], &lock["resource"]), (&json!(""), &json!("")));
}

#[test]
fn a_held_lock_is_refused_without_an_id_and_with_who_has_it() {
    let service = Service::new();
    let lock = service.ask("db", "ann", "").lock();
    let refusal = service.ask("db", "bob", "").is_refused(409, 6);
    let id = lock["id"].as_str().unwrap();
    let message = format!("service web is already locked for db in prod by ann (lock_id: {id})");
    assert_eq!(refusal["message"], message.as_str());
    assert_eq!(refusal["error"], "lock already exists");
    assert_eq!(refusal["existingLock"], lock);
}

#[test]
fn each_part_of_a_key_makes_another_lock() {
    let service = Service::new();
    service.take("db", "ann");
    for key in [
        r#""service":"api","environment":"prod","resource":"db""#,
        r#""service":"web","environment":"test","resource":"db""#,
        r#""service":"web","environment":"prod","resource":"cache""#,
        r#""service":"we","environment":"bprod","resource":"db""#,
    ] {
        service.call("POST", LOCK, &format!("{{\"who\":\"bob\",{key}}}")).ok();
    }
    assert_eq!(service.found("").len(), 5);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_locked() {
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
        service.call("POST", LOCK, body).is_refused(400, 3);
    }
    assert_eq!(service.found(""), [] as [Value; 0]);
}

#[test]
fn a_body_over_64_kib_is_refused_as_too_large_by_every_call_that_takes_one() {
    let service = Service::new();
    let id = service.take("db", "ann");
    for size in [70_000, 3_000_000, 30_000_000] {
        let body = wanted("other", "bob", &format!(r#""x":"{}""#, "a".repeat(size)));
        for (method, path) in
            [("POST", LOCK.to_owned()), ("PUT", format!("{LOCK}/{id}")), ("PUT", format!("{LOCK}/{id}/renew"))]
        {
            service.call(method, &path, &body).is_refused(413, 8);
        }
    }
    let body = wanted("other", "bob", &format!(r#""x":"{}""#, "a".repeat(60_000)));
    service.call("POST", LOCK, &body).ok();
    assert_eq!(service.found("").len(), 2);
}

#[test]
fn a_known_name_in_another_spelling_is_refused_and_nothing_is_locked() {
    let service = Service::new();
    let id = service.ask("db", "ann", r#""ttl":"1h""#).id();
    for wrong in
        ["TTL", "Ttl", "ttlSeconds", "ttl_seconds", "Wait", "wait_for", "eventID", "EventId", "event-id", "Resource"]
    {
        let member = format!(r#""{wrong}":"1h""#);
        let refusal = service.ask("other", "ann", &member).is_refused(400, 3);
        assert!(refusal["message"].as_str().unwrap().starts_with(&format!("{wrong} is not known here: did you mean ")));
        for path in [format!("{LOCK}/{id}"), format!("{LOCK}/{id}/renew")] {
            service.call("PUT", &path, &format!("{{{member}}}")).is_refused(400, 3);
        }
    }
    for query in ["perpage=2", "PER_PAGE=2", "per-page=2", "Page=1", "Service=web", "eventID=x"] {
        service.get(&format!("{LIST}?{query}")).is_refused(400, 3);
    }
    // Members that this call would ignore.
    for body in [r#"{"ttl":"2h"}"#, r#"{"who":"bob","wait":5}"#] {
        service.call("PUT", &format!("{LOCK}/{id}"), body).is_refused(400, 3);
    }
    assert_eq!(service.found("tty=1&colour=red")[0]["ttl"], "3600s");
    assert_eq!(service.found("").len(), 1);
}

#[test]
fn a_request_of_http_1_1_without_one_host_is_refused() {
    let service = Service::new();
    for (hosts, version, status) in
        [("", "1.1", 400), ("Host: localhost\r\nHost: localhost\r\n", "1.1", 400), ("", "1.0", 200)]
    {
        let mut connection = service.connect();
        connection.send_more(&format!("GET {LIST} HTTP/{version}\r\n{hosts}\r\n"));
        let answer = connection.answer("GET");
        assert_eq!(answer.status, status, "{hosts:?} {answer:?}");
        if status == 400 {
            answer.is_refused(400, 3);
        }
    }
}

#[test]
fn a_refusal_does_not_name_what_the_lock_does_not_have() {
    let service = Service::new();
    for (key, words) in [
        ("", "service web is already locked by ann (lock_id: "),
        (r#","resource":"db""#, "service web is already locked for db by ann (lock_id: "),
        (r#","environment":"prod""#, "service web is already locked in prod by ann (lock_id: "),
    ] {
        let body = format!(r#"{{"service":"web","who":"ann"{key}}}"#);
        service.call("POST", LOCK, &body).ok();
        let refusal = service.call("POST", LOCK, &body).is_refused(409, 6);
        assert!(refusal["message"].as_str().unwrap().starts_with(words), "{refusal}");
    }
}

/// Every call that names a lock.
fn calls_for(id: &str) -> [(&'static str, String); 6] {
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
fn an_unknown_id_is_said_to_be_unknown_by_every_call() {
    let service = Service::new();
    let id = service.take("db", "ann");
    service.unlock(&id).ok();
    for id in [id.as_str(), "no-such-lock", "%20"] {
        for (method, path) in calls_for(id) {
            service.call(method, &path, r#"{"who":"bob"}"#).is_refused(404, 5);
        }
    }
}

#[test]
fn an_id_that_is_none_is_refused_in_json_by_every_call() {
    let service = Service::new();
    for id in ["%ff", &"x".repeat(1025)] {
        for (method, path) in calls_for(id) {
            service.call(method, &path, r#"{"who":"bob"}"#).is_refused(400, 3);
        }
    }
}

#[test]
fn a_method_that_is_refused_is_not_among_those_that_are_allowed() {
    let service = Service::new();
    let id = service.take("db", "ann");
    for method in ["PATCH", "HEAD", "PUT", "DELETE"] {
        let answer = service.call(method, &format!("{UNLOCK}/{id}"), "");
        assert_eq!(answer.status, 405);
        assert!(answer.headers.contains("allow: get, post\r\n"), "{answer:?}");
        if method != "HEAD" {
            answer.is_refused(405, 12);
        }
    }
    assert_eq!(service.found("").len(), 1);
}

#[test]
fn who_asks_how_it_is_all_the_time_costs_the_store_little() {
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
    connection.call("GET", "/healthz", &[("Host", "evil.example")], "").is_refused(403, 7);
}

#[test]
fn a_lock_is_released_by_each_of_three_ways() {
    let service = Service::new();
    for (method, path) in [("GET", UNLOCK), ("POST", UNLOCK), ("DELETE", LOCK)] {
        let id = service.take("db", "ann");
        let answer = service.call(method, &format!("{path}/{id}"), "").ok();
        assert_eq!(answer, json!({"message": "lock deleted", "success": true, "id": id, "count": "1"}));
        service.get(&format!("{LOCK}/{id}")).is_refused(404, 5);
    }
    service.take("db", "bob");
}

#[test]
fn to_look_at_the_way_of_unlocking_does_not_unlock() {
    let service = Service::new();
    let id = service.take("db", "ann");
    for path in [format!("{UNLOCK}/{id}"), format!("{LOCK}/{id}/renew")] {
        assert_eq!(service.call("HEAD", &path, "").status, 405);
    }
    assert_eq!(service.call("HEAD", &format!("{LOCK}/{id}"), "").status, 200);
    assert_eq!(service.found("").len(), 1);
}

#[test]
fn a_change_keeps_what_is_empty() {
    let service = Service::new();
    let lock = service.ask("db", "ann", r#""eventId":"1""#).lock();
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
    service.call("PUT", &path, "nonsense").is_refused(400, 3);
}

#[test]
fn a_change_never_leads_onto_a_lock_that_is_held() {
    let service = Service::new();
    let ann = service.take("db", "ann");
    let bob = service.ask("cache", "bob", "").lock();
    let path = format!("{LOCK}/{}", bob["id"].as_str().unwrap());
    let refusal = service.call("PUT", &path, r#"{"resource":"db","who":"eve"}"#).is_refused(409, 6);
    assert_eq!(refusal["existingLock"]["id"], ann.as_str());
    assert_eq!(service.get(&path).lock(), bob);
    // Onto one that is free: what was held is free, and the token is a new one.
    let moved = service.call("PUT", &path, r#"{"resource":"disk"}"#).lock();
    assert_eq!((&moved["id"], &moved["resource"], &moved["who"]), (&bob["id"], &json!("disk"), &json!("bob")));
    assert!(moved["fencingToken"].as_u64() > bob["fencingToken"].as_u64());
    service.take("cache", "eve");
    service.ask("disk", "eve", "").is_refused(409, 6);
}

#[test]
fn a_list_has_pages_of_either_spelling_and_all_without() {
    let service = Service::new();
    let ids: Vec<String> = (1..=5).map(|number| service.take(&format!("r{number}"), "ann")).collect();
    let ask = |query: &str| service.get(&format!("{LIST}{query}")).ok();
    let ids_of = |list: &Value| -> Vec<String> {
        list["locks"].as_array().unwrap().iter().map(|lock| lock["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ask("");
    assert_eq!(ids_of(&all), ids);
    assert_eq!(
        (&all["totalCount"], &all["total"], &all["page"], &all["perPage"]),
        (&json!(5), &json!(5), &json!(1), &json!(5))
    );
    for query in ["?per_page=2&page=2", "?perPage=2&page=2"] {
        let page = ask(query);
        assert_eq!(ids_of(&page), ids[2..4]);
        assert_eq!((&page["totalCount"], &page["page"], &page["perPage"]), (&json!(5), &json!(2), &json!(2)));
    }
    assert_eq!(ids_of(&ask("?per_page=2&page=3")), ids[4..]);
    assert_eq!(ids_of(&ask("?per_page=2&page=9")), [] as [String; 0]);
    assert_eq!(ids_of(&ask("?resource=r3&who=ann&service=web&environment=prod")), ids[2..3]);
    assert_eq!(ids_of(&ask("?resource=r3&who=bob")), [] as [String; 0]);
    for query in ["?page=0", "?per_page=0", "?page=x", "?per_page=-1", "?per_page=99999999", "?page=2"] {
        service.get(&format!("{LIST}{query}")).is_refused(400, 3);
    }
}

/// Which of some locks are found by words, in the order in which they are listed.
pub(crate) fn words_find_locks_and_waiters(service: &Service) {
    for (resource, who, more) in
        [("log", "Ann", r#""eventId":"Release 7""#), ("disk", "bob", ""), ("über", "ann", ""), ("logs", "eve", "")]
    {
        service.ask(resource, who, more).ok();
    }
    let mut waits = service.connect();
    waits.send("POST", LOCK, &[], &wanted("disk", "Carl", r#""wait":"60s""#));
    service.until_waiting("disk", 1);
    for (query, found, total) in [
        ("q=ann", &["log", "über"][..], 2),
        ("q=LOG", &["log", "logs"], 2),
        ("q=carl", &["disk"], 1),
        ("q=7+release", &["log"], 1),
        ("q=%C3%9CB", &["über"], 1),
        ("q=web+nobody", &[], 0),
        ("q=+", &["log", "disk", "über", "logs"], 4),
        ("q=d&per_page=1&page=2", &["disk"], 4),
        ("q=d&who=eve", &["logs"], 1),
    ] {
        let list = service.get(&format!("{LIST}?{query}")).ok();
        let names: Vec<&str> =
            list["locks"].as_array().unwrap().iter().map(|lock| lock["resource"].as_str().unwrap()).collect();
        assert_eq!((names.as_slice(), list["total"].as_u64()), (found, Some(total)), "{query}");
    }
    assert_eq!(service.found("q=carl")[0]["queue"][0]["who"], "Carl");
}

#[test]
fn a_list_is_searched_for_words() {
    words_find_locks_and_waiters(&Service::new());
}

#[test]
fn who_stops_sending_behind_a_request_is_answered() {
    let service = Service::new();
    let call = |method: &str, path: &str, body: &str| {
        let mut connection = service.connect();
        connection.send(method, path, &[], body);
        connection.end();
        connection.answer(method)
    };
    let id = call("POST", LOCK, &wanted("db", "ann", r#""ttl":"10m""#)).id();
    for path in ["/", "/healthz", "/metrics", "/openapi.json", LIST, &format!("{LOCK}/{id}")] {
        assert_eq!(call("GET", path, "").status, 200, "{path}");
    }
    call("POST", LOCK, &wanted("db", "bob", "")).is_refused(409, 6);
    call("GET", "/nosuch", "").is_refused(404, 5);
    // To wait they would have to be there: they are told that they are taken for gone.
    call("POST", LOCK, &wanted("db", "bob", r#""wait":"1h""#)).is_refused(400, 3);
    call("PUT", &format!("{LOCK}/{id}/renew"), "").ok();
    call("PUT", &format!("{LOCK}/{id}"), r#"{"who":"bob"}"#).ok();
    call("GET", &format!("{UNLOCK}/{id}"), "").ok();
    assert!(service.found("").is_empty());
}

#[test]
fn what_is_not_there_is_refused_in_json() {
    let service = Service::new();
    service.get("/api/v1alpha1/nothing").is_refused(404, 5);
    service.get("/nothing").is_refused(404, 5);
    service.call("PATCH", LOCK, "").is_refused(405, 12);
    service.get(LOCK).is_refused(405, 12);
}

#[test]
fn words_are_kept_as_they_are() {
    let service = Service::new();
    let odd = r"'; DROP TABLE lock; -- <b>\u0001\n\u00e4\ud83d\udd12";
    let lock = service.call("POST", LOCK, &wanted(odd, odd, "")).lock();
    let kept: Value = serde_json::from_str(&format!("\"{odd}\"")).unwrap();
    assert_eq!((&lock["resource"], &lock["who"]), (&kept, &kept));
    assert_eq!(service.found(""), [lock]);
}

#[test]
fn it_says_how_it_is_and_what_it_does_and_how_it_is_called() {
    let service = Service::new();
    assert_eq!(service.get("/healthz").ok(), json!({"status": "ok"}));
    service.take("db", "ann");
    service.ask("db", "bob", "").is_refused(409, 6);
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

#[test]
fn the_description_knows_each_path_and_method_and_the_service_knows_each_of_the_description() {
    let service = Service::new();
    let description = service.get("/openapi.json").ok();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let mut known = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            let at = path.replace("{id}", "no-such-lock");
            let answer = service.call(&method.to_ascii_uppercase(), &at, "");
            assert!(answer.status != 405, "{method} {path}: {answer:?}");
            let said = &methods[method]["responses"];
            assert!(
                said.get(answer.status.to_string()).is_some(),
                "{method} {path}: {} is not in {said}",
                answer.status
            );
            assert!(said.get("400").is_some() && said.get("405").is_some(), "{method} {path}: {said}");
            assert_eq!(methods[method].get("requestBody").is_some(), said.get("413").is_some(), "{method} {path}");
            known.push(format!("{method} {path}"));
        }
        let answer = service.call("PATCH", &path.replace("{id}", "no-such-lock"), "");
        answer.is_refused(405, 12);
        assert!(answer.headers.contains("allow: "), "{path}: {answer:?}");
    }
    for expected in [
        "post /api/v1alpha1/lock",
        "get /api/v1alpha1/lock/{id}",
        "put /api/v1alpha1/lock/{id}",
        "delete /api/v1alpha1/lock/{id}",
        "put /api/v1alpha1/lock/{id}/renew",
        "get /api/v1alpha1/unlock/{id}",
        "post /api/v1alpha1/unlock/{id}",
        "get /api/v1alpha1/locks/list",
        "get /healthz",
        "get /metrics",
    ] {
        assert!(known.iter().any(|one| one == expected), "{expected} is not in {known:?}");
    }
    // What it refers to is there.
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
}

/// Each schema in a part of the description, with its place.
fn schemas<'a>(place: &str, part: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match part {
        Value::Object(members) => {
            if members.contains_key("type") {
                found.push((place.to_owned(), part));
            }
            members.iter().for_each(|(name, part)| schemas(&format!("{place}/{name}"), part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| schemas(place, part, found)),
        _ => (),
    }
}

#[test]
fn the_description_has_the_bounds_that_the_service_has() {
    let service = Service::new();
    let description = service.get("/openapi.json").ok();
    let mut found = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().values() {
            for part in ["parameters", "requestBody"] {
                schemas(path, &method[part], &mut found);
            }
        }
    }
    schemas("/components", &description["components"]["schemas"]["Lock"], &mut found);
    assert!(found.len() > 20);
    for (place, schema) in found {
        let is = |name| schema["type"] == name || schema["type"][0] == name;
        if is("integer") || is("number") {
            assert!(schema.get("minimum").is_some() && schema.get("maximum").is_some(), "{place}: {schema}");
        }
        if is("string") && schema.get("format").is_none() && !place.starts_with("/components/properties/ttl") {
            assert!(schema.get("maxLength").is_some(), "{place}: {schema}");
        }
    }
    // They are those of the service.
    let create = &description["paths"][LOCK]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let most = create["properties"]["ttl"]["oneOf"][1]["maximum"].as_u64().unwrap();
    assert_eq!(service.ask("most", "ann", &format!(r#""ttl":{most}"#)).status, 200);
    service.ask("more", "ann", &format!(r#""ttl":{}"#, most + 1)).is_refused(400, 3);
    for (name, schema) in create["properties"].as_object().unwrap() {
        let may_be_null = schema["type"][1] == "null" || schema["oneOf"][2]["type"] == "null";
        let mut body = json!({"service": "null", "who": "ann", "resource": name});
        body[name] = Value::Null;
        assert_eq!(service.call("POST", LOCK, &body.to_string()).status == 200, may_be_null, "{name}");
    }
}
