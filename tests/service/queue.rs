//! Waiters: their order, how they leave the queue, and the end of the service.

use crate::harness::{LOCK, Service, Start, UNLOCK, request_body, wait_until};
use crate::http::Connection;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Callers that request the lock of `db` again and again without waiting. No waiter may be overtaken by one of them.
pub(crate) struct Newcomers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Newcomers {
    pub(crate) fn start(services: &[&Service]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let spawn = |service: &&Service| {
            let (address, is_over) = (service.rest.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                let (mut connection, mut refusals) = (Connection::new(&address), 0);
                while !is_over.load(Ordering::SeqCst) {
                    connection.call("POST", LOCK, &[], &request_body("db", "newcomer", "")).expect_refusal(409, 6);
                    refusals += 1;
                }
                refusals
            })
        };
        let threads = services.iter().flat_map(|service| [spawn(service), spawn(service)]).collect();
        Self { is_over, threads }
    }

    /// Stops them. At least one of them must have been refused.
    pub(crate) fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        let refusals: usize = self.threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(refusals > 0, "no newcomer was refused");
    }
}

/// Releases the lock `id`, and checks that these waiters, each with its name, get it one after the other, with growing
/// tokens. Returns the id of the last lock, which is still held.
pub(crate) fn expect_order(service: &Service, mut id: String, waiters: Vec<(String, Connection)>) -> String {
    let mut token = 0;
    for (who, mut waiter) in waiters {
        service.unlock(&id).ok();
        let lock = waiter.answer("POST").lock();
        assert_eq!(lock["who"], who);
        assert!(lock["fencingToken"].as_u64().unwrap() > token);
        token = lock["fencingToken"].as_u64().unwrap();
        lock["id"].as_str().unwrap().clone_into(&mut id);
    }
    id
}

