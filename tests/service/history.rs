//! The history: locks that have ended, in both stores.

use crate::etcd_server::{EtcdServer, encode_base64};
use crate::harness::{LIST, LOCK, Service, Start, UNLOCK, wait_until};
use crate::http::Answer;
use serde_json::{Value, json};

const HISTORY: &str = "/api/v1alpha1/locks/history";

fn list(service: &Service, query: &str) -> Vec<Value> {
    service.get(&format!("{HISTORY}?{query}")).ok()["locks"].as_array().unwrap().clone()
}

/// Returns a member of each lock that a query selects.
fn list_member(service: &Service, query: &str, name: &str) -> Vec<Value> {
    list(service, query).into_iter().map(|mut lock| lock[name].take()).collect()
}

/// Checks that `seen` reports the locks that end at `changed`, the newest end first, with the way in which they ended.
fn check_history(changed: &Service, seen: &Service) {
    assert_eq!(seen.get(HISTORY).ok(), json!({"locks": []}));
    let first = changed.request("db", "ann", r#""eventId":"7","ttl":"1h""#).lock();
    let id = first["id"].as_str().unwrap();
    let moved = changed.call("PUT", &format!("{LOCK}/{id}"), r#"{"resource":"disk"}"#).lock();
    let shared = changed.request("db", "bob", r#""mode":"shared""#).lock();
    let slot = changed.request("slots", "carl", r#""slots":3"#).lock();
    let short = changed.request("short", "dora", r#""ttl":"2s""#).lock();
    for lock in [&slot, &moved, &shared] {
        changed.unlock(lock["id"].as_str().unwrap()).ok();
    }
    wait_until("the lock has expired", || list(seen, "resource=short").len() == 1);
    let locks = list(seen, "");
    let ends: Vec<_> =
        locks.iter().map(|lock| (&lock["who"], &lock["resource"], lock["end"].as_str().unwrap())).collect();
    let [ann, bob, carl, dora, db, disk] = ["ann", "bob", "carl", "dora", "db", "disk"].map(Value::from);
    let [slots, short_name] = ["slots", "short"].map(Value::from);
    assert_eq!(
        ends,
        [
            (&dora, &short_name, "expired"),
            (&bob, &db, "released"),
            (&ann, &disk, "released"),
            (&carl, &slots, "released"),
            (&ann, &db, "moved")
        ]
    );
    // An entry has the members of the lock, and its end.
    for (mut entry, mut lock) in locks.into_iter().zip([short, shared, moved, slot, first]) {
        let (ended, created) = (entry["endedAt"].as_str().unwrap(), entry["createdAt"].as_str().unwrap());
        assert!(ended.parse::<jiff::Timestamp>().unwrap() >= created.parse::<jiff::Timestamp>().unwrap(), "{entry}");
        let entry = entry.as_object_mut().unwrap();
        entry.retain(|name, _| !["endedAt", "end"].contains(&name.as_str()));
        lock.as_object_mut().unwrap().remove("expiresAt");
        assert_eq!(&Value::Object(entry.clone()), &lock);
    }
    // The queries of the list, too.
    assert_eq!(list_member(seen, "who=ann", "end"), ["released", "moved"]);
    assert_eq!(list_member(seen, "service=web&resource=db", "who"), ["bob", "ann"]);
    assert_eq!(list_member(seen, "eventId=7&resource=disk", "who"), ["ann"]);
    assert_eq!(list_member(seen, "q=DISK+an", "who"), ["ann"]);
    assert_eq!(list(seen, "service=shop"), [] as [Value; 0]);
    // The parts of the history.
    let (mut query, mut found) = ("limit=2".to_owned(), Vec::new());
    loop {
        let part = seen.get(&format!("{HISTORY}?{query}")).ok();
        found.extend(part["locks"].as_array().unwrap().iter().map(|lock| lock["who"].clone()));
        let Some(next) = part["next"].as_str() else { break };
        query = format!("limit=2&before={next}");
        // A lock that ends in the meantime does not move the others.
        let id = changed.acquire("later", "eve");
        changed.unlock(&id).ok();
    }
    assert_eq!(found, ["dora", "bob", "ann", "carl", "ann"]);
    assert_eq!(list_member(seen, "limit=1&who=ann&resource=db", "end"), ["moved"]);
    assert_eq!(seen.get(&format!("{HISTORY}?who=bob&limit=1")).ok().get("next"), None);
    for wrong in ["limit=0", "limit=1001", "limit=x", "limit=-1", "before=x", "Limit=5", "before_=5"] {
        let refusal = seen.get(&format!("{HISTORY}?{wrong}")).expect_refusal(400, 3);
        assert!(refusal["message"].as_str().unwrap().contains(&wrong.to_lowercase()[..5]), "{refusal}");
    }
}

#[test]
fn the_history_has_the_locks_that_have_ended() {
    let mut service = Service::new();
    check_history(&service, &service);
    // It survives the service, and a lock that expires while no service runs is added.
    let before = list(&service, "");
    service.request("down", "dora", r#""ttl":"100ms""#).ok();
    service.kill();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let service = service.restart(&[]);
    let after = list(&service, "");
    assert_eq!((after[0]["resource"].as_str(), after[0]["end"].as_str()), (Some("down"), Some("expired")));
    assert_eq!(after[1..], before);
    assert!(service.list("").is_empty());
}

#[test]
fn all_services_of_a_cluster_have_the_same_history() {
    let etcd = EtcdServer::start();
    let (one, two) = (etcd.start_service(), etcd.start_service());
    check_history(&one, &two);
    assert_eq!(list(&one, ""), list(&two, ""));
    assert_eq!(list(&etcd.start_service(), ""), list(&two, ""));
}

const TOKENS: &str =
    "ann lock:read:web*,lock:write ann\nshop lock:read:shop,lock:write:shop shop\nroot lock:admin root\n";

fn call(service: &Service, token: &str, method: &str, path: &str, body: &str) -> Answer {
    service.connect().call(method, path, &[("X-Api-Key", token)], body)
}

fn check_permissions(service: &Service) {
    let create = |name: &str, resource: &str| {
        let body = format!(r#"{{"service":"{name}","who":"me","resource":"{resource}"}}"#);
        let answer = call(service, "ann", "POST", LOCK, &body);
        (answer.id(), answer.ok()["secret"].as_str().unwrap().to_owned())
    };
    let (own, _) = create("web", "own");
    let (with_secret, secret) = create("shop", "secret");
    let (forced, _) = create("shop", "forced");
    call(service, "ann", "DELETE", &format!("{LOCK}/{own}"), "").ok();
    let headers = [("X-Api-Key", "shop"), ("X-Lock-Secret", secret.as_str())];
    service.connect().call("GET", &format!("{UNLOCK}/{with_secret}"), &headers, "").ok();
    call(service, "root", "GET", &format!("{UNLOCK}/{forced}"), "").ok();
    let answer = call(service, "root", "GET", HISTORY, "");
    assert!(!answer.text.contains("secret\":") && !answer.text.contains(&secret), "{answer:?}");
    let text = |lock: &Value| {
        ["resource", "owner", "end", "endedBy"].map(|name| lock[name].as_str().unwrap_or_default().to_owned()).join(" ")
    };
    let read = |token: &str| {
        let answer = call(service, token, "GET", HISTORY, "").ok();
        answer["locks"].as_array().unwrap().iter().map(text).collect::<Vec<_>>()
    };
    let all = ["forced ann forced root", "secret ann released shop", "own ann released ann"];
    assert_eq!(read("root"), all);
    assert_eq!(read("shop"), all[..2]);
    assert_eq!(read("ann"), all[2..]);
    service.get(HISTORY).expect_refusal(401, 16);
    assert!(!call(service, "root", "GET", LIST, "").text.contains("owner"));
}

#[test]
fn the_history_says_who_ended_a_lock_to_callers_that_may_read_it() {
    check_permissions(&Start::new().token_file(TOKENS).start());
    let etcd = EtcdServer::start();
    check_permissions(&etcd.prepare_service().token_file(TOKENS).start());
}

#[test]
fn the_history_has_at_most_10000_locks() {
    let etcd = EtcdServer::start();
    let service = etcd.start_service();
    // Older entries than those that the service writes. A transaction may have at most 128 operations.
    let put = |number: usize| {
        let key = encode_base64(&format!("aba-lockd/k/{number:020}/old"));
        json!({"requestPut": {"key": key, "value": ""}})
    };
    for from in (0..10_100).step_by(101) {
        let success: Vec<_> = (from..from + 101).map(put).collect();
        etcd.call("kv/txn", &json!({"success": success}));
    }
    let count = || {
        let [from, to] = ["aba-lockd/k/", "aba-lockd/k0"].map(encode_base64);
        let found = etcd.call("kv/range", &json!({"key": from, "range_end": to, "count_only": true}));
        found["count"].as_str().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(count(), 10_100);
    let id = service.acquire("db", "ann");
    service.unlock(&id).ok();
    wait_until("the oldest entries are removed", || count() == 10_000);
    assert_eq!(list_member(&service, "", "id"), [Value::from(id)]);
}
