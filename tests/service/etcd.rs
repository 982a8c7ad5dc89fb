//! Several services that share one etcd.

use crate::etcd_server::EtcdServer;
use crate::harness::{LIST, LOCK, Service, Start, UNLOCK, run_program, wait_until};
use crate::list::check_search;
use crate::queue::{Newcomers, check_repeated_requests, expect_order};
use crate::race;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn all_services_see_and_change_the_same_locks() {
    let etcd = EtcdServer::start();
    let (one, two) = (etcd.start_service(), etcd.start_service());
    let lock = one.request("d/b, 100%", "ann", r#""eventId":"7""#).lock();
    let id = lock["id"].as_str().unwrap();
    let path = format!("{LOCK}/{id}");
    assert_eq!(two.request("d/b, 100%", "bob", "").expect_refusal(409, 6)["existingLock"], lock);
    assert_eq!(two.get(&path).lock(), lock);
    assert_eq!(two.list(""), one.list(""));
    assert_eq!(two.list("eventId=7")[0], lock);
    // An update, a move to a key that is held, and a move to a free key.
    let changed = two.call("PUT", &path, r#"{"who":"bob"}"#).lock();
    assert_eq!(
        (&changed["who"], &changed["fencingToken"], &changed["id"]),
        (&"bob".into(), &lock["fencingToken"], &lock["id"])
    );
    let other = one.acquire("cache", "carl");
    two.call("PUT", &path, r#"{"resource":"cache"}"#).expect_refusal(409, 6);
    let moved = two.call("PUT", &path, r#"{"resource":"disk"}"#).lock();
    assert_eq!((&moved["id"], &moved["resource"]), (&lock["id"], &"disk".into()));
    assert!(moved["fencingToken"].as_u64() > lock["fencingToken"].as_u64());
    assert_eq!(one.get(&path).lock(), moved);
    one.acquire("d/b, 100%", "dora");
    // A renewal with a time to live, and one without.
    let renewed = two.call("PUT", &format!("{path}/renew"), r#"{"ttl":"1h"}"#).lock();
    assert_eq!(renewed["ttl"], "3600s");
    let again = one.call("PUT", &format!("{path}/renew"), "").lock();
    assert!(again["expiresAt"].as_str() > renewed["expiresAt"].as_str());
    assert_eq!(again["fencingToken"], moved["fencingToken"]);
    // A release by the other service.
    assert_eq!(one.unlock(id).ok()["count"], "1");
    two.get(&path).expect_refusal(404, 5);
    two.unlock(id).expect_refusal(404, 5);
    two.call("PUT", &format!("{path}/renew"), "").expect_refusal(404, 5);
    one.unlock(&other).ok();
    let page = two.get(&format!("{LIST}?per_page=1&page=2")).ok();
    assert_eq!((page["total"].as_u64(), page["locks"].as_array().unwrap().len()), (Some(1), 0));
    two.get("/healthz").ok();
}

#[test]
fn a_list_in_etcd_can_be_searched_for_words() {
    check_search(&EtcdServer::start().start_service());
}

#[test]
fn one_of_64_concurrent_callers_of_two_services_gets_the_lock() {
    let etcd = EtcdServer::start();
    race::expect_one_winner(&[&etcd.start_service(), &etcd.start_service()], (race::read_rounds() / 2).max(5));
}

#[test]
fn all_services_share_one_queue() {
    let etcd = EtcdServer::start();
    let services = [etcd.start_service(), etcd.start_service()];
    let id = services[0].acquire("db", "first");
    let mut waiters = Vec::new();
    for number in 1..=5_usize {
        let who = format!("w{number}");
        waiters.push((who.clone(), services[number % 2].start_waiting(&who, r#""wait":"60s""#)));
        services[0].wait_for_waiters("db", number);
    }
    // The third one leaves.
    drop(waiters.remove(2));
    services[1].wait_for_waiters("db", 4);
    let newcomers = Newcomers::start(&[&services[0], &services[1]]);
    let id = expect_order(&services[1], id, waiters);
    newcomers.stop();
    services[0].unlock(&id).ok();
    assert!(services[1].list("").is_empty());
}

#[test]
fn a_waiter_leaves_the_queue_at_its_timeout_and_when_its_service_stops() {
    let etcd = EtcdServer::start();
    let (mut one, two) = (etcd.start_service(), etcd.start_service());
    let id = two.acquire("db", "ann");
    assert_eq!(one.request("db", "bob", r#""wait":0.05"#).expect_refusal(409, 6)["existingLock"]["id"], id.as_str());
    two.wait_for_waiters("db", 0);
    let mut bob = one.start_waiting("bob", r#""wait":"60s""#);
    let mut carl = two.start_waiting("carl", r#""wait":"60s""#);
    two.wait_for_waiters("db", 2);
    one.signal("TERM");
    bob.answer("POST").expect_refusal(503, 14);
    assert_eq!(one.wait_for_exit().code(), Some(0));
    two.unlock(&id).ok();
    assert_eq!(carl.answer("POST").lock()["who"], "carl");
}

#[test]
fn a_request_that_is_repeated_at_another_service_does_not_wait_for_its_own_lock() {
    let etcd = EtcdServer::start();
    check_repeated_requests(&etcd.start_service(), &etcd.start_service());
}

#[test]
fn a_service_that_stops_removes_its_queue_entries_and_its_epoch_key() {
    let etcd = EtcdServer::start();
    let (mut one, two) = (etcd.start_service(), etcd.start_service());
    let id = two.acquire("db", "ann");
    let mut waiters = Vec::new();
    for number in 1..=20 {
        waiters.push(one.start_waiting("bob", r#""wait":"60s""#));
        two.wait_for_waiters("db", number);
    }
    assert_eq!(etcd.count_epochs().len(), 2);
    one.signal("TERM");
    assert_eq!(one.wait_for_exit().code(), Some(0));
    for mut bob in waiters {
        bob.answer("POST").expect_refusal(503, 14);
    }
    assert!(two.list("")[0].get("queue").is_none());
    assert_eq!(etcd.count_epochs().len(), 1);
    two.unlock(&id).ok();
    two.acquire("db", "carl");
}

#[test]
fn the_queue_entries_of_a_killed_service_expire_and_its_locks_stay_held() {
    let etcd = EtcdServer::start();
    let (mut one, two) = (etcd.start_service(), etcd.start_service());
    let id = one.acquire("db", "ann");
    let _bob = one.start_waiting("bob", r#""wait":"60s""#);
    two.wait_for_waiters("db", 1);
    let mut carl = two.start_waiting("carl", r#""wait":"60s""#);
    two.wait_for_waiters("db", 2);
    one.kill();
    assert_eq!(two.list("")[0]["id"], id.as_str());
    two.unlock(&id).ok();
    assert_eq!(carl.answer("POST").lock()["who"], "carl");
}

#[test]
fn a_lock_of_a_killed_service_expires_and_is_granted_to_a_waiter_at_another_service() {
    let etcd = EtcdServer::start();
    let (mut one, two) = (etcd.start_service(), etcd.start_service());
    let first = one.request("db", "ann", r#""ttl":"1s""#).lock();
    one.kill();
    let second = two.request("db", "bob", r#""wait":"60s""#).lock();
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64());
    let now = jiff::Timestamp::now();
    assert!(now >= first["expiresAt"].as_str().unwrap().parse().unwrap());
    two.get(&format!("{LOCK}/{}", first["id"].as_str().unwrap())).expect_refusal(404, 5);
}

#[test]
fn while_etcd_does_not_answer_no_lock_is_granted_released_or_reported_as_free() {
    let etcd = EtcdServer::start();
    let service = etcd.start_service();
    let id = service.acquire("held", "ann");
    etcd.signal("STOP");
    service.request("held", "bob", "").expect_refusal(503, 14);
    service.request("free", "bob", r#""eventId":"doubt""#).expect_refusal(503, 14);
    service.get(&format!("{LOCK}/{id}")).expect_refusal(503, 14);
    service.get(LIST).expect_refusal(503, 14);
    service.get(&format!("{UNLOCK}/{id}")).expect_refusal(503, 14);
    service.get("/healthz").expect_refusal(503, 14);
    etcd.signal("CONT");
    // etcd may execute the requests when it continues. The lock that was not granted to any caller is taken back. The
    // lock that should have been released may still be held, but can be released.
    wait_until("etcd answers", || service.get("/healthz").status == 200);
    wait_until("the lock in doubt is free", || service.request("free", "carl", "").status == 200);
    let released = service.unlock(&id);
    assert!(released.status == 200 || released.status == 404, "{released:?}");
    service.acquire("held", "bob");
}

#[test]
fn tokens_grow_when_the_store_changes_and_with_a_token_base() {
    let etcd = EtcdServer::start();
    let file = Service::new();
    let first = file.take_token();
    let (one, two) = (etcd.start_service(), etcd.start_service());
    let second = one.take_token();
    assert!(second > first);
    let third = two.take_token();
    assert!(third > second);
    // Back to the file, and to etcd once more.
    let fourth = file.take_token();
    assert!(fourth > third);
    let back = etcd.start_service();
    assert!(back.take_token() > fourth);
    // A service that was running in between gives greater tokens as well.
    assert!(one.take_token() > fourth);
    let ahead = fourth + 1_000_000_000_000;
    let three = etcd.prepare_service().args(&["--token-base", &ahead.to_string()]).start();
    let fifth = three.take_token();
    assert!(fifth > ahead);
    // The new base holds for the other services, too.
    let sixth = one.take_token();
    assert!(sixth > fifth);
    assert!(two.take_token() > sixth);
}

#[test]
fn tokens_are_greater_than_the_clock_even_if_the_stored_base_is_not() {
    let etcd = EtcdServer::start();
    etcd.put("aba-lockd/base", "1");
    let before = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
    assert!(etcd.start_service().request("db", "ann", "").lock()["fencingToken"].as_u64().unwrap() > before);
}

#[test]
fn tokens_grow_for_a_running_service_when_etcd_is_restored_from_a_copy() {
    let mut etcd = EtcdServer::start();
    let service = etcd.start_service();
    let token = || {
        let mut last = service.request("db", "ann", "");
        wait_until("the lock is granted", || {
            if last.status != 200 {
                last = service.request("db", "ann", "");
            }
            last.status == 200
        });
        wait_until("the lock is released", || [200, 404].contains(&service.unlock(&last.id()).status));
        last.lock()["fencingToken"].as_u64().unwrap()
    };
    let copy = |from: &Path, to: &Path| {
        run_program(Command::new("cp").arg("-a").arg(from).arg(to));
    };
    token();
    etcd.change_while_down(|directory| copy(&directory.join("data"), &directory.join("copy")));
    let before = (0..10).map(|_| token()).max().unwrap();
    etcd.change_while_down(|directory| {
        fs::remove_dir_all(directory.join("data")).unwrap();
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
        let output = Start::new().args(&["--token-base", &base.to_string()]).run_and_expect(2);
        assert!(output.contains("--token-base"), "{output}");
    }
    let service = Start::new().args(&["--token-base", &(1_u64 << 62).to_string()]).start();
    assert!(service.request("db", "ann", "").lock()["fencingToken"].as_u64() > Some(1 << 62));
    // The base may have been written by a version without a limit.
    let etcd = EtcdServer::start();
    etcd.put("aba-lockd/base", &u64::MAX.to_string());
    let output = etcd.prepare_service().run_and_expect(125);
    assert!(output.contains("aba-lockd/base"), "{output}");
}
