//! What a service promised holds when it is killed.

use crate::harness::{Connection, LIST, LOCK, PATIENCE, Service, wanted};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How often the service is killed. More for a long turn.
fn kills() -> u32 {
    std::env::var("ABA_LOCK_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    /// By resource: the id and the token of the lock that somebody has, and has not begun to release.
    held: HashMap<String, (String, u64)>,
    /// By resource: the last token.
    tokens: HashMap<String, u64>,
    grants: usize,
}

impl Ledger {
    fn granted(&mut self, resource: &str, lock: &Value) {
        let (id, token) = (lock["id"].as_str().unwrap().to_owned(), lock["fencingToken"].as_u64().unwrap());
        let last = self.tokens.insert(resource.to_owned(), token).unwrap_or(0);
        assert!(token > last, "{resource}: token {token} after {last}");
        let other = self.held.insert(resource.to_owned(), (id, token));
        assert!(other.is_none(), "{resource} was given twice: {other:?} has it");
        self.grants += 1;
    }
}

/// Calls until it is answered: by the service, or by the next one. Says whether it had to ask again.
fn insist(address: &str, method: &str, path: &str, body: &str) -> Option<crate::harness::Answer> {
    let stream = std::net::TcpStream::connect(address).ok()?;
    drop(stream);
    let connection = std::panic::catch_unwind(|| Connection::to(address)).ok();
    connection?.try_call(method, path, body).ok()
}

/// The lock with that event, as soon as a service can tell.
fn look_up(address: &str, event: &str) -> Option<Value> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = insist(address, "GET", &format!("{LIST}?eventId={event}"), "") {
            return answer.ok()["locks"].get(0).cloned();
        }
        assert!(begun.elapsed() < PATIENCE, "the service does not come back");
        thread::sleep(Duration::from_millis(5));
    }
}

fn work(address: &str, worker: usize, ledger: &Mutex<Ledger>, over: &AtomicBool) {
    let mut round = 0;
    while !over.load(Ordering::SeqCst) {
        round += 1;
        // Some locks are wanted by all, some by one alone.
        let resource = if round % 3 == 0 { format!("own{worker}") } else { format!("shared{}", round % 5) };
        let event = format!("w{worker}r{round}");
        let body = wanted(&resource, "w", &format!("\"eventId\":\"{event}\""));
        let lock = match insist(address, "POST", LOCK, &body) {
            Some(answer) if answer.status == 200 => Some(answer.lock()),
            Some(answer) => {
                assert!(answer.status == 409, "{answer:?}");
                None
            }
            // It was not acknowledged. It may be held all the same.
            None => look_up(address, &event),
        };
        let Some(lock) = lock else { continue };
        let id = lock["id"].as_str().unwrap().to_owned();
        ledger.lock().unwrap().granted(&resource, &lock);
        thread::sleep(Duration::from_millis(2));
        // From here on it may be released.
        ledger.lock().unwrap().held.remove(&resource);
        while insist(address, "DELETE", &format!("{LOCK}/{id}"), "").is_none() {
            // To release it again, if it was released, does nothing.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn however_often_it_is_killed_no_lock_that_was_acknowledged_is_missing_or_given_twice_and_tokens_grow() {
    let mut service = Service::new();
    let (ledger, over) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (address, ledger, over) = (service.rest.clone(), Arc::clone(&ledger), Arc::clone(&over));
            thread::spawn(move || work(&address, worker, &ledger, &over))
        })
        .collect();
    let mut grants = 0;
    for kill in 0..kills() {
        // At any moment, but not before there was something to lose.
        let begun = Instant::now();
        while ledger.lock().unwrap().grants < grants + 5 {
            assert!(begun.elapsed() < PATIENCE, "nothing is granted");
            assert!(workers.iter().all(|worker| !worker.is_finished()), "a worker has failed");
            thread::sleep(Duration::from_micros(u64::from(kill * 7919 % 3000)));
        }
        service.kill();
        service = service.again(&[]);
        let ledger = ledger.lock().unwrap();
        grants = ledger.grants;
        // Nobody gets or begins to release one while we look.
        let found = service.found("");
        for (resource, (id, token)) in &ledger.held {
            let same = |lock: &&Value| lock["id"] == id.as_str() && lock["fencingToken"] == *token;
            assert!(found.iter().any(|lock| same(&lock)), "{resource} {id} {token} is not in {found:?}");
        }
        let mut resources: Vec<&str> = found.iter().map(|lock| lock["resource"].as_str().unwrap()).collect();
        resources.sort_unstable();
        assert!(resources.windows(2).all(|two| two[0] != two[1]), "{resources:?}");
    }
    over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(service.found("").is_empty());
}

#[test]
fn tokens_grow_over_a_restart_and_from_one_store_to_the_next() {
    let service = Service::new();
    let token = |service: &Service| {
        let lock = service.ask("db", "ann", "").lock();
        service.unlock(lock["id"].as_str().unwrap()).ok();
        lock["fencingToken"].as_u64().unwrap()
    };
    let first = token(&service);
    service.signal("TERM");
    let service = service.again(&[]);
    let second = token(&service);
    assert!(second > first);
    // To another store: of its own accord, and by a base if the clock is not to be trusted.
    let other = Service::new();
    let third = token(&other);
    assert!(third > second);
    service.signal("TERM");
    let ahead = third + 1_000_000_000_000;
    let service = service.again(&["--token-base", &ahead.to_string()]);
    assert_eq!(token(&service), ahead + 1);
    // That is kept.
    service.signal("INT");
    let service = service.again(&[]);
    assert_eq!(token(&service), ahead + 2);
}
