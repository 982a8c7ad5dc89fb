//! Durability: an answer of the service holds after it is killed and restarted.

use crate::harness::{LIST, LOCK, Service, request_body};
use crate::http::{Answer, Connection, TIMEOUT};
use serde_json::Value;
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Returns how often the service is killed, which a long run sets in the environment.
fn read_kills() -> u32 {
    std::env::var("ABA_LOCK_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// The locks that the service has acknowledged.
#[derive(Default)]
struct Ledger {
    /// For each resource, the id and the token of the lock, until its holder begins to release it.
    held: HashMap<String, (String, u64)>,
    /// For each resource, the last token.
    tokens: HashMap<String, u64>,
    grants: usize,
}

impl Ledger {
    fn record_grant(&mut self, resource: &str, lock: &Value) {
        let (id, token) = (lock["id"].as_str().unwrap().to_owned(), lock["fencingToken"].as_u64().unwrap());
        let last = self.tokens.insert(resource.to_owned(), token).unwrap_or(0);
        assert!(token > last, "{resource}: token {token} after {last}");
        let other = self.held.insert(resource.to_owned(), (id, token));
        assert!(other.is_none(), "{resource} was granted twice: {other:?} is held");
        self.grants += 1;
    }
}

/// Makes a call. `None`: the service was killed before it answered.
fn try_call(address: &str, method: &str, path: &str, body: &str) -> Option<Answer> {
    drop(TcpStream::connect(address).ok()?);
    let connection = std::panic::catch_unwind(|| Connection::new(address)).ok();
    connection?.try_call(method, path, body).ok()
}

/// Returns the lock with this event, as soon as a service answers.
fn find_by_event(address: &str, event: &str) -> Option<Value> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = try_call(address, "GET", &format!("{LIST}?eventId={event}"), "") {
            return answer.ok()["locks"].get(0).cloned();
        }
        assert!(begun.elapsed() < TIMEOUT, "the service does not start again");
        thread::sleep(Duration::from_millis(5));
    }
}

fn run_worker(address: &str, worker: usize, ledger: &Mutex<Ledger>, over: &AtomicBool) {
    let mut round = 0;
    while !over.load(Ordering::SeqCst) {
        round += 1;
        // Some locks are requested by all workers, some by one worker only.
        let resource = if round % 3 == 0 { format!("own{worker}") } else { format!("shared{}", round % 5) };
        let event = format!("w{worker}r{round}");
        let body = request_body(&resource, "w", &format!("\"eventId\":\"{event}\""));
        let lock = match try_call(address, "POST", LOCK, &body) {
            Some(answer) if answer.status == 200 => Some(answer.lock()),
            Some(answer) => {
                assert!(answer.status == 409, "{answer:?}");
                None
            }
            // The lock was not acknowledged, but may have been granted.
            None => find_by_event(address, &event),
        };
        let Some(lock) = lock else { continue };
        let id = lock["id"].as_str().unwrap().to_owned();
        ledger.lock().unwrap().record_grant(&resource, &lock);
        thread::sleep(Duration::from_millis(2));
        // From now on, the lock may be released.
        ledger.lock().unwrap().held.remove(&resource);
        while try_call(address, "DELETE", &format!("{LOCK}/{id}"), "").is_none() {
            // If the lock was released already, a second release has no effect.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn after_each_kill_all_acknowledged_locks_are_held_once_and_tokens_grow() {
    let mut service = Service::new();
    let (ledger, over) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (address, ledger, over) = (service.rest.clone(), Arc::clone(&ledger), Arc::clone(&over));
            thread::spawn(move || run_worker(&address, worker, &ledger, &over))
        })
        .collect();
    let mut grants = 0;
    for kill in 0..read_kills() {
        // Kills at any moment after some further locks were granted.
        let begun = Instant::now();
        while ledger.lock().unwrap().grants < grants + 5 {
            assert!(begun.elapsed() < TIMEOUT, "no lock is granted");
            assert!(workers.iter().all(|worker| !worker.is_finished()), "a worker has failed");
            thread::sleep(Duration::from_micros(u64::from(kill * 7919 % 3000)));
        }
        service.kill();
        service = service.restart(&[]);
        let ledger = ledger.lock().unwrap();
        grants = ledger.grants;
        // No worker acquires a lock or begins to release one while the ledger is locked.
        let found = service.list("");
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
    assert!(service.list("").is_empty());
}

#[test]
fn tokens_grow_over_restarts_and_when_the_store_changes() {
    let service = Service::new();
    let first = service.take_token();
    service.signal("TERM");
    let service = service.restart(&[]);
    let second = service.take_token();
    assert!(second > first);
    // Another store gives greater tokens because of the clock, or because of a base if the clock is wrong.
    let other = Service::new();
    let third = other.take_token();
    assert!(third > second);
    service.signal("TERM");
    let ahead = third + 1_000_000_000_000;
    let service = service.restart(&["--token-base", &ahead.to_string()]);
    assert_eq!(service.take_token(), ahead + 1);
    // The store keeps the base.
    service.signal("INT");
    let service = service.restart(&[]);
    assert_eq!(service.take_token(), ahead + 2);
}
