//! Many at once, over both ways.

use crate::grpc::{self, wire};
use crate::harness::{Connection, LOCK, Service, wanted};
use std::sync::{Arc, Barrier};
use std::thread;

/// Over each of the two ways.
const RACERS: usize = 32;

/// How often. More for a long turn.
pub(crate) fn rounds() -> usize {
    std::env::var("ABA_LOCK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

#[test]
fn of_64_who_ask_at_once_over_rest_and_grpc_one_has_it() {
    one_has_it(&[&Service::new()], rounds());
}

/// All ask at once, for another lock in each round: half over REST, half over gRPC, of the services in turn.
pub(crate) fn one_has_it(services: &[&Service], rounds: usize) {
    let service = services[0];
    let starts = Arc::new(Barrier::new(2 * RACERS));
    let mut racers = Vec::new();
    for number in 0..RACERS {
        let one = services[number % services.len()];
        let (address, barrier) = (one.rest.clone(), Arc::clone(&starts));
        racers.push(thread::spawn(move || {
            let mut connection = Connection::to(&address);
            let mut won = Vec::new();
            for round in 0..rounds {
                let body = wanted(&format!("r{round}"), &format!("rest {number}"), "");
                barrier.wait();
                let answer = connection.call("POST", LOCK, &[], &body);
                if answer.status == 200 {
                    won.push((round, answer.id()));
                } else {
                    answer.is_refused(409, 6);
                }
            }
            won
        }));
        let (address, barrier) = (one.grpc.clone(), Arc::clone(&starts));
        racers.push(thread::spawn(move || {
            grpc::run(async move {
                let mut client = grpc::client(&address).await;
                let mut won = Vec::new();
                for round in 0..rounds {
                    let request = wire::CreateLockRequest {
                        service: "web".to_owned(),
                        who: format!("grpc {number}"),
                        environment: "prod".to_owned(),
                        resource: format!("r{round}"),
                        ..Default::default()
                    };
                    // Nothing else runs on this thread.
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
    let mut won: Vec<(usize, String)> = racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect();
    won.sort();
    let winners: Vec<usize> = won.iter().map(|(round, _)| *round).collect();
    assert_eq!(winners, (0..rounds).collect::<Vec<_>>(), "one winner in each round");
    let held = service.found("");
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
fn those_who_take_turns_are_never_two_at_a_time() {
    let service = Service::new();
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let turns = (rounds() / 2).max(5);
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let (address, inside) = (service.rest.clone(), Arc::clone(&inside));
            thread::spawn(move || {
                use std::sync::atomic::Ordering::SeqCst;
                let mut connection = Connection::to(&address);
                let mut last = 0;
                for _ in 0..turns {
                    let body = wanted("db", &format!("w{number}"), r#""wait":"60s""#);
                    let lock = connection.call("POST", LOCK, &[], &body).lock();
                    assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at a time");
                    let token = lock["fencingToken"].as_u64().unwrap();
                    assert!(token > last);
                    last = token;
                    assert_eq!(inside.fetch_sub(1, SeqCst), 1);
                    connection.call("DELETE", &format!("{LOCK}/{}", lock["id"].as_str().unwrap()), &[], "").ok();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(service.found("").is_empty());
}
