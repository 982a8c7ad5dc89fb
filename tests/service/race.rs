//! Many concurrent callers, over both APIs.

use crate::grpc::{self, wire};
use crate::harness::{LOCK, Service, request_body};
use crate::http::Connection;
use std::sync::{Arc, Barrier};
use std::thread;

/// The number of callers over each API.
const CALLERS: usize = 32;

/// Returns the number of rounds, which a long run sets in the environment.
pub(crate) fn read_rounds() -> usize {
    std::env::var("ABA_LOCK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

#[test]
fn one_of_64_concurrent_callers_gets_the_lock() {
    expect_one_winner(&[&Service::new()], read_rounds());
}

/// In each round, all callers request the same lock at once, half of them over each API, from the services in turn.
/// Checks that one caller gets it.
pub(crate) fn expect_one_winner(services: &[&Service], rounds: usize) {
    let service = services[0];
    let start = Arc::new(Barrier::new(2 * CALLERS));
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let one = services[number % services.len()];
        let (address, barrier) = (one.rest.clone(), Arc::clone(&start));
        callers.push(thread::spawn(move || {
            let mut connection = Connection::new(&address);
            let mut won = Vec::new();
            for round in 0..rounds {
                let body = request_body(&format!("r{round}"), &format!("rest {number}"), "");
                barrier.wait();
                let answer = connection.call("POST", LOCK, &[], &body);
                if answer.status == 200 {
                    won.push((round, answer.id()));
                } else {
                    answer.expect_refusal(409, 6);
                }
            }
            won
        }));
        let (address, barrier) = (one.grpc.clone(), Arc::clone(&start));
        callers.push(thread::spawn(move || {
            grpc::run(async move {
                let mut client = grpc::connect(&address).await;
                let mut won = Vec::new();
                for round in 0..rounds {
                    let request = wire::CreateLockRequest {
                        service: "web".to_owned(),
                        who: format!("grpc {number}"),
                        environment: "prod".to_owned(),
                        resource: format!("r{round}"),
                        ..Default::default()
                    };
                    // May block, because this thread runs no other task.
                    barrier.wait();
                    match client.create_lock(request).await {
                        Ok(answer) => won.push((round, answer.into_inner().lock.unwrap().id)),
                        Err(status) => assert_eq!(status.code(), tonic::Code::AlreadyExists, "{status:?}"),
                    }
                }
                won
            })
        }));
    }
    let mut won: Vec<(usize, String)> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    won.sort();
    let winners: Vec<usize> = won.iter().map(|(round, _)| *round).collect();
    assert_eq!(winners, (0..rounds).collect::<Vec<_>>(), "one winner in each round");
    let held = service.list("");
    assert_eq!(held.len(), rounds);
    for (round, id) in won {
        let lock = held.iter().find(|lock| lock["resource"] == format!("r{round}")).unwrap();
        assert_eq!(lock["id"], id.as_str());
    }
    let mut tokens: Vec<u64> = held.iter().map(|lock| lock["fencingToken"].as_u64().unwrap()).collect();
    assert!(tokens.is_sorted());
    tokens.dedup();
    assert_eq!(tokens.len(), rounds);
}

#[test]
fn two_callers_never_hold_a_lock_at_the_same_time() {
    let service = Service::new();
    let holders = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let rounds = (read_rounds() / 2).max(5);
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let (address, holders) = (service.rest.clone(), Arc::clone(&holders));
            thread::spawn(move || {
                use std::sync::atomic::Ordering::SeqCst;
                let mut connection = Connection::new(&address);
                let mut last = 0;
                for _ in 0..rounds {
                    let body = request_body("db", &format!("w{number}"), r#""wait":"60s""#);
                    let lock = connection.call("POST", LOCK, &[], &body).lock();
                    assert_eq!(holders.fetch_add(1, SeqCst), 0, "two callers hold the lock");
                    let token = lock["fencingToken"].as_u64().unwrap();
                    assert!(token > last);
                    last = token;
                    assert_eq!(holders.fetch_sub(1, SeqCst), 1);
                    connection.call("DELETE", &format!("{LOCK}/{}", lock["id"].as_str().unwrap()), &[], "").ok();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(service.list("").is_empty());
}
