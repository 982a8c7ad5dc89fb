//! Who waits.

use crate::harness::{Connection, LOCK, Service, Start, UNLOCK, until, wanted};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

fn waits(service: &Service, who: &str, more: &str) -> Connection {
    let mut connection = service.connect();
    connection.send("POST", LOCK, &[], &wanted("db", who, more));
    connection
}

/// Those who come all the time, and do not wait: nobody who waits is to see one of them go first.
pub(crate) struct Newcomers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Newcomers {
    pub(crate) fn come(services: &[&Service]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let one = |service: &&Service| {
            let (address, over) = (service.rest.clone(), Arc::clone(&over));
            thread::spawn(move || {
                let (mut connection, mut times) = (Connection::to(&address), 0);
                while !over.load(Ordering::SeqCst) {
                    connection.call("POST", LOCK, &[], &wanted("db", "newcomer", "")).is_refused(409, 6);
                    times += 1;
                }
                times
            })
        };
        let threads = services.iter().flat_map(|service| [one(service), one(service)]).collect();
        Self { over, threads }
    }

    /// How often they were refused.
    pub(crate) fn leave(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

#[test]
fn who_waits_is_served_in_the_order_of_coming() {
    let service = Service::new();
    let mut id = service.take("db", "first");
    let mut line = Vec::new();
    for number in 1..=5 {
        line.push(waits(&service, &format!("w{number}"), r#""wait":"60s""#));
        service.until_waiting("db", number);
    }
    let queue = &service.found("resource=db")[0]["queue"];
    for (at, one) in queue.as_array().unwrap().iter().enumerate() {
        assert_eq!(
            (one["queuePosition"].as_u64(), one["who"].as_str()),
            (Some(at as u64 + 1), Some(&*format!("w{}", at + 1)))
        );
        one["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let newcomers = Newcomers::come(&[&service]);
    let mut token = 0;
    for (number, mut one) in (1..).zip(line) {
        service.unlock(&id).ok();
        let lock = one.answer("POST").lock();
        assert_eq!(lock["who"], format!("w{number}"));
        assert!(lock["fencingToken"].as_u64().unwrap() > token);
        token = lock["fencingToken"].as_u64().unwrap();
        id = lock["id"].as_str().unwrap().to_owned();
    }
    assert!(newcomers.leave() > 0, "there were some");
    service.unlock(&id).ok();
    assert!(service.found("").is_empty());
}

#[test]
fn who_goes_away_is_not_in_the_queue_any_more() {
    let service = Service::new();
    let id = service.take("db", "ann");
    let gone = waits(&service, "gone", r#""wait":"60s""#);
    service.until_waiting("db", 1);
    let mut stays = waits(&service, "stays", r#""wait":"60s""#);
    service.until_waiting("db", 2);
    drop(gone);
    service.until_waiting("db", 1);
    service.unlock(&id).ok();
    assert_eq!(stays.answer("POST").lock()["who"], "stays");
}

#[test]
fn who_goes_away_is_not_in_the_queue_any_more_whatever_they_sent_before() {
    let service = Service::new();
    let id = service.take("db", "ann");
    // The end of what they send is behind this.
    let next = format!("POST {LOCK} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", service.rest);
    for behind in ["\r\n", &next, &next.repeat(50)] {
        let mut gone = waits(&service, "gone", r#""wait":"1h""#);
        service.until_waiting("db", 1);
        gone.send_more(behind);
        assert_eq!(service.found("resource=db")[0]["queue"][0]["who"], "gone");
        drop(gone);
        service.until_waiting("db", 0);
    }
    // Of so much the service has no room for the end: it does not arrive.
    let mut gone = waits(&service, "gone", r#""wait":"1h""#);
    service.until_waiting("db", 1);
    gone.send_more(&next.repeat(200_000));
    drop(gone);
    service.until_waiting("db", 0);
    service.unlock(&id).ok();
    assert!(service.found("").is_empty());
}

#[test]
fn at_whatever_moment_somebody_goes_away_no_lock_is_left_that_was_not_on_its_way_to_them() {
    let service = Service::new();
    for round in 0..60 {
        let id = service.ask("db", "ann", r#""wait":"60s""#).id();
        let gone = waits(&service, "gone", r#""wait":"60s","eventId":"g""#);
        service.until_waiting("db", 1);
        let mut unlocks = service.connect();
        unlocks.send("GET", &format!("{UNLOCK}/{id}"), &[], "");
        if round % 2 == 0 {
            unlocks.answer("GET").ok();
            drop(gone);
        } else {
            drop(gone);
            unlocks.answer("GET").ok();
        }
        // Who goes while the answer is on its way has the lock: then the log tells that it was given.
        for lock in service.found("eventId=g") {
            let id = lock["id"].as_str().unwrap();
            until("it is given or taken back", || {
                let given = |line: &String| line.contains(r#""event":"create""#) && line.contains(id);
                service.log().iter().any(given) || service.get(&format!("{LOCK}/{id}")).status == 404
            });
            service.unlock(id);
        }
    }
    let id = service.ask("db", "ann", r#""wait":"60s""#).id();
    assert_eq!(service.found("").len(), 1);
    assert_eq!(service.unlock(&id).status, 200);
}

/// Those who asked twice, the same thing of these two services.
pub(crate) fn nobody_waits_for_what_is_theirs(one: &Service, two: &Service) {
    const TWICE: &str = r#""wait":"1h","eventId":"7""#;
    let id = one.ask("db", "ann", TWICE).id();
    // Once more, because the answer was lost.
    let held = two.ask("db", "ann", TWICE).is_refused(409, 6);
    assert_eq!((&held["existingLock"]["id"], &held["existingLock"]["eventId"]), (&id.as_str().into(), &"7".into()));
    // Others of that event, and those of no event, wait.
    let mut line = vec![waits(one, "bob", TWICE)];
    one.until_waiting("db", 1);
    line.push(waits(two, "bob", r#""wait":"1h""#));
    one.until_waiting("db", 2);
    line.push(waits(two, "bob", TWICE));
    one.until_waiting("db", 3);
    line.push(waits(one, "ann", TWICE.replace('7', "8").as_str()));
    one.until_waiting("db", 4);
    one.unlock(&id).ok();
    // Of two who asked the same, one has it: the other is told.
    let first = line[0].answer("POST").id();
    let told = line[2].answer("POST").is_refused(409, 6);
    assert_eq!(told["existingLock"]["id"], first.as_str());
    one.until_waiting("db", 2);
    one.unlock(&first).ok();
    let second = line[1].answer("POST").id();
    one.unlock(&second).ok();
    one.unlock(&line[3].answer("POST").id()).ok();
    assert!(two.found("").is_empty());
}

#[test]
fn who_asks_twice_for_one_event_does_not_wait_for_what_is_theirs() {
    let service = Service::new();
    nobody_waits_for_what_is_theirs(&service, &service);
}

#[test]
fn who_has_waited_long_enough_is_told_who_has_it() {
    let service = Service::new();
    let id = service.take("db", "ann");
    let refusal = service.ask("db", "bob", r#""wait":0.05"#).is_refused(409, 6);
    assert_eq!(refusal["existingLock"]["id"], id.as_str());
    service.until_waiting("db", 0);
}

#[test]
fn a_free_lock_is_granted_at_once_to_who_would_have_waited() {
    let service = Service::new();
    assert_eq!(service.ask("db", "ann", r#""wait":"1h""#).lock()["who"], "ann");
}

#[test]
fn a_lock_that_is_moved_away_goes_to_who_waits_for_it() {
    let service = Service::new();
    let id = service.take("db", "ann");
    let mut bob = waits(&service, "bob", r#""wait":"60s""#);
    service.until_waiting("db", 1);
    service.call("PUT", &format!("{LOCK}/{id}"), r#"{"resource":"elsewhere"}"#).ok();
    assert_eq!(bob.answer("POST").lock()["who"], "bob");
}

#[test]
fn who_waits_is_told_when_the_service_stops_and_what_is_held_stays_held() {
    let mut service = Service::new();
    let id = service.take("db", "ann");
    let mut line: Vec<Connection> = (0..3).map(|_| waits(&service, "bob", r#""wait":"60s""#)).collect();
    service.until_waiting("db", 3);
    service.signal("TERM");
    for one in &mut line {
        let answer = one.answer("POST");
        answer.is_refused(503, 14);
        assert!(answer.headers.contains("retry-after"), "{answer:?}");
    }
    assert_eq!(service.ended().code(), Some(0));
    let service = service.again(&[]);
    assert_eq!(service.found("")[0]["id"], id.as_str());
}

#[test]
fn a_second_signal_ends_the_service_before_all_is_answered_and_its_status_tells() {
    let mut service = Service::new();
    let mut half = service.connect();
    half.send_more(&format!(
        "POST {LOCK} HTTP/1.1\r\nHost: x.localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    ));
    // It waits for the rest of the request.
    assert_eq!(half.line(), "HTTP/1.1 100 Continue\r\n");
    service.signal("TERM");
    until("it stops", || service.log().iter().any(|line| line.contains(r#""event":"stopping""#)));
    service.signal("INT");
    assert_eq!(service.ended().code(), Some(1));
    let last = service.log().pop().unwrap();
    assert!(last.contains(r#""answered":"not all""#) && last.contains(r#""signal":"SIGINT""#), "{last}");
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_service_from_its_end() {
    use std::io::Read;
    let mut service = Start::new().args(&["--log-all"]).unread().go();
    let mut connection = service.connect();
    // Far more than a pipe takes.
    let path = format!("{LOCK}/{}", "x".repeat(1000));
    for _ in 0..200 {
        connection.call("GET", &path, &[], "").is_refused(404, 5);
    }
    drop(connection);
    service.signal("TERM");
    assert_eq!(service.ended().code(), Some(0));
    let mut rest = String::new();
    service.unread.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.len() >= 4096 && !rest.contains(r#""event":"stopped""#), "{} bytes were not read", rest.len());
}

#[test]
fn a_client_that_has_not_sent_a_whole_request_does_not_delay_the_end() {
    for (over_grpc, sent) in [(false, "GET /heal"), (true, "")] {
        let mut service = Service::new();
        let address = if over_grpc { &service.grpc } else { &service.rest };
        let begun = Instant::now();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(sent.as_bytes()).unwrap();
        // By now the service has accepted it.
        assert_eq!(service.get("/healthz").status, 200);
        service.signal("TERM");
        assert_eq!(service.ended().code(), Some(0));
        // While it runs, it would give such a client ten seconds.
        assert!(begun.elapsed() < Duration::from_secs(8), "{sent:?}: {:?}", begun.elapsed());
    }
}
