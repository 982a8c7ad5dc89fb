//! Shared locks and slots: the same checks over SQLite, etcd 3.4 and etcd 3.5, over REST and gRPC.

use crate::etcd_server::{EtcdServer, EtcdVersion};
use crate::grpc::{self, wire};
use crate::harness::{LOCK, Service, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use tonic::Code;

const SHARED: &str = r#""mode":"shared""#;
const TWO_SLOTS: &str = r#""slots":2"#;

/// Adds a wait to the members of a request.
fn waiting(more: &str) -> String {
    format!(r#"{more}{}"wait":"60s""#, if more.is_empty() { "" } else { "," })
}

fn id_of(lock: &Value) -> String {
    lock["id"].as_str().unwrap().to_owned()
}

fn token_of(lock: &Value) -> u64 {
    lock["fencingToken"].as_u64().unwrap()
}

/// Runs a check over each store. In etcd, two services share the store.
fn over_all_stores(check: impl Fn(&Service, &Service)) {
    let file = Service::new();
    check(&file, &file);
    for version in [EtcdVersion::Installed, EtcdVersion::New] {
        let etcd = EtcdServer::start_version(version);
        check(&etcd.start_service(), &etcd.start_service());
    }
}

#[test]
fn shared_locks_and_slots_exclude_what_they_must() {
    over_all_stores(|one, two| {
        // Each row: the present holders, and the answer to a request in each mode.
        let modes = ["", SHARED, TWO_SLOTS];
        let rows: [(&[&str], [u16; 3]); 6] = [
            (&[], [200, 200, 200]),
            (&[""], [409, 409, 409]),
            (&[SHARED], [409, 200, 200]),
            (&[SHARED, SHARED], [409, 200, 200]),
            (&[TWO_SLOTS], [409, 200, 200]),
            (&[TWO_SLOTS, SHARED, TWO_SLOTS], [409, 200, 409]),
        ];
        for (holders, answers) in rows {
            let held: Vec<Value> = holders.iter().map(|mode| one.request("db", "ann", mode).lock()).collect();
            for (mode, status) in modes.iter().zip(answers) {
                let answer = two.request("db", "bob", mode);
                assert_eq!(answer.status, status, "{mode:?} next to {holders:?}: {answer:?}");
                if status == 200 {
                    assert!(held.iter().all(|lock| token_of(lock) < token_of(&answer.lock())));
                    two.unlock(&answer.id()).ok();
                } else {
                    let refusal = answer.expect_refusal(409, 6);
                    assert!(held.contains(&refusal["existingLock"]), "{refusal}");
                }
            }
            for lock in &held {
                two.unlock(&id_of(lock)).ok();
            }
        }
        assert!(one.list("").is_empty());
    });
}

#[test]
fn each_holder_of_a_slot_has_another_number_and_the_lowest_free_one() {
    over_all_stores(|one, two| {
        let locks: Vec<Value> = (0..3).map(|_| one.request("db", "ann", r#""slots":3"#).lock()).collect();
        let slots: Vec<u64> = locks.iter().map(|lock| lock["slot"].as_u64().unwrap()).collect();
        assert_eq!(slots, [1, 2, 3]);
        assert!(locks.iter().all(|lock| lock["slots"] == 3 && lock.get("mode").is_none()));
        two.unlock(&id_of(&locks[1])).ok();
        let again = two.request("db", "bob", r#""slots":3"#).lock();
        assert_eq!(again["slot"], 2);
        // A change and a renewal keep the slot.
        let path = format!("{LOCK}/{}", id_of(&again));
        assert_eq!(one.call("PUT", &path, r#"{"who":"carl"}"#).lock()["slot"], 2);
        let renewed = one.call("PUT", &format!("{path}/renew"), r#"{"ttl":"1h"}"#).lock();
        assert_eq!((&renewed["slot"], &renewed["slots"]), (&2.into(), &3.into()));
        let listed: BTreeSet<u64> = two.list("").iter().map(|lock| lock["slot"].as_u64().unwrap()).collect();
        assert_eq!(listed, BTreeSet::from([1, 2, 3]));
    });
}

#[test]
fn another_number_of_slots_is_refused_with_a_sentence_and_without_a_wait() {
    over_all_stores(|one, two| {
        let id = one.request("db", "ann", TWO_SLOTS).id();
        for more in [r#""slots":3"#.to_owned(), waiting(r#""slots":3"#)] {
            let refusal = two.request("db", "bob", &more).expect_refusal(409, 9);
            let message = refusal["message"].as_str().unwrap();
            let expected = format!(
                "service web is already locked for db in prod with 2 slots by ann, so 3 slots are refused (lock_id: {id})"
            );
            assert_eq!(message, expected);
            assert_eq!(refusal["existingLock"]["id"], id.as_str());
        }
        // A waiter with another number is refused when its turn comes, and the waiter after it is served.
        let second = one.request("db", "ann", TWO_SLOTS).id();
        let mut exclusive = two.start_waiting("x", &waiting(""));
        two.wait_for_waiters("db", 1);
        let mut two_slots = one.start_waiting("two", &waiting(TWO_SLOTS));
        two.wait_for_waiters("db", 2);
        one.unlock(&id).ok();
        one.unlock(&second).ok();
        let id = exclusive.answer("POST").id();
        let mut three_slots = one.start_waiting("three", &waiting(r#""slots":3"#));
        two.wait_for_waiters("db", 2);
        let mut last = two.start_waiting("last", &waiting(TWO_SLOTS));
        two.wait_for_waiters("db", 3);
        two.unlock(&id).ok();
        assert_eq!(two_slots.answer("POST").lock()["slot"], 1);
        three_slots.answer("POST").expect_refusal(409, 9);
        assert_eq!(last.answer("POST").lock()["slot"], 2);
    });
}

#[test]
fn all_modes_wait_in_one_queue_and_none_is_overtaken() {
    over_all_stores(|one, two| {
        let shared = one.request("db", "ann", SHARED).lock();
        let mut exclusive = two.start_waiting("x", &waiting(""));
        one.wait_for_waiters("db", 1);
        let refusal = two.request("db", "late", SHARED).expect_refusal(409, 6);
        assert_eq!(refusal["existingLock"]["id"], shared["id"]);
        let mut readers = Vec::new();
        for number in 2..=4 {
            readers.push([one, two][number % 2].start_waiting("r", &waiting([SHARED, TWO_SLOTS][number % 2])));
            one.wait_for_waiters("db", number);
        }
        let queue = &one.list("resource=db")[0]["queue"];
        assert_eq!((queue[0].get("mode"), queue[0].get("slots")), (None, None));
        assert_eq!((&queue[1]["mode"], &queue[2]["slots"]), (&"shared".into(), &2.into()));
        one.unlock(&id_of(&shared)).ok();
        let lock = exclusive.answer("POST").lock();
        assert!(token_of(&lock) > token_of(&shared));
        assert_eq!(one.list("").len(), 1);
        one.unlock(&id_of(&lock)).ok();
        // All readers are served at once.
        let mut last = token_of(&lock);
        for mut reader in readers {
            let lock = reader.answer("POST").lock();
            assert!(token_of(&lock) > last);
            last = token_of(&lock);
        }
        assert_eq!(two.list("").len(), 3);
    });
}

#[test]
fn a_waiter_that_leaves_lets_the_waiters_after_it_pass() {
    over_all_stores(|one, two| {
        let shared = one.request("db", "ann", SHARED).id();
        // One leaves by disconnecting, and one at its timeout.
        let gone = two.start_waiting("x", &waiting(""));
        one.wait_for_waiters("db", 1);
        let mut reader = one.start_waiting("r", &waiting(SHARED));
        one.wait_for_waiters("db", 2);
        drop(gone);
        let first = reader.answer("POST").id();
        let mut timed = two.start_waiting("x", r#""wait":"4s""#);
        one.wait_for_waiters("db", 1);
        let mut slot = one.start_waiting("s", &waiting(TWO_SLOTS));
        timed.answer("POST").expect_refusal(409, 6);
        assert_eq!(slot.answer("POST").lock()["slot"], 1);
        one.unlock(&shared).ok();
        one.unlock(&first).ok();
    });
}

#[test]
fn a_repeated_request_for_a_shared_lock_or_a_slot_names_the_lock_that_was_granted() {
    over_all_stores(|one, two| {
        for mode in [SHARED, TWO_SLOTS] {
            let more = format!(r#"{mode},"eventId":"7""#);
            let id = one.request("db", "ann", &more).id();
            for more in [more.clone(), waiting(&more)] {
                let refusal = two.request("db", "ann", &more).expect_refusal(409, 6);
                assert_eq!(refusal["existingLock"]["id"], id.as_str());
            }
            let other = two.request("db", "bob", &more).id();
            one.unlock(&id).ok();
            one.unlock(&other).ok();
        }
    });
}

#[test]
fn a_slot_that_expires_is_granted_to_a_waiter_and_its_old_holder_cannot_change_it() {
    over_all_stores(|one, two| {
        let old = one.request("db", "ann", r#""slots":1,"ttl":"2s""#).lock();
        let new = two.request("db", "bob", &waiting(r#""slots":1"#)).lock();
        assert_eq!((&new["slot"], &new["who"]), (&1.into(), &"bob".into()));
        assert!(token_of(&new) > token_of(&old));
        let path = format!("{LOCK}/{}", id_of(&old));
        two.call("PUT", &format!("{path}/renew"), "").expect_refusal(404, 5);
        one.unlock(&id_of(&old)).expect_refusal(404, 5);
        assert_eq!(one.list("").len(), 1);
    });
}

#[test]
fn a_shared_lock_moves_only_to_a_free_key() {
    over_all_stores(|one, two| {
        let (id, other) = (one.request("db", "ann", SHARED).id(), one.request("cache", "ann", SHARED).id());
        let path = format!("{LOCK}/{id}");
        two.call("PUT", &path, r#"{"resource":"cache"}"#).expect_refusal(409, 6);
        one.unlock(&other).ok();
        let mut waiter = one.start_waiting("x", &waiting(""));
        two.wait_for_waiters("db", 1);
        let moved = two.call("PUT", &path, r#"{"resource":"cache"}"#).lock();
        assert_eq!((&moved["id"], &moved["mode"]), (&id.as_str().into(), &"shared".into()));
        assert!(token_of(&waiter.answer("POST").lock()) > 0);
        two.request("cache", "bob", "").expect_refusal(409, 6);
        one.unlock(&id).ok();
        two.request("cache", "bob", "").ok();
    });
}

#[test]
fn answers_to_clients_that_send_neither_mode_nor_slots_have_no_new_members() {
    over_all_stores(|one, two| {
        let original = [
            "createdAt",
            "environment",
            "eventId",
            "expiresAt",
            "fencingToken",
            "id",
            "resource",
            "service",
            "ttl",
            "who",
        ];
        let names = |lock: &Value| lock.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for more in ["", r#","mode":"exclusive""#, r#","mode":null,"slots":null"#, r#","mode":"""#] {
            let lock = one.request("db", "ann", &format!(r#""ttl":"1h"{more}"#)).lock();
            assert_eq!(names(&lock), original, "{more}");
            let refusal = two.request("db", "bob", "").expect_refusal(409, 6);
            assert_eq!(names(&refusal["existingLock"]), original);
            two.unlock(&id_of(&lock)).ok();
        }
    });
}

#[test]
fn a_mode_or_a_number_of_slots_that_is_not_known_is_refused() {
    let service = Service::new();
    for (more, why) in [
        (r#""mode":"write""#, r#"mode must be "shared" or "exclusive", not "write""#),
        (r#""mode":7"#, "mode is not a string"),
        (r#""slots":0"#, "slots must be a number from 1 to 1024"),
        (r#""slots":1025"#, "slots must be a number from 1 to 1024"),
        (r#""slots":-1"#, "slots must be a number from 1 to 1024"),
        (r#""slots":1.5"#, "slots must be a number from 1 to 1024"),
        (r#""slots":"2""#, "slots must be a number from 1 to 1024"),
        (r#""slots":2,"mode":"shared""#, "give either mode or slots, not both"),
        (r#""slots":2,"mode":"exclusive""#, "give either mode or slots, not both"),
        (r#""Slots":2"#, "unknown name Slots: did you mean slots?"),
    ] {
        assert_eq!(service.request("db", "ann", more).expect_refusal(400, 3)["message"], why);
    }
    let path = format!("{LOCK}/{}", service.request("db", "ann", SHARED).id());
    for (change, name) in [(r#"{"mode":"exclusive"}"#, "mode"), (r#"{"slots":2}"#, "slots")] {
        let refusal = service.call("PUT", &path, change).expect_refusal(400, 3);
        assert_eq!(refusal["message"], format!("an update cannot change {name}: unlock, and create another lock"));
    }
    assert_eq!(service.request("max", "ann", r#""slots":1024"#).lock()["slot"], 1);
}

#[test]
fn the_modes_are_the_same_over_grpc() {
    over_all_stores(|one, two| {
        grpc::run(async {
            let mut client = grpc::connect(&one.grpc).await;
            let request = |who: &str, mode: wire::LockMode, slots| wire::CreateLockRequest {
                service: "web".to_owned(),
                who: who.to_owned(),
                environment: "prod".to_owned(),
                resource: "db".to_owned(),
                mode: mode.into(),
                slots,
                ..Default::default()
            };
            let (unset, shared) = (wire::LockMode::Unspecified, wire::LockMode::Shared);
            let lock = client.create_lock(request("ann", shared, None)).await.unwrap().into_inner().lock.unwrap();
            assert_eq!((lock.mode(), lock.slots, lock.slot), (shared, 0, 0));
            assert_eq!(two.list("")[0]["mode"], "shared");
            let slot = client.create_lock(request("ann", unset, Some(2))).await.unwrap().into_inner().lock.unwrap();
            assert_eq!((slot.mode(), slot.slots, slot.slot), (unset, 2, 1));
            let other = client.create_lock(request("bob", unset, Some(3))).await.unwrap_err();
            assert_eq!(other.code(), Code::FailedPrecondition);
            assert!(other.message().contains(" with 2 slots by ann, so 3 slots are refused (lock_id: "), "{other}");
            for exclusive in [unset, wire::LockMode::Exclusive] {
                let held = client.create_lock(request("bob", exclusive, None)).await.unwrap_err();
                assert_eq!(held.code(), Code::AlreadyExists);
            }
            let mut wrong = vec![request("bob", shared, Some(2)), request("bob", unset, Some(0))];
            wrong.push(wire::CreateLockRequest { mode: 3, ..request("bob", unset, None) });
            for wrong in wrong {
                assert_eq!(client.create_lock(wrong).await.unwrap_err().code(), Code::InvalidArgument);
            }
            for id in [lock.id, slot.id] {
                client.un_lock(wire::UnLockRequest { id }).await.unwrap();
            }
            let lock = client.create_lock(request("bob", wire::LockMode::Exclusive, None)).await.unwrap().into_inner();
            assert_eq!(lock.lock.unwrap().mode(), unset);
        });
    });
}

#[test]
fn a_store_of_the_first_version_keeps_its_locks() {
    let mut service = Service::new();
    let (kept, queued) =
        (service.request("db", "ann", r#""ttl":"1h","eventId":"7""#).lock(), service.acquire("x", "ann"));
    service.kill();
    // The first version had this table, and the number 1.
    let store = rusqlite::Connection::open(service.store()).unwrap();
    store
        .execute_batch(
            "ALTER TABLE lock RENAME TO new;
            CREATE TABLE lock (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL,
                environment TEXT NOT NULL, resource TEXT NOT NULL, who TEXT NOT NULL, event_id TEXT NOT NULL,
                created INTEGER NOT NULL, ttl INTEGER, expires INTEGER, token INTEGER NOT NULL,
                UNIQUE (service, environment, resource)) STRICT;
            INSERT INTO lock SELECT seq, id, service, environment, resource, who, event_id, created, ttl, expires, token FROM new;
            DROP TABLE new;
            PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(store);
    let service = service.restart(&[]);
    let mut found = service.list("eventId=7").remove(0);
    found["expiresAt"] = kept["expiresAt"].clone();
    assert_eq!(found, kept);
    service.request("db", "bob", SHARED).expect_refusal(409, 6);
    service.unlock(&queued).ok();
    assert!(token_of(&service.request("x", "bob", TWO_SLOTS).lock()) > token_of(&kept));
    assert_eq!(service.request("x", "bob", TWO_SLOTS).lock()["slot"], 2);
}

#[test]
fn shared_locks_are_refused_while_an_older_service_uses_the_same_etcd() {
    let etcd = EtcdServer::start();
    let service = etcd.start_service();
    // The epoch key of a service that writes only the time.
    etcd.put("aba-lockd/s/older", "2026-01-01T00:00:00Z");
    for more in [SHARED, TWO_SLOTS] {
        let refusal = service.request("db", "ann", more).expect_refusal(400, 3);
        assert!(refusal["message"].as_str().unwrap().contains("too old for mode and slots"), "{refusal}");
    }
    service.request("db", "ann", "").ok();
    etcd.delete("aba-lockd/s/older");
    wait_until("the shared lock is granted", || service.request("cache", "ann", SHARED).status == 200);
}
