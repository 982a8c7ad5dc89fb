//! The permissions of callers: services, owners, secrets of locks, and the forms of a token in a request.

use crate::etcd_server::EtcdServer;
use crate::grpc::{connect, run, wire};
use crate::harness::{LIST, LOCK, Service, Start, UNLOCK, request_body, wait_until, write_file};
use crate::http::Answer;
use std::fmt::Write;
use tonic::{Code, Request};

/// The tokens are the names of their owners. `new-ann` is a second token of ann.
const TOKENS: &str = "ann lock:read,lock:write ann\n\
                      ann lock:read,lock:write new-ann\n\
                      bob lock:read,lock:write bob\n\
                      root lock:admin root\n\
                      shop lock:read:shop*,lock:write:shop shop\n\
                      keeper lock:admin:shop keeper\n";

fn call_with(service: &Service, token: &str, secret: &str, method: &str, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    if !secret.is_empty() {
        headers.push(("X-Lock-Secret", secret));
    }
    service.connect().call(method, path, &headers, body)
}

fn call(service: &Service, token: &str, method: &str, path: &str, body: &str) -> Answer {
    call_with(service, token, "", method, path, body)
}

fn create(service: &Service, token: &str, resource: &str) -> Answer {
    call(service, token, "POST", LOCK, &request_body(resource, token, ""))
}