#[test]
fn waiters_are_served_in_the_order_of_their_requests() {
    let service = Service::new();
    let id = service.acquire("db", "first");
    let mut waiters = Vec::new();
    for number in 1..=5 {
        let who = format!("w{number}");
        waiters.push((who.clone(), service.start_waiting(&who, r#""wait":"60s""#)));
        service.wait_for_waiters("db", number);
    }
    let queue = &service.list("resource=db")[0]["queue"];
    for (number, waiter) in (1..).zip(queue.as_array().unwrap()) {
        assert_eq!((&waiter["queuePosition"], &waiter["who"]), (&number.into(), &format!("w{number}").into()));
        waiter["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let newcomers = Newcomers::start(&[&service]);
    let id = expect_order(&service, id, waiters);
    newcomers.stop();
    service.unlock(&id).ok();
    assert!(service.list("").is_empty());
}

#[test]
fn a_client_that_disconnects_leaves_the_queue() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    let gone = service.start_waiting("gone", r#""wait":"60s""#);
    service.wait_for_waiters("db", 1);
    let mut stays = service.start_waiting("stays", r#""wait":"60s""#);
    service.wait_for_waiters("db", 2);
    drop(gone);
    service.wait_for_waiters("db", 1);
    service.unlock(&id).ok();
    assert_eq!(stays.answer("POST").lock()["who"], "stays");
}

#[test]
fn a_client_that_disconnects_leaves_the_queue_whatever_it_sent_before() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    // The service sees the end of the stream after these bytes.
    let next = format!("POST {LOCK} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", service.rest);
    for bytes in ["\r\n", &next, &next.repeat(50)] {
        let mut gone = service.start_waiting("gone", r#""wait":"1h""#);
        service.wait_for_waiters("db", 1);
        gone.send_bytes(bytes);
        assert_eq!(service.list("resource=db")[0]["queue"][0]["who"], "gone");
        drop(gone);
        service.wait_for_waiters("db", 0);
    }
    // With so many bytes, the buffer of the socket is full, and the end of the stream does not arrive.
    let mut gone = service.start_waiting("gone", r#""wait":"1h""#);
    service.wait_for_waiters("db", 1);
    gone.send_bytes(&next.repeat(200_000));
    drop(gone);
    service.wait_for_waiters("db", 0);
    service.unlock(&id).ok();
    assert!(service.list("").is_empty());
}

#[test]
fn a_lock_that_its_caller_does_not_receive_is_taken_back() {
    let service = Service::new();
    for round in 0..60 {
        let id = service.request("db", "ann", r#""wait":"60s""#).id();
        let gone = service.start_waiting("gone", r#""wait":"60s","eventId":"g""#);
        service.wait_for_waiters("db", 1);
        let mut unlocks = service.connect();
        unlocks.send("GET", &format!("{UNLOCK}/{id}"), &[], "");
        if round % 2 == 0 {
            unlocks.answer("GET").ok();
            drop(gone);
        } else {
            drop(gone);
            unlocks.answer("GET").ok();
        }
        // If the client disconnects after the answer was sent, the lock stays granted, and the log says so.
        for lock in service.list("eventId=g") {
            let id = lock["id"].as_str().unwrap();
            wait_until("the lock is granted or taken back", || {
                let is_grant = |line: &String| line.contains(r#""event":"create""#) && line.contains(id);
                service.log().iter().any(is_grant) || service.get(&format!("{LOCK}/{id}")).status == 404
            });
            service.unlock(id);
        }
    }
    let id = service.request("db", "ann", r#""wait":"60s""#).id();
    assert_eq!(service.list("").len(), 1);
    assert_eq!(service.unlock(&id).status, 200);
}

/// Checks callers that repeat their request for an event. The two services share a store.
pub(crate) fn check_repeated_requests(one: &Service, two: &Service) {
    const EVENT_7: &str = r#""wait":"1h","eventId":"7""#;
    let id = one.request("db", "ann", EVENT_7).id();
    // The same request again, as if its answer was lost.
    let held = two.request("db", "ann", EVENT_7).expect_refusal(409, 6);
    assert_eq!((&held["existingLock"]["id"], &held["existingLock"]["eventId"]), (&id.as_str().into(), &"7".into()));
    // Requests of other callers for the same event, and requests without an event, wait.
    let mut waiters = vec![one.start_waiting("bob", EVENT_7)];
    one.wait_for_waiters("db", 1);
    waiters.push(two.start_waiting("bob", r#""wait":"1h""#));
    one.wait_for_waiters("db", 2);
    waiters.push(two.start_waiting("bob", EVENT_7));
    one.wait_for_waiters("db", 3);
    waiters.push(one.start_waiting("ann", EVENT_7.replace('7', "8").as_str()));
    one.wait_for_waiters("db", 4);
    one.unlock(&id).ok();
    // One of two repeated requests gets the lock. The other one gets an error that names it.
    let first = waiters[0].answer("POST").id();
    let refusal = waiters[2].answer("POST").expect_refusal(409, 6);
    assert_eq!(refusal["existingLock"]["id"], first.as_str());
    one.wait_for_waiters("db", 2);
    one.unlock(&first).ok();
    let second = waiters[1].answer("POST").id();
    one.unlock(&second).ok();
    one.unlock(&waiters[3].answer("POST").id()).ok();
    assert!(two.list("").is_empty());
}

#[test]
fn a_repeated_request_does_not_wait_for_its_own_lock() {
    let service = Service::new();
    check_repeated_requests(&service, &service);
}

#[test]
fn a_timeout_names_the_holder() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    let refusal = service.request("db", "bob", r#""wait":0.05"#).expect_refusal(409, 6);
    assert_eq!(refusal["existingLock"]["id"], id.as_str());
    service.wait_for_waiters("db", 0);
}

#[test]
fn a_caller_that_may_wait_gets_a_free_lock_at_once() {
    let service = Service::new();
    assert_eq!(service.request("db", "ann", r#""wait":"1h""#).lock()["who"], "ann");
}

#[test]
fn moving_a_lock_to_another_key_grants_the_old_key_to_the_first_waiter() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    let mut bob = service.start_waiting("bob", r#""wait":"60s""#);
    service.wait_for_waiters("db", 1);
    service.call("PUT", &format!("{LOCK}/{id}"), r#"{"resource":"elsewhere"}"#).ok();
    assert_eq!(bob.answer("POST").lock()["who"], "bob");
}

#[test]
fn when_the_service_stops_waiters_are_refused_and_locks_stay_held() {
    let mut service = Service::new();
    let id = service.acquire("db", "ann");
    let mut waiters: Vec<Connection> = (0..3).map(|_| service.start_waiting("bob", r#""wait":"60s""#)).collect();
    service.wait_for_waiters("db", 3);
    service.signal("TERM");
    for waiter in &mut waiters {
        let answer = waiter.answer("POST");
        answer.expect_refusal(503, 14);
        assert!(answer.headers.contains("retry-after"), "{answer:?}");
    }
    assert_eq!(service.wait_for_exit().code(), Some(0));
    let service = service.restart(&[]);
    assert_eq!(service.list("")[0]["id"], id.as_str());
}

#[test]
fn a_second_signal_ends_the_service_before_all_calls_are_answered() {
    let mut service = Service::new();
    let mut half = service.connect();
    half.send_bytes(&format!(
        "POST {LOCK} HTTP/1.1\r\nHost: x.localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    ));
    // The service waits for the rest of the request.
    assert_eq!(half.read_line(), "HTTP/1.1 100 Continue\r\n");
    service.signal("TERM");
    service.wait_for_log(&[r#""event":"stopping""#]);
    service.signal("INT");
    assert_eq!(service.wait_for_exit().code(), Some(1));
    let last = service.log().pop().unwrap();
    assert!(last.contains(r#""answered":"not all""#) && last.contains(r#""signal":"SIGINT""#), "{last}");
}

#[test]
fn an_unread_log_does_not_delay_the_end_of_the_service() {
    let mut service = Start::new().args(&["--log-all"]).without_log_reader().start();
    let mut connection = service.connect();
    // Far more than the buffer of a pipe.
    let path = format!("{LOCK}/{}", "x".repeat(1000));
    for _ in 0..200 {
        connection.call("GET", &path, &[], "").expect_refusal(404, 5);
    }
    drop(connection);
    service.terminate();
    let mut rest = String::new();
    service.unread_log.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.len() >= 4096 && !rest.contains(r#""event":"stopped""#), "{} bytes were not read", rest.len());
}

#[test]
fn an_incomplete_request_does_not_delay_the_end_of_the_service() {
    let end_service = |(over_grpc, sent): (bool, &str)| {
        let mut service = Service::new();
        let address = if over_grpc { &service.grpc } else { &service.rest };
        let begun = Instant::now();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(sent.as_bytes()).unwrap();
        // The service has accepted the connection when it answers this later one.
        assert_eq!(service.get("/healthz").status, 200);
        service.terminate();
        begun.elapsed()
    };
    for case in [(false, "GET /heal"), (true, "")] {
        // A running service would give such a client ten seconds. On a busy machine, a round may be slow for another reason.
        let is_quick = (0..5).any(|_| end_service(case) < Duration::from_secs(8));
        assert!(is_quick, "{case:?}");
    }
}
