//! Locks with a time to live.

use crate::harness::{LOCK, Service, wait_until};
use jiff::Timestamp;
use serde_json::Value;

fn expiry_of(lock: &Value) -> Timestamp {
    lock["expiresAt"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_lock_expires_after_its_time_to_live() {
    let service = Service::new();
    let lock = service.request("db", "ann", r#""ttl":"200ms""#).lock();
    assert_eq!(lock["ttl"], "0.2s");
    let created: Timestamp = lock["createdAt"].as_str().unwrap().parse().unwrap();
    assert_eq!((expiry_of(&lock) - created).get_milliseconds(), 200);
    let id = lock["id"].as_str().unwrap();
    wait_until("the lock has ended", || service.get(&format!("{LOCK}/{id}")).status == 404);
    assert!(Timestamp::now() >= expiry_of(&lock));
    service.acquire("db", "bob");
    // A lock that has ended can be neither renewed nor released.
    service.call("PUT", &format!("{LOCK}/{id}/renew"), "").expect_refusal(404, 5);
    service.unlock(id).expect_refusal(404, 5);
    service.wait_for_log(&[r#""event":"expired""#]);
    assert!(service.get("/metrics").text.contains("\naba_lockd_expired_total 1\n"));
}

#[test]
fn a_renewal_restarts_or_replaces_the_time_to_live() {
    let service = Service::new();
    let lock = service.request("db", "ann", r#""ttl":"1h""#).lock();
    let path = format!("{LOCK}/{}/renew", lock["id"].as_str().unwrap());
    let renewed = service.call("PUT", &path, "").lock();
    assert!(expiry_of(&renewed) > expiry_of(&lock));
    assert_eq!((&renewed["ttl"], &renewed["fencingToken"]), (&lock["ttl"], &lock["fencingToken"]));
    let longer = service.call("PUT", &path, r#"{"ttl":"2h"}"#).lock();
    assert_eq!(longer["ttl"], "7200s");
    assert!((expiry_of(&longer) - expiry_of(&lock)).get_seconds() >= 3600);
    // With a shorter time to live, the lock ends sooner.
    service.call("PUT", &path, r#"{"ttl":0.05}"#).ok();
    wait_until("the lock has ended", || service.list("").is_empty());
}

#[test]
fn a_renewal_can_give_a_time_to_live_to_a_lock_without_one() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    let path = format!("{LOCK}/{id}/renew");
    assert!(service.call("PUT", &path, "").lock().get("expiresAt").is_none());
    service.call("PUT", &path, r#"{"ttl":"soon"}"#).expect_refusal(400, 3);
    service.call("POST", &path, r#"{"ttl":"50ms"}"#).ok();
    wait_until("the lock has ended", || service.list("").is_empty());
}

#[test]
fn an_expired_lock_is_granted_to_the_first_waiter() {
    let service = Service::new();
    let first = service.request("db", "ann", r#""ttl":"300ms""#).lock();
    let second = service.request("db", "bob", r#""wait":"60s""#).lock();
    assert_eq!(second["who"], "bob");
    assert!(Timestamp::now() >= expiry_of(&first));
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64());
}

#[test]
fn after_a_restart_unexpired_locks_get_their_full_time_to_live_and_expired_ones_are_gone() {
    let mut service = Service::new();
    let unexpired = service.request("unexpired", "ann", r#""ttl":"1h""#).lock();
    let expired = service.request("expired", "ann", r#""ttl":"10s""#).lock();
    service.kill();
    // As if this lock had expired while the service was not running.
    let store = rusqlite::Connection::open(service.store()).unwrap();
    assert_eq!(store.execute("UPDATE lock SET expires = 1 WHERE resource = 'expired'", []).unwrap(), 1);
    drop(store);
    let service = service.restart(&[]);
    let found = service.list("");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["id"], &found[0]["fencingToken"]), (&unexpired["id"], &unexpired["fencingToken"]));
    assert!(expiry_of(&found[0]) > expiry_of(&unexpired));
    assert!(service.request("expired", "bob", "").lock()["fencingToken"].as_u64() > expired["fencingToken"].as_u64());
    // The lock still expires.
    let path = format!("{LOCK}/{}/renew", unexpired["id"].as_str().unwrap());
    service.call("PUT", &path, r#"{"ttl":"50ms"}"#).ok();
    wait_until("the lock has ended", || service.list("resource=unexpired").is_empty());
}

#[test]
fn a_lock_that_was_held_before_a_restart_expires_after_its_full_time_to_live() {
    let mut service = Service::new();
    // Long enough that the lock is held when the service is killed, even on a busy machine.
    service.request("db", "ann", r#""ttl":"8s""#).lock();
    service.kill();
    let service = service.restart(&[]);
    service.request("db", "bob", r#""wait":"50s""#).ok();
}