fn body_of(service: &str, resource: &str) -> String {
    format!(r#"{{"service":"{service}","who":"me","resource":"{resource}"}}"#)
}

/// Returns all calls that change the lock with this id.
fn list_changes(id: &str) -> [(&'static str, String); 6] {
    [
        ("PUT", format!("{LOCK}/{id}")),
        ("PUT", format!("{LOCK}/{id}/renew")),
        ("POST", format!("{LOCK}/{id}/renew")),
        ("DELETE", format!("{LOCK}/{id}")),
        ("GET", format!("{UNLOCK}/{id}")),
        ("POST", format!("{UNLOCK}/{id}")),
    ]
}

fn expect_owner_rules(service: &Service) {
    let created = create(service, "ann", "db");
    let (id, secret) = (created.id(), created.ok()["secret"].as_str().unwrap().to_owned());
    assert_eq!(secret.len(), 43, "{secret}");
    let other = create(service, "bob", "cache").ok()["secret"].as_str().unwrap().to_owned();
    // Only the answer to the request has the secret, and only at the top level.
    assert!(created.lock().get("secret").is_none());
    let got = call(service, "bob", "GET", &format!("{LOCK}/{id}"), "");
    assert!(got.status == 200 && !got.text.contains("secret"), "{got:?}");
    assert!(!call(service, "bob", "GET", LIST, "").text.contains("secret"));
    for (method, path) in list_changes(&id) {
        let refusal = call(service, "bob", method, &path, "{}").expect_refusal(403, 7);
        let message = "the lock belongs to ann, and the token of bob does not permit lock:admin";
        assert_eq!(refusal["message"], message, "{method} {path}");
        for wrong in [other.as_str(), "x", &secret.to_uppercase(), &secret[1..]] {
            let refusal = call_with(service, "bob", wrong, method, &path, "{}").expect_refusal(403, 7);
            assert!(refusal["message"].as_str().unwrap().ends_with("the secret of this call is that of another lock"));
        }
    }
    // The secret does not replace the token, or the permission for the service.
    let unlock = format!("{UNLOCK}/{id}");
    call_with(service, "nobody", &secret, "GET", &unlock, "").expect_refusal(401, 16);
    call_with(service, "shop", &secret, "GET", &unlock, "").expect_refusal(403, 7);
    call(service, "keeper", "GET", &unlock, "").expect_refusal(403, 7);
    // Permitted: the secret, another token of the same owner, and the administrator.
    call_with(service, "bob", &secret, "PUT", &format!("{LOCK}/{id}/renew"), r#"{"ttl":"1h"}"#).ok();
    call(service, "new-ann", "PUT", &format!("{LOCK}/{id}"), r#"{"who":"new"}"#).ok();
    call_with(service, "bob", &secret, "GET", &unlock, "").ok();
    for token in ["new-ann", "root"] {
        let id = create(service, "ann", "db").id();
        call(service, token, "DELETE", &format!("{LOCK}/{id}"), "").ok();
    }
}

#[test]
fn only_the_owner_the_secret_or_an_administrator_changes_a_lock() {
    let service = Start::new().token_file(TOKENS).start();
    expect_owner_rules(&service);
    // The log names the caller of each change, and the owner of the lock.
    service.wait_for_log(&[r#""event":"unlock""#, r#""result":"ok""#, r#""by":"root""#, r#""owner":"ann""#]);
    service.wait_for_log(&[r#""event":"create""#, r#""by":"ann""#]);
    service.wait_for_log(&[r#""event":"renew""#, r#""result":"not_allowed""#, r#""by":"bob""#]);
}

#[test]
fn the_owner_of_a_lock_survives_a_restart() {
    let mut service = Start::new().token_file(TOKENS).start();
    let id = create(&service, "ann", "db").id();
    service.terminate();
    let file = service.path("tokens");
    let service = service.restart(&["--token-file", file.to_str().unwrap()]);
    call(&service, "bob", "GET", &format!("{UNLOCK}/{id}"), "").expect_refusal(403, 7);
    call(&service, "ann", "GET", &format!("{UNLOCK}/{id}"), "").ok();
}

#[test]
fn the_owner_rules_hold_in_etcd() {
    let etcd = EtcdServer::start();
    let start = etcd.prepare_service().token_file(TOKENS);
    let service = start.start();
    expect_owner_rules(&service);
    // A second service knows the owner, too.
    let id = create(&service, "ann", "both").id();
    let second = etcd.prepare_service().token_file(TOKENS).start();
    call(&second, "bob", "GET", &format!("{UNLOCK}/{id}"), "").expect_refusal(403, 7);
    let moved = call(&second, "ann", "PUT", &format!("{LOCK}/{id}"), r#"{"resource":"moved","ttl":null}"#);
    moved.ok();
    call(&service, "bob", "GET", &format!("{UNLOCK}/{id}"), "").expect_refusal(403, 7);
    let list = call(&service, "shop", "GET", LIST, "").ok();
    assert_eq!(list["total"], 0, "{list}");
    call(&service, "ann", "GET", &format!("{UNLOCK}/{id}"), "").ok();
}

#[test]
fn a_store_of_version_1_keeps_its_locks_which_have_no_owner() {
    let mut service = Service::new();
    let id = service.acquire("old", "ann");
    service.terminate();
    let store = rusqlite::Connection::open(service.store()).unwrap();
    store.execute_batch("ALTER TABLE lock DROP COLUMN origin; PRAGMA user_version = 1;").unwrap();
    drop(store);
    let file = service.path("tokens");
    write_file(&file, TOKENS);
    let service = service.restart(&["--token-file", file.to_str().unwrap()]);
    create(&service, "bob", "new").ok();
    call(&service, "bob", "GET", &format!("{UNLOCK}/{id}"), "").ok();
}

#[test]
fn without_a_token_file_locks_have_no_owner_and_no_secret() {
    let service = Service::new();
    let answer = service.request("db", "ann", "").ok();
    assert!(answer.get("secret").is_none(), "{answer}");
    // Credentials are not read, whatever they are.
    let id = answer["id"].as_str().unwrap();
    let headers =
        [("Authorization", "Basic ???"), ("Authorization", "x"), ("X-Api-Key", "\u{e9}"), ("X-Lock-Secret", "x")];
    service.connect().call("GET", &format!("{UNLOCK}/{id}"), &headers, "").ok();
}

#[test]
fn a_permission_for_some_services_is_valid_for_these_only() {
    let service = Start::new().token_file(TOKENS).start();
    let create = |token, name: &str| call(&service, token, "POST", LOCK, &body_of(name, ""));
    let shop = create("shop", "shop").id();
    let refusal = create("shop", "shopping").expect_refusal(403, 7);
    assert_eq!(refusal["message"], "the token of shop does not permit lock:write for service shopping");
    let (shopping, other) = (create("ann", "shopping").id(), create("ann", "other").id());
    create("ann", "Shop").ok();
    // The list, its pages and its total contain only the visible services.
    let list = |query: &str| call(&service, "shop", "GET", &format!("{LIST}?{query}"), "").ok();
    for (query, total, on_page) in [("", 2, 2), ("per_page=1&page=2", 2, 1), ("q=shop", 2, 2), ("who=me&q=o", 2, 2)] {
        let list = list(query);
        assert_eq!(
            (&list["total"], list["locks"].as_array().unwrap().len()),
            (&total.into(), on_page),
            "{query} {list}"
        );
    }
    // An empty answer about a service that the caller may not read would mean that it has no locks.
    let refusal = "the token of shop does not permit lock:read for service other";
    for path in [LIST, "/api/v1alpha1/locks/history", "/api/v1alpha1/locks/events"] {
        for query in ["service=other", "service=other&resource=x"] {
            let answer = call(&service, "shop", "GET", &format!("{path}?{query}"), "").expect_refusal(403, 7);
            assert_eq!(answer["message"], refusal, "{path} {query}");
        }
    }
    call(&service, "shop", "GET", &format!("{LOCK}/{shopping}"), "").ok();
    let refusal = call(&service, "shop", "GET", &format!("{LOCK}/{other}"), "").expect_refusal(403, 7);
    assert_eq!(refusal["message"], "the token of shop does not permit lock:read for the service of this lock");
    // A lock cannot be moved to a service without permission.
    for name in ["other", "shopping"] {
        let body = format!(r#"{{"service":"{name}","resource":"x"}}"#);
        call(&service, "shop", "PUT", &format!("{LOCK}/{shop}"), &body).expect_refusal(403, 7);
    }
    // The metrics are about all services.
    let refusal = call(&service, "shop", "GET", "/metrics", "").expect_refusal(403, 7);
    assert_eq!(refusal["message"], "the token of shop does not permit lock:read for all services");
    assert_eq!(call(&service, "root", "GET", "/metrics", "").status, 200);
    // An administrator of a service changes the locks of its owners, and no others.
    call(&service, "keeper", "DELETE", &format!("{LOCK}/{other}"), "").expect_refusal(403, 7);
    call(&service, "keeper", "DELETE", &format!("{LOCK}/{shop}"), "").ok();
    let left = call(&service, "root", "GET", LIST, "").ok();
    assert_eq!(left["total"], 3, "{left}");
}

fn expect_own_events(start: Start) {
    let tokens = "ann lock:write ann\nann lock:write new-ann\nbob lock:write,lock:read:shop bob\nnone lock:read none\n";
    let service = start.token_file(tokens).start();
    let new = |token, name: &str| {
        let body = format!(r#"{{"service":"{name}","who":"me","eventId":"7"}}"#);
        call(&service, token, "POST", LOCK, &body).id()
    };
    let (web, shop, db) = (new("ann", "web"), new("ann", "shop"), new("bob", "db"));
    let list = |token: &str, query: &str| {
        let list = call(&service, token, "GET", &format!("{LIST}?{query}"), "").ok();
        let locks = list["locks"].as_array().unwrap().iter();
        locks.map(|lock| lock["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The locks of its owner, and those that the token may read.
    assert_eq!(list("ann", "eventId=7"), [web.clone(), shop.clone()]);
    assert_eq!(list("new-ann", "event_id=7&service=web"), std::slice::from_ref(&web));
    assert_eq!(list("ann", "eventId=7&per_page=1&page=2"), std::slice::from_ref(&shop));
    assert_eq!(list("bob", "eventId=7"), [shop.clone(), db.clone()]);
    assert_eq!(list("bob", "eventId=7&service=web"), [] as [String; 0]);
    assert_eq!(list("none", "eventId=7"), [web, shop, db]);
    assert_eq!(list("ann", "eventId=8"), [] as [String; 0]);
    // Other lists need the permission to read.
    for query in ["", "eventId=", "service=web", "who=me"] {
        let refusal = call(&service, "ann", "GET", &format!("{LIST}?{query}"), "").expect_refusal(403, 7);
        assert!(refusal["message"].as_str().unwrap().starts_with("the token of ann does not permit lock:read"));
    }
}

#[test]
fn an_owner_finds_the_locks_of_its_event_without_lock_read() {
    expect_own_events(Start::new());
    expect_own_events(EtcdServer::start().prepare_service());
}

#[test]
fn a_token_is_read_from_each_of_its_headers() {
    let service = Start::new().token_file("ann lock:read ann\n").start();
    let status = |headers: &[(&str, &str)]| service.connect().call("GET", LIST, headers, "").status;
    let huge = "x".repeat(100_000);
    for (headers, expected) in [
        (&[("X-Api-Key", "ann")][..], 200),
        (&[("x-api-key", " ann ")], 200),
        (&[("AUTHORIZATION", "bEaReR ann")], 200),
        // base64 of any:ann, and of any:wrong.
        (&[("Authorization", "Basic YW55OmFubg==")], 200),
        (&[("Authorization", "Basic YW55Ondyb25n")], 401),
        // A proxy uses Authorization for itself.
        (&[("X-Api-Key", "ann"), ("Authorization", "Basic cHJveHk6cHJveHk=")], 200),
        (&[("X-Api-Key", "wrong"), ("Authorization", "Bearer ann")], 401),
        (&[("Authorization", "Bearer ann"), ("Authorization", "Bearer ann")], 401),
        (&[("X-Api-Key", "ann"), ("X-Api-Key", "ann")], 401),
        (&[("Authorization", "Bearer ann, Bearer ann")], 401),
        (&[("Authorization", "Basic YW55OmFubg")], 401),
        (&[("Authorization", "Basic ann")], 401),
        (&[("Authorization", "Bearer \u{e9}")], 401),
        (&[("Authorization", "Bearer ANN")], 401),
        (&[("Authorization", "Bearer")], 401),
        (&[("Authorization", "Bearer ")], 401),
        (&[("X-Api-Key", "")], 401),
        (&[("Authorization", "ann")], 401),
        (&[("Cookie", "token=ann")], 401),
        (&[("X-Api-Key", huge.as_str())], 401),
        (&[], 401),
    ] {
        assert_eq!(status(headers), expected, "{headers:.100?}");
    }
    let challenge = |headers: &[(&str, &str)]| {
        let answer = service.connect().call("GET", LIST, headers, "");
        answer.expect_refusal(401, 16);
        answer.headers.lines().find(|line| line.starts_with("www-authenticate")).unwrap().to_owned()
    };
    assert_eq!(challenge(&[]), r#"www-authenticate: bearer realm="aba-lockd""#);
    assert!(challenge(&[("X-Api-Key", "x")]).ends_with(r#", error="invalid_token""#));
    assert!(challenge(&[("X-Api-Key", "x"), ("X-Api-Key", "x")]).ends_with(r#", error="invalid_request""#));
    // A head that is too long is refused.
    let many: Vec<(String, String)> = (0..2000).map(|number| (format!("X-{number}"), "x".repeat(1000))).collect();
    let mut text = format!("GET {LIST} HTTP/1.1\r\nHost: x\r\n");
    for (name, value) in &many {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    let mut connection = service.connect();
    connection.send_bytes(&text);
    assert!(connection.read_line().starts_with("HTTP/1.1 431 "));
    assert_eq!(status(&[("X-Api-Key", "ann")]), 200);
}

/// Returns a request with this metadata.
fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[test]
fn grpc_has_the_same_permissions_and_credentials() {
    let service = Start::new().token_file(TOKENS).start();
    let new = |service: &str| wire::CreateLockRequest {
        service: service.to_owned(),
        who: "me".to_owned(),
        resource: "db".to_owned(),
        ..Default::default()
    };
    run(async {
        let mut client = connect(&service.grpc).await;
        for (metadata, code) in [
            (&[][..], Code::Unauthenticated),
            (&[("x-api-key", "wrong")], Code::Unauthenticated),
            (&[("authorization", "Bearer ann"), ("authorization", "Bearer ann")], Code::Unauthenticated),
            (&[("authorization", "Basic Ojo6")], Code::Unauthenticated),
            (&[("x-api-key", "shop")], Code::PermissionDenied),
        ] {
            assert_eq!(client.create_lock(with(new("web"), metadata)).await.unwrap_err().code(), code, "{metadata:?}");
        }
        let created = client.create_lock(with(new("web"), &[("x-api-key", "ann")])).await.unwrap().into_inner();
        let id = created.lock.unwrap().id;
        let key = ("x-api-key", "bob");
        let unlock = |metadata: &[(&'static str, &str)]| with(wire::UnLockRequest { id: id.clone() }, metadata);
        let renew = with(wire::RenewLockRequest { id: id.clone(), ttl: None }, &[key]);
        let change = wire::UpdateLockRequest { id: id.clone(), who: "x".to_owned(), ..Default::default() };
        let refused = [
            client.un_lock(unlock(&[key])).await.unwrap_err(),
            client.renew_lock(renew).await.unwrap_err(),
            client.update_lock(with(change, &[key])).await.unwrap_err(),
            client.get_lock(with(wire::GetLockRequest { id: id.clone() }, &[("x-api-key", "shop")])).await.unwrap_err(),
        ];
        assert!(refused.iter().all(|status| status.code() == Code::PermissionDenied), "{refused:?}");
        let list = wire::ListLocksRequest { per_page: None, page: None };
        let list = client.list_locks(with(list, &[("x-api-key", "shop")])).await.unwrap().into_inner();
        assert_eq!((list.total_count, list.locks.len()), (0, 0));
        client.un_lock(unlock(&[key, ("x-lock-secret", &created.secret)])).await.unwrap();
    });
}

#[test]
fn a_waiter_whose_token_was_removed_gets_no_lock() {
    let start = Start::new().token_file(TOKENS);
    let file = start.path("tokens");
    let service = start.start();
    let id = create(&service, "ann", "db").id();
    let mut removed = service.connect();
    removed.send("POST", LOCK, &[("X-Api-Key", "bob")], &request_body("db", "bob", r#""wait":"1m""#));
    let waiters = || {
        let list = call(&service, "ann", "GET", &format!("{LIST}?resource=db"), "").ok();
        list["locks"][0]["queue"].as_array().map_or(0, Vec::len)
    };
    wait_until("it waits", || waiters() == 1);
    write_file(&file, &TOKENS.replace("bob lock:read,lock:write bob\n", ""));
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"reloaded\"", "tokens"]);
    call(&service, "ann", "GET", &format!("{UNLOCK}/{id}"), "").ok();
    removed.answer("POST").expect_refusal(401, 16);
    // The lock was released again.
    create(&service, "ann", "db").ok();
}

#[test]
fn a_caller_with_the_event_of_another_owner_does_not_get_its_lock() {
    let service = Start::new().token_file(TOKENS).start();
    let body = |wait: &str| request_body("db", "deploy", &format!(r#""eventId":"7","wait":"{wait}""#));
    call(&service, "ann", "POST", LOCK, &body("1m")).ok();
    // The same owner gets the answer at once. Another one waits.
    call(&service, "new-ann", "POST", LOCK, &body("1m")).expect_refusal(409, 6);
    let begun = std::time::Instant::now();
    call(&service, "bob", "POST", LOCK, &body("200ms")).expect_refusal(409, 6);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(200));
}
