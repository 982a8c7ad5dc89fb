//! What etcd does late: whatever an endpoint was asked, and did not answer, it may do when it likes.

use crate::etcd::{Etcd, waits};
use crate::harness::{LIST, LOCK, until};
use crate::relay::{Relay, of_a_lock, of_a_place, of_a_release};
use serde_json::{Value, json};
use std::time::Instant;

fn id(lock: &Value) -> &str {
    lock["id"].as_str().unwrap()
}

#[test]
fn a_renewal_does_not_bind_a_lock_to_a_lease_that_another_renewal_gave_up() {
    let etcd = Etcd::start();
    let (slow, slower) = (Relay::to(&etcd.address), Relay::to(&etcd.address));
    let (one, two) = (Etcd::service_by(&[&slow.address]), Etcd::service_by(&[&slower.address]));
    // Again where the machine was so busy that a service gave up meanwhile.
    for round in 0..20 {
        let resource = format!("db{round}");
        let lock = one.ask(&resource, "ann", r#""ttl":"300s""#).lock();
        let path = format!("{LOCK}/{}", id(&lock));
        let first = etcd.lease(id(&lock));
        // The first wants to write the lock with the lease that it has; then the second gives it another, and wants to end
        // the one that it had.
        slow.hold(of_a_lock);
        let mut renews = one.connect();
        renews.send("PUT", &format!("{path}/renew"), &[], "");
        slow.until_seen();
        slower.hold_after(of_a_lock);
        let longer = two.call("PUT", &format!("{path}/renew"), r#"{"ttl":"400s"}"#);
        slow.release();
        let again = renews.answer("PUT");
        slower.release();
        let begun = Instant::now();
        let mut ended = false;
        while !ended && begun.elapsed().as_secs() < 5 {
            ended = !etcd.call("lease/leases", &json!({})).to_string().contains(&first);
        }
        if (longer.status, again.status, ended) != (200, 200, true) {
            continue;
        }
        assert_eq!(one.get(&path).lock()["ttl"], "400s");
        assert_eq!(again.lock()["ttl"], "400s");
        one.ask(&resource, "bob", "").is_refused(409, 6);
        return;
    }
    panic!("the machine was too busy each time");
}

#[test]
fn what_was_to_be_granted_is_not_granted_when_it_was_granted_elsewhere_and_released() {
    let etcd = Etcd::start();
    for more in ["", r#""wait":"10s""#, r#""ttl":"1h""#] {
        let slow = Relay::to(&etcd.address);
        let service = Etcd::service_by(&[&slow.address, &etcd.address]);
        slow.catch(of_a_lock);
        let id = service.ask("db", "ann", more).id();
        service.unlock(&id).ok();
        slow.deliver();
        assert!(service.found("").is_empty());
        let id = service.take("db", "bob");
        service.unlock(&id).ok();
    }
}

#[test]
fn what_was_to_be_granted_and_was_not_is_not_granted_later() {
    let etcd = Etcd::start();
    let slow = Relay::to(&etcd.address);
    let service = Etcd::service_by(&[&slow.address]);
    slow.catch(of_a_lock);
    service.ask("db", "ann", "").is_refused(503, 14);
    // From when etcd can be asked again.
    until("what is in doubt is undone", || etcd.seals() == [2]);
    slow.deliver();
    assert!(service.found("").is_empty());
    service.take("db", "bob");
}

#[test]
fn a_lock_that_was_granted_and_not_answered_is_taken_back_when_etcd_can_be_asked() {
    let etcd = Etcd::start();
    let slow = Relay::to(&etcd.address);
    let service = Etcd::service_by(&[&slow.address]);
    for more in ["", r#""wait":"10s""#, r#""ttl":"1h""#] {
        slow.lose_answer(of_a_lock);
        service.ask("db", "ann", more).is_refused(503, 14);
        until("nobody has it", || {
            let list = service.get(LIST);
            list.status == 200 && list.json()["total"] == 0
        });
    }
}

#[test]
fn who_releases_a_lock_is_told_that_it_is_released_though_the_answer_of_etcd_was_lost() {
    let etcd = Etcd::start();
    for more in ["", r#""ttl":"1h""#] {
        let slow = Relay::to(&etcd.address);
        let service = Etcd::service_by(&[&slow.address, &etcd.address]);
        let id = service.ask("db", "ann", more).id();
        slow.lose_answer(of_a_release);
        let released = service.unlock(&id).ok();
        slow.until_seen();
        assert_eq!((&released["id"], &released["count"]), (&id.as_str().into(), &"1".into()));
        service.unlock(&id).is_refused(404, 5);
        assert!(service.found("").is_empty());
    }
}

#[test]
fn a_place_in_a_queue_that_was_given_up_is_not_taken_later() {
    let etcd = Etcd::start();
    let slow = Relay::to(&etcd.address);
    let service = Etcd::service_by(&[&slow.address, &etcd.address]);
    let id = service.take("db", "ann");
    slow.catch(of_a_place);
    let mut bob = waits(&service, "bob", r#""wait":"60s""#);
    service.until_waiting("db", 1);
    service.unlock(&id).ok();
    service.unlock(&bob.answer("POST").id()).ok();
    slow.deliver();
    let id = service.ask("db", "carl", "").id();
    assert!(service.found("")[0].get("queue").is_none());
    service.unlock(&id).ok();
}

#[test]
fn who_is_refused_while_a_lock_is_handed_over_is_told_so() {
    let etcd = Etcd::start();
    let service = etcd.service();
    etcd.put("aba-lockd/l/web,prod,db/q/1", r#"{"who":"ann","since":1}"#);
    let refusal = service.ask("db", "bob", r#""wait":0.05"#).is_refused(409, 6);
    let message = refusal["message"].as_str().unwrap();
    assert!(message.contains("by ann") && message.contains("handed over") && !message.contains("lock_id"), "{message}");
    let lock = &refusal["existingLock"];
    assert_eq!(lock["who"], "ann");
    assert!(lock.get("id").is_none() && lock.get("fencingToken").is_none(), "{refusal}");
}
