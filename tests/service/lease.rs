//! Locks with a time to live.

use crate::harness::{LOCK, Service, until};
use jiff::Timestamp;
use serde_json::Value;

fn expires(lock: &Value) -> Timestamp {
    lock["expiresAt"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_lock_with_a_time_to_live_ends_by_itself() {
    let service = Service::new();
    let lock = service.ask("db", "ann", r#""ttl":"200ms""#).lock();
    assert_eq!(lock["ttl"], "0.2s");
    let created: Timestamp = lock["createdAt"].as_str().unwrap().parse().unwrap();
    assert_eq!((expires(&lock) - created).get_milliseconds(), 200);
    let id = lock["id"].as_str().unwrap();
    until("it has ended", || service.get(&format!("{LOCK}/{id}")).status == 404);
    assert!(Timestamp::now() >= expires(&lock));
    service.take("db", "bob");
    // Of one that has ended nothing can be done any more.
    service.call("PUT", &format!("{LOCK}/{id}/renew"), "").is_refused(404, 5);
    service.unlock(id).is_refused(404, 5);
    until("the log tells of it", || service.log().iter().any(|line| line.contains(r#""event":"expired""#)));
    assert!(service.get("/metrics").text.contains("\naba_lockd_expired_total 1\n"));
}

#[test]
fn a_lock_that_is_renewed_lives_on() {
    let service = Service::new();
    let lock = service.ask("db", "ann", r#""ttl":"1h""#).lock();
    let path = format!("{LOCK}/{}/renew", lock["id"].as_str().unwrap());
    let renewed = service.call("PUT", &path, "").lock();
    assert!(expires(&renewed) > expires(&lock));
    assert_eq!((&renewed["ttl"], &renewed["fencingToken"]), (&lock["ttl"], &lock["fencingToken"]));
    let longer = service.call("PUT", &path, r#"{"ttl":"2h"}"#).lock();
    assert_eq!(longer["ttl"], "7200s");
    assert!((expires(&longer) - expires(&lock)).get_seconds() >= 3600);
    // Shorter than before, it ends sooner.
    service.call("PUT", &path, r#"{"ttl":0.05}"#).ok();
    until("it has ended", || service.found("").is_empty());
}

#[test]
fn a_lock_without_a_time_to_live_gets_one_by_renewal_and_not_before() {
    let service = Service::new();
    let id = service.take("db", "ann");
    let path = format!("{LOCK}/{id}/renew");
    assert!(service.call("PUT", &path, "").lock().get("expiresAt").is_none());
    service.call("PUT", &path, r#"{"ttl":"soon"}"#).is_refused(400, 3);
    service.call("POST", &path, r#"{"ttl":"50ms"}"#).ok();
    until("it has ended", || service.found("").is_empty());
}

#[test]
fn what_has_expired_goes_to_who_waits() {
    let service = Service::new();
    let first = service.ask("db", "ann", r#""ttl":"300ms""#).lock();
    let second = service.ask("db", "bob", r#""wait":"60s""#).lock();
    assert_eq!(second["who"], "bob");
    assert!(Timestamp::now() >= expires(&first));
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64());
}

#[test]
fn after_a_restart_a_lease_that_has_not_ended_gets_its_full_time_and_one_that_has_is_gone() {
    let mut service = Service::new();
    let lives = service.ask("lives", "ann", r#""ttl":"1h""#).lock();
    let ends = service.ask("ends", "ann", r#""ttl":"10s""#).lock();
    service.kill();
    // The clock goes on while the service does not: the file says that this one had ended then.
    let store = rusqlite::Connection::open(service.store()).unwrap();
    assert_eq!(store.execute("UPDATE lock SET expires = 1 WHERE resource = 'ends'", []).unwrap(), 1);
    drop(store);
    let service = service.again(&[]);
    let found = service.found("");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["id"], &found[0]["fencingToken"]), (&lives["id"], &lives["fencingToken"]));
    assert!(expires(&found[0]) > expires(&lives));
    assert!(service.ask("ends", "bob", "").lock()["fencingToken"].as_u64() > ends["fencingToken"].as_u64());
    // And it ends by itself still.
    let path = format!("{LOCK}/{}/renew", lives["id"].as_str().unwrap());
    service.call("PUT", &path, r#"{"ttl":"50ms"}"#).ok();
    until("it has ended", || service.found("resource=lives").is_empty());
}

#[test]
fn a_lease_of_before_a_restart_ends_after_its_time_again() {
    let mut service = Service::new();
    // Long enough to be there when the service is killed, also on a machine that is busy.
    service.ask("db", "ann", r#""ttl":"8s""#).lock();
    service.kill();
    let service = service.again(&[]);
    service.ask("db", "bob", r#""wait":"50s""#).ok();
}
