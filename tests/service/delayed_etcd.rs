//! Requests that etcd executes late: an endpoint that did not answer a request may still execute it at any time.

use crate::etcd_server::EtcdServer;
use crate::harness::{LIST, LOCK, wait_until};
use crate::relay::{Relay, deletes_lock, has_queue_entry, writes_lock};
use serde_json::{Value, json};
use std::time::Instant;

fn id_of(lock: &Value) -> &str {
    lock["id"].as_str().unwrap()
}

/// 1. Renewal A reads the lock with its lease. Its write is held back.
/// 2. Renewal B binds the lock to another lease. Its revocation of the first lease is held back.
/// 3. The write of A is executed, then the revocation of B.
#[test]
fn a_renewal_does_not_bind_a_lock_to_a_lease_that_another_renewal_revokes() {
    let etcd = EtcdServer::start();
    let (relay_a, relay_b) = (Relay::new(&etcd.address), Relay::new(&etcd.address));
    let service_a = EtcdServer::start_service_with(&[&relay_a.address]);
    let service_b = EtcdServer::start_service_with(&[&relay_b.address]);
    // A round fails if the machine is so busy that a service gives up waiting for etcd.
    for round in 0..20 {
        let resource = format!("db{round}");
        let lock = service_a.request(&resource, "ann", r#""ttl":"300s""#).lock();
        let path = format!("{LOCK}/{}", id_of(&lock));
        let first_lease = etcd.find_lease(id_of(&lock));
        relay_a.hold(writes_lock);
        let mut renewal_a = service_a.connect();
        renewal_a.send("PUT", &format!("{path}/renew"), &[], "");
        relay_a.wait_for_match();
        relay_b.hold_later(writes_lock);
        let renewed_b = service_b.call("PUT", &format!("{path}/renew"), r#"{"ttl":"400s"}"#);
        relay_a.release();
        let renewed_a = renewal_a.answer("PUT");
        relay_b.release();
        let begun = Instant::now();
        let mut is_revoked = false;
        while !is_revoked && begun.elapsed().as_secs() < 20 {
            is_revoked = !etcd.call("lease/leases", &json!({})).to_string().contains(&first_lease);
        }
        if (renewed_b.status, renewed_a.status, is_revoked) != (200, 200, true) {
            wait_until("both work again", || {
                [&service_a, &service_b].iter().all(|service| service.get("/healthz").status == 200)
            });
            continue;
        }
        assert_eq!(service_a.get(&path).lock()["ttl"], "400s");
        assert_eq!(renewed_a.lock()["ttl"], "400s");
        service_a.request(&resource, "bob", "").expect_refusal(409, 6);
        return;
    }
    panic!("the machine was too busy in each round");
}

#[test]
fn a_grant_is_not_executed_late_after_another_endpoint_has_executed_it_and_the_lock_was_released() {
    let etcd = EtcdServer::start();
    for more in ["", r#""wait":"10s""#, r#""ttl":"1h""#] {
        let relay = Relay::new(&etcd.address);
        let service = EtcdServer::start_service_with(&[&relay.address, &etcd.address]);
        relay.catch(writes_lock);
        let id = service.request("db", "ann", more).id();
        service.unlock(&id).ok();
        relay.deliver();
        assert!(service.list("").is_empty());
        let id = service.acquire("db", "bob");
        service.unlock(&id).ok();
    }
}

#[test]
fn a_grant_is_not_executed_late_after_its_request_has_failed() {
    let etcd = EtcdServer::start();
    let relay = Relay::new(&etcd.address);
    let service = EtcdServer::start_service_with(&[&relay.address]);
    relay.catch(writes_lock);
    service.request("db", "ann", "").expect_refusal(503, 14);
    wait_until("the service has started a new epoch", || matches!(etcd.count_epochs()[..], [number] if number >= 2));
    relay.deliver();
    assert!(service.list("").is_empty());
    service.acquire("db", "bob");
}

#[test]
fn a_lock_is_taken_back_if_the_answer_of_etcd_to_its_grant_is_lost() {
    let etcd = EtcdServer::start();
    let relay = Relay::new(&etcd.address);
    let service = EtcdServer::start_service_with(&[&relay.address]);
    for more in ["", r#""wait":"10s""#, r#""ttl":"1h""#] {
        relay.drop_answer(writes_lock);
        service.request("db", "ann", more).expect_refusal(503, 14);
        wait_until("the lock is free", || {
            let list = service.get(LIST);
            list.status == 200 && list.json()["total"] == 0
        });
    }
}

#[test]
fn a_release_succeeds_even_if_the_answer_of_etcd_is_lost() {
    let etcd = EtcdServer::start();
    for more in ["", r#""ttl":"1h""#] {
        let relay = Relay::new(&etcd.address);
        let service = EtcdServer::start_service_with(&[&relay.address, &etcd.address]);
        let id = service.request("db", "ann", more).id();
        relay.drop_answer(deletes_lock);
        let released = service.unlock(&id).ok();
        relay.wait_for_match();
        assert_eq!((&released["id"], &released["count"]), (&id.as_str().into(), &"1".into()));
        service.unlock(&id).expect_refusal(404, 5);
        assert!(service.list("").is_empty());
    }
}

#[test]
fn a_queue_entry_is_not_created_late_after_its_waiter_has_left_the_queue() {
    let etcd = EtcdServer::start();
    let relay = Relay::new(&etcd.address);
    let service = EtcdServer::start_service_with(&[&relay.address, &etcd.address]);
    let id = service.acquire("db", "ann");
    relay.catch(has_queue_entry);
    let mut bob = service.start_waiting("bob", r#""wait":"60s""#);
    service.wait_for_waiters("db", 1);
    service.unlock(&id).ok();
    service.unlock(&bob.answer("POST").id()).ok();
    relay.deliver();
    let id = service.request("db", "carl", "").id();
    assert!(service.list("")[0].get("queue").is_none());
    service.unlock(&id).ok();
}

#[test]
fn a_refusal_while_a_lock_is_handed_over_names_the_next_holder() {
    let etcd = EtcdServer::start();
    let service = etcd.start_service();
    etcd.put("aba-lockd/l/web,prod,db/q/1", r#"{"who":"ann","since":1}"#);
    let refusal = service.request("db", "bob", r#""wait":0.05"#).expect_refusal(409, 6);
    let message = refusal["message"].as_str().unwrap();
    assert!(message.contains("by ann") && message.contains("handed over") && !message.contains("lock_id"), "{message}");
    let lock = &refusal["existingLock"];
    assert_eq!(lock["who"], "ann");
    assert!(lock.get("id").is_none() && lock.get("fencingToken").is_none(), "{refusal}");
}
